"""Equaliser filters against analytic gains and scipy's own designs and responses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.filters import Filter, equalise, sections

RATE_HZ = 48000


def gain_db(filters: tuple[Filter, ...], frequency_hz: float, rate_hz: int = RATE_HZ) -> float:
    _, response = scipy.signal.freqz_sos(sections(filters, rate_hz), worN=[frequency_hz], fs=rate_hz)
    return float(20 * np.log10(np.abs(response[0]) + 1e-12))


@pytest.mark.parametrize("gain", [-12.0, 6.0])
def test_a_peak_has_its_gain_at_the_centre_and_none_at_the_ends(gain: float) -> None:
    peak = (Filter("peak", 1000, 2.0, gain),)
    assert gain_db(peak, 1000) == pytest.approx(gain, abs=1e-6)
    assert gain_db(peak, 0) == pytest.approx(0, abs=1e-6)
    assert gain_db(peak, RATE_HZ / 2) == pytest.approx(0, abs=1e-6)


def test_q_is_the_bandwidth_of_a_peak() -> None:
    """Of +40 dB, the half-gain (+20 dB) points lie f₀/Q apart, before the warping of the bilinear transform."""
    peak = (Filter("peak", 300, 4.0, 40.0),)
    frequencies = np.linspace(200, 450, 20001)
    _, response = scipy.signal.freqz_sos(sections(peak, RATE_HZ), worN=frequencies, fs=RATE_HZ)
    inside = frequencies[20 * np.log10(np.abs(response)) >= 20]
    assert inside[-1] - inside[0] == pytest.approx(300 / 4.0, rel=0.01)


@pytest.mark.parametrize("gain", [-9.0, 9.0])
@pytest.mark.parametrize(("kind", "full", "none"), [("low_shelf", 0, RATE_HZ / 2), ("high_shelf", RATE_HZ / 2, 0)])
def test_a_shelf_has_its_gain_on_one_side_half_at_the_corner_and_none_beyond(kind, full, none, gain: float) -> None:
    shelf = (Filter(kind, 2000, 0.7071, gain),)
    assert gain_db(shelf, full) == pytest.approx(gain, abs=1e-6)
    assert gain_db(shelf, 2000) == pytest.approx(gain / 2, abs=1e-6)
    assert gain_db(shelf, none) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kind", "btype"), [("low_pass", "lowpass"), ("high_pass", "highpass")])
def test_a_pass_filter_of_butterworth_q_is_scipys_butterworth(kind, btype: str) -> None:
    ours = sections((Filter(kind, 3000, np.sqrt(0.5)),), RATE_HZ)
    np.testing.assert_allclose(ours, scipy.signal.butter(2, 3000, btype, fs=RATE_HZ, output="sos"), atol=1e-12)


def test_q_of_a_pass_filter_is_its_gain_at_the_cut_off() -> None:
    assert gain_db((Filter("low_pass", 500, 4.0),), 500) == pytest.approx(20 * np.log10(4.0), abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["peak", "low_shelf", "high_shelf", "low_pass", "high_pass"]),
    frequency_hz=st.floats(16, 18000),
    q=st.floats(0.1, 20),
    gain=st.floats(-24, 24),
    rate_hz=st.sampled_from([8000, 16000, 22050, 44100, 48000, 96000, 192000]),
)
def test_every_filter_is_stable_at_every_rate(kind, frequency_hz, q, gain, rate_hz) -> None:
    band = Filter(kind, frequency_hz, q, gain if kind in ("peak", "low_shelf", "high_shelf") else 0.0)
    if frequency_hz >= rate_hz / 2 and kind in ("low_shelf", "high_pass"):
        with pytest.raises(ValueError, match="sample rate"):
            band.section(rate_hz)
        return
    poles = np.roots(np.array(band.section(rate_hz)[3:]))
    assert (np.abs(poles) < 1).all()


def test_above_the_nyquist_frequency_a_low_pass_passes_everything() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 100))
    np.testing.assert_array_equal(equalise((Filter("low_pass", 18000, 1.0),), noise, 16000), noise)


def test_filters_in_series_add_their_decibels() -> None:
    bands = (Filter("peak", 800, 1.0, 5.0), Filter("high_shelf", 3000, 0.7, -8.0), Filter("high_pass", 120, 1.2))
    for frequency_hz in (60, 800, 2500, 9000):
        assert gain_db(bands, frequency_hz) == pytest.approx(sum(gain_db((band,), frequency_hz) for band in bands))


@pytest.mark.parametrize("arguments", [("peak", 0.0, 1.0), ("peak", 100.0, 0.0), ("low_pass", 100.0, 1.0, 3.0)])
def test_impossible_filters_are_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match=r"filter"):
        Filter(*arguments)
