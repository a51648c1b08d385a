"""The noise reverb, measured from outside: decay by Schroeder's integration, level, width, onset."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from audio.filters import Filter
from audio.reverb import Reverb, impulse_responses, reverberate

RATE_HZ = 48000
BANDS_HZ = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)


def reverb(**changes) -> Reverb:
    settings = {
        "band_hz": BANDS_HZ,
        "t60_s": (2.0, 1.8, 1.5, 1.2, 1.0, 0.8),
        "mid_level_db": -15.0,
        "side_level_db": -20.0,
        "correlation": 0.0,
        "pre_delay_ms": 20.0,
        "equaliser": (),
    }
    return Reverb(**(settings | changes))


def responses(settings: Reverb, seconds: float = 2.5, seed: int = 0) -> np.ndarray:
    return impulse_responses(settings, round(seconds * RATE_HZ), RATE_HZ, np.random.default_rng(seed))


def t60_s(response: np.ndarray, centre_hz: float) -> float:
    """T30 of one octave: Schroeder's backward integral, a line from −5 to −35 dB (ISO 3382-1)."""
    band = butter(4, [centre_hz / 2**0.5, centre_hz * 2**0.5], "bandpass", fs=RATE_HZ, output="sos")
    energy = sosfiltfilt(band, response) ** 2
    level_db = 10 * np.log10(np.cumsum(energy[::-1])[::-1] / energy.sum() + 1e-12)
    inside = np.flatnonzero((level_db < -5) & (level_db > -35))
    slope_db_per_s = np.polyfit(inside / RATE_HZ, level_db[inside], 1)[0]
    return float(-60 / slope_db_per_s)


@pytest.mark.parametrize("channel", [0, 1])
def test_each_octave_decays_in_its_time(channel: int) -> None:
    settings = reverb()
    response = responses(settings)[channel, 0]
    for centre_hz, wanted_s in zip(BANDS_HZ, settings.t60_s, strict=True):
        assert t60_s(response, centre_hz) == pytest.approx(wanted_s, rel=0.1), centre_hz


def test_equal_times_give_white_noise_under_one_exponential() -> None:
    settings = reverb(t60_s=(1.0,) * 6, pre_delay_ms=0.0)
    flat = responses(settings)[0, 0, :RATE_HZ] * 10 ** (3 * np.arange(RATE_HZ) / RATE_HZ)
    power = np.abs(np.fft.rfft(flat)) ** 2
    octaves_db = [10 * np.log10(power[low : 2 * low].mean()) for low in (250, 1000, 4000, 11000)]
    assert max(octaves_db) - min(octaves_db) < 1.0


def test_levels_are_energies_for_white_noise_on_both_channels_alike_or_opposed() -> None:
    noise = np.random.default_rng(1).standard_normal(3 * RATE_HZ)
    settings = reverb(mid_level_db=-12.0, side_level_db=-24.0, t60_s=(0.3,) * 6)
    for sign, wanted_db in ((1, -12.0), (-1, -24.0)):
        wet = reverberate(settings, np.stack([noise, sign * noise]), RATE_HZ, np.random.default_rng(0))
        level_db = 10 * np.log10((wet[:, RATE_HZ:] ** 2).mean(axis=1) / (noise**2).mean())
        np.testing.assert_allclose(level_db, wanted_db, atol=0.5)


@pytest.mark.parametrize("wanted", [-0.6, 0.0, 0.9])
def test_left_and_right_are_correlated_as_told(wanted: float) -> None:
    left, right = responses(reverb(correlation=wanted))[:, 0]
    assert np.corrcoef(left, right)[0, 1] == pytest.approx(wanted, abs=0.05)


def test_nothing_sounds_before_the_pre_delay_and_something_right_after() -> None:
    response = responses(reverb(pre_delay_ms=25.0))
    assert not response[..., :1200].any()
    assert (np.abs(response[..., 1200:1300]).max(axis=-1) > 0).all()


def test_the_equaliser_colours_the_reverb() -> None:
    dull = responses(reverb(equaliser=(Filter("low_pass", 1000, 0.7),)))[0, 0]
    power, plain = (np.abs(np.fft.rfft(each)) ** 2 for each in (dull, responses(reverb())[0, 0]))
    octave = slice(round(8000 * 2.5), round(12000 * 2.5))
    assert 10 * np.log10(power[octave].sum() / plain[octave].sum()) < -30


def test_the_seed_decides_the_noise() -> None:
    np.testing.assert_array_equal(responses(reverb(), seed=3), responses(reverb(), seed=3))
    other = np.corrcoef(responses(reverb(), seed=3)[0, 0], responses(reverb(), seed=4)[0, 0])[0, 1]
    assert abs(other) < 0.05


def test_a_short_take_hears_the_beginning_of_the_same_reverb() -> None:
    np.testing.assert_array_equal(responses(reverb(), 0.5), responses(reverb(), 2.0)[..., : RATE_HZ // 2])


@pytest.mark.parametrize(
    "changes", [{"t60_s": (1.0,)}, {"t60_s": (1.0,) * 5 + (0.0,)}, {"band_hz": BANDS_HZ[::-1]}, {"correlation": 1.2}]
)
def test_impossible_reverbs_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"reverb|correlation"):
        reverb(**changes)
