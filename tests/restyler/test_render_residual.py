"""The residual rendering: what it gives back, and where it leaves the mix alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from audio.filters import Filter, equalise
from audio.waveform import Waveform
from restyler.render_residual import HOP, WINDOW, with_residual

RATE_HZ = 48_000
EQUALISER = (Filter("high_pass", 120, 0.7), Filter("peak", 1500, 1.2, -5), Filter("high_shelf", 6000, 0.7, 6))
Sung = Callable[[int, float], Waveform]


def decibels(error: np.ndarray, signal: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(error.astype(float) ** 2) / np.sum(signal.astype(float) ** 2)))


@pytest.fixture(scope="module")
def raw(sung: Sung) -> np.ndarray:
    return sung(3, 2.0).stereo().samples.numpy()[:, : 2 * RATE_HZ - 777]


@pytest.fixture(scope="module")
def decoded(raw: np.ndarray) -> np.ndarray:
    """A codec that loses all above 9 kHz and adds noise of its own."""
    spectrum = np.fft.rfft(raw)
    spectrum[:, np.fft.rfftfreq(raw.shape[1], 1 / RATE_HZ) > 9000] *= 0.1
    noise = np.random.default_rng(0).standard_normal(raw.shape) * 0.003
    return (np.fft.irfft(spectrum, n=raw.shape[1]) + noise).astype(np.float32)


def test_a_mix_that_is_the_decoded_take_becomes_the_take(raw: np.ndarray, decoded: np.ndarray) -> None:
    assert decibels(decoded - raw, raw) > -40
    assert decibels(with_residual(decoded, raw, decoded) - raw, raw) < -100


def test_a_louder_and_panned_mix_becomes_the_take_as_loud_and_panned(raw: np.ndarray, decoded: np.ndarray) -> None:
    gains = np.array([[1.6], [-0.3]], np.float32)
    assert decibels(with_residual(gains * decoded, raw, decoded) - gains * raw, gains * raw) < -100


def test_an_equalised_mix_becomes_the_equalised_take(raw: np.ndarray, decoded: np.ndarray) -> None:
    mix = equalise(EQUALISER, decoded, RATE_HZ).astype(np.float32)
    wanted = equalise(EQUALISER, raw, RATE_HZ)
    before, after = decibels(mix - wanted, wanted), decibels(with_residual(mix, raw, decoded) - wanted, wanted)
    assert after < before - 15, (before, after)


def test_nothing_is_added_where_the_take_is_silent(raw: np.ndarray, decoded: np.ndarray) -> None:
    half = raw.shape[1] // 2
    heard, left = raw.copy(), decoded.copy()
    heard[:, half:] = left[:, half:] = 0
    tail = np.random.default_rng(1).standard_normal(raw.shape).astype(np.float32) * 0.05
    mix = left + tail
    out = with_residual(mix, heard, left)
    assert np.array_equal(out[:, half + WINDOW :], mix[:, half + WINDOW :])


def test_blocks_do_not_show(raw: np.ndarray, decoded: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = equalise(EQUALISER, decoded, RATE_HZ).astype(np.float32)
    at_once = with_residual(mix, raw, decoded)
    monkeypatch.setattr("restyler.render_residual.FRAMES_AT_ONCE", 57)
    assert np.abs(with_residual(mix, raw, decoded) - at_once).max() < 1e-6


@pytest.mark.parametrize("samples", [1, HOP, WINDOW + 1])
def test_the_length_is_kept(samples: int) -> None:
    ones = np.ones((2, samples), np.float32)
    assert with_residual(ones, ones, ones / 2).shape == (2, samples)


def test_signals_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        with_residual(np.ones((2, 9), np.float32), np.ones((2, 9), np.float32), np.ones((2, 8), np.float32))
