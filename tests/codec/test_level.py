"""Level in dB: known values, its inverse, silence, and a waveform that is brought to a level."""

from __future__ import annotations

import math

import pytest
import torch

from codec.level import FLOOR_DB, db_to_power, match_level, power_to_db, smoothed_power

HOP = 320


def _sine(frequency_hz: float, amplitude: float, frames: int = 60) -> torch.Tensor:
    time_s = torch.arange(frames * HOP, dtype=torch.float64) / 48_000
    return (amplitude * torch.sin(2 * math.pi * frequency_hz * time_s)).float().expand(1, 2, -1)


@pytest.mark.parametrize("amplitude", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("frequency_hz", [75.0, 440.0, 9_000.0])
def test_a_sine_has_a_flat_track_3_db_under_its_amplitude(frequency_hz: float, amplitude: float) -> None:
    expected_power = amplitude**2 / 2 + 10 ** (FLOOR_DB / 10)
    track = power_to_db(smoothed_power(_sine(frequency_hz, amplitude), HOP))
    torch.testing.assert_close(track, torch.full((1, 1, 60), 10 * math.log10(expected_power)), rtol=0, atol=0.1)


def test_level_does_not_depend_on_the_phase_between_the_channels() -> None:
    sine = _sine(440.0, 0.5)
    opposite = torch.cat([sine[:, :1], -sine[:, :1]], dim=1)
    assert torch.equal(smoothed_power(sine, HOP), smoothed_power(opposite, HOP))


def test_the_track_and_its_inverse_agree_down_to_100_db_under_full_scale() -> None:
    power = torch.logspace(-10, 1, 100, dtype=torch.float32)
    torch.testing.assert_close(db_to_power(power_to_db(power)), power, rtol=2e-4, atol=0)


def test_power_is_as_exact_under_autocast_and_for_half_precision() -> None:
    quiet = _sine(440.0, 1e-4)  # its squares vanish in float16
    expected = smoothed_power(quiet, HOP)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(smoothed_power(quiet, HOP), expected)
    torch.testing.assert_close(smoothed_power(quiet.half(), HOP), expected, rtol=1e-3, atol=0)


def test_silence_is_the_floor_and_comes_back_as_exactly_nothing() -> None:
    track = power_to_db(torch.zeros(1, 1, 10))
    assert torch.equal(track, torch.full((1, 1, 10), FLOOR_DB))
    standardised = (track + 31.7) / 13.9  # what standardisation does to a track in float32
    noise = torch.randn(1, 2, 10 * HOP, generator=torch.Generator().manual_seed(0))
    assert torch.equal(match_level(noise, db_to_power(standardised * 13.9 - 31.7), HOP), torch.zeros_like(noise))


def test_a_waveform_of_the_wanted_dynamics_is_only_scaled() -> None:
    noise = torch.randn(1, 2, 90 * HOP, generator=torch.Generator().manual_seed(1))
    wanted = noise * torch.linspace(0.001, 1, 90 * HOP)
    matched = match_level(wanted * 7.3, smoothed_power(wanted, HOP), HOP)
    torch.testing.assert_close(matched, wanted, rtol=1e-4, atol=0)


def test_a_waveform_of_other_dynamics_is_given_the_wanted_ones() -> None:
    noise = torch.randn(1, 2, 200 * HOP, generator=torch.Generator().manual_seed(2))
    wanted = smoothed_power(noise.flip(-1) * torch.logspace(-2, 0, 200 * HOP), HOP)  # a crescendo of 40 dB
    matched = smoothed_power(match_level(noise * torch.logspace(0, -2, 200 * HOP), wanted, HOP), HOP)
    assert float((10 * torch.log10(matched / wanted)).abs().max()) < 0.5


def test_a_silent_waveform_stays_silent_and_finite_at_any_level() -> None:
    silent = torch.zeros(1, 2, 20 * HOP)
    assert torch.equal(match_level(silent, torch.ones(1, 1, 20), HOP), silent)
