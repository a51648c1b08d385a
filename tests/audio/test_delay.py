"""The ping-pong delay against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import sosfilt

from audio.delay import PingPongDelay, echoes, pan_gains
from audio.filters import Filter, sections

RATE_HZ = 16000
OPEN = Filter("low_pass", RATE_HZ, 0.7)  # above the Nyquist frequency: passes everything


def impulse(samples: int) -> np.ndarray:
    return np.eye(1, samples)[0]


def test_echoes_of_an_impulse_are_a_geometric_series_on_alternating_sides() -> None:
    delay = PingPongDelay(10.0, 0.5, 0.8, OPEN, odd_pan_percent=-100, even_pan_percent=100)
    wet = echoes(delay, impulse(1000), RATE_HZ)
    expected = np.zeros((2, 1000))
    for number in range(1, 7):  # 160 samples apart
        expected[(number - 1) % 2, 160 * number] = np.sqrt(2) * 0.8 * 0.5 ** (number - 1)
    np.testing.assert_allclose(wet, expected, atol=1e-12)


def test_echo_n_has_passed_the_low_pass_n_times() -> None:
    low_pass = Filter("low_pass", 1500, 0.9)
    wet = echoes(PingPongDelay(50.0, 0.7, 1.0, low_pass, 0, 0), impulse(4000), RATE_HZ)
    expected = np.zeros(4000)
    filtered = impulse(4000)
    for number in range(1, 5):
        filtered = sosfilt(sections((low_pass,), RATE_HZ), filtered)
        expected[800 * number :] += 0.7 ** (number - 1) * filtered[: 4000 - 800 * number]
    np.testing.assert_allclose(wet[0], expected, atol=1e-12)
    np.testing.assert_allclose(wet[1], expected, atol=1e-12)


def test_delaying_is_linear_and_time_invariant() -> None:
    """The blocks in which it is computed must not show, wherever they fall."""
    delay = PingPongDelay(13.7, 0.6, 0.5, Filter("low_pass", 3000, 1.1), -30, 60)
    noise = np.random.default_rng(0).standard_normal(3000)
    shifted = echoes(delay, np.concatenate([np.zeros(77), noise]), RATE_HZ)
    np.testing.assert_allclose(shifted[:, 77:], echoes(delay, noise, RATE_HZ), atol=1e-10)
    response = echoes(delay, impulse(3000), RATE_HZ)
    convolved = np.array([np.convolve(side, noise)[:3000] for side in response])
    np.testing.assert_allclose(echoes(delay, noise, RATE_HZ), convolved, atol=1e-9)


def test_a_take_shorter_than_the_delay_has_no_echo() -> None:
    delay = PingPongDelay(500.0, 0.6, 0.5, OPEN, -30, 60)
    np.testing.assert_array_equal(echoes(delay, np.ones(100), RATE_HZ), np.zeros((2, 100)))


@pytest.mark.parametrize("pan_percent", [-100.0, -40.0, 0.0, 75.0])
def test_panning_keeps_the_power_and_mirrors(pan_percent: float) -> None:
    left, right = pan_gains(pan_percent)
    assert left**2 + right**2 == pytest.approx(2)
    np.testing.assert_allclose(pan_gains(-pan_percent), [right, left], atol=1e-12)
    assert np.sign(round(right - left, 9)) == np.sign(pan_percent)


@pytest.mark.parametrize(("time_ms", "feedback"), [(0.0, 0.5), (100.0, 1.0), (100.0, -0.1)])
def test_an_impossible_delay_is_refused(time_ms: float, feedback: float) -> None:
    with pytest.raises(ValueError, match="feedback"):
        PingPongDelay(time_ms, feedback, 0.5, OPEN, 0, 0)


def test_a_pan_beyond_the_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="100 %"):
        pan_gains(101)
