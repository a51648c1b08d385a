"""Clipping and dropouts are found where they are, and nowhere else."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from audio.faults import FaultMeter
from audio.io import read

RATE_HZ = 48_000


@cache
def voice(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Something like a voice, [samples], peak 0.9: pulses with jitter through resonances, in syllables."""
    random = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    pulses = np.zeros(samples)
    pulses[np.cumsum(random.normal(RATE_HZ / 180, 8, round(seconds * 170)).round().astype(int)) % samples] = 1
    sound = sum(
        sosfilt(butter(1, [hz * 0.93, hz * 1.07], "band", fs=RATE_HZ, output="sos"), pulses) for hz in (500, 1500, 2600)
    )
    sound = sound + random.normal(0, 3e-4, samples)
    starts = np.arange(0, samples, RATE_HZ // 8)
    sound = sound * np.interp(np.arange(samples), starts, random.uniform(0.2, 1, len(starts)))
    return (0.9 * sound / np.abs(sound).max()).astype(np.float32)


def found(*channels: np.ndarray, edges: tuple[int, ...] = ()) -> FaultMeter:
    samples = np.stack(channels).astype(np.float32)
    meter = FaultMeter(RATE_HZ, len(samples))
    for piece in np.split(samples, sorted(edges), axis=1):
        meter.feed(piece)
    meter.finish()
    return meter


def at_16_bit(samples: np.ndarray, dither: int | None = None) -> np.ndarray:
    scaled = samples * 2.0**15
    if dither is not None:
        scaled = scaled + np.random.default_rng(dither).uniform(-0.5, 0.5, (2, *samples.shape)).sum(axis=0)
    return np.round(scaled) / 2**15


def test_clipping_counts_what_was_cut_off() -> None:
    sound = voice()
    clipped = np.clip(sound, -0.25, 0.25)
    tops, samples = 0, 0
    for sign in (1, -1):
        over = np.diff(np.flatnonzero(np.diff(sign * sound >= 0.25, prepend=False, append=False)).reshape(-1, 2))
        tops, samples = tops + int((over >= 3).sum()), samples + int(over[over >= 3].sum())
    assert tops > 100
    assert found(clipped).clipping() == pytest.approx((samples, tops), rel=0.05)
    assert found(sound).clipping() == (0, 0)


@pytest.mark.parametrize("gain_db", [0.0, -6.0, -20.0])
def test_clipping_shows_after_another_gain_and_rounding(gain_db: float) -> None:
    clipped = np.clip(voice(), -0.25, 0.25) * 10 ** (gain_db / 20)
    assert found(at_16_bit(clipped)).clipping()[1] > 100
    if gain_db == 0:
        assert found(at_16_bit(clipped, dither=0)).clipping()[1] > 30


def test_one_clipped_channel_or_side_is_enough() -> None:
    sound = voice()
    both = found(np.clip(sound, -0.25, 0.25)).clipping()[1]
    upper, lower = found(np.clip(sound, -1, 0.25)).clipping()[1], found(np.clip(sound, -0.25, 1)).clipping()[1]
    assert upper + lower == both and min(upper, lower) > 0
    assert found(sound, np.clip(sound, -0.25, 0.25)).clipping()[1] == both


@settings(max_examples=30, deadline=None)
@given(frequency_hz=st.floats(15, 20_000), peak_db=st.floats(-30, 0), phase=st.floats(0, 6.28), bits=st.booleans())
def test_a_pure_tone_is_not_clipped(frequency_hz: float, peak_db: float, phase: float, bits: bool) -> None:
    tone = 10 ** (peak_db / 20) * np.sin(2 * np.pi * frequency_hz / RATE_HZ * np.arange(RATE_HZ) + phase)
    assert found(at_16_bit(tone) if bits else tone).clipping()[0] <= 12


def test_a_hot_limited_mix_is_not_clipped() -> None:
    """A limiter holds every syllable at one peak level and keeps the waves' round tops; a saturator bends them."""
    sound = voice().astype(np.float64)
    envelope = np.maximum(np.convolve(np.abs(sound), np.hanning(480), "same"), 1e-3)
    limited = sound / envelope
    limited *= 1 / np.abs(limited).max()
    assert found(at_16_bit(limited)).clipping()[0] <= 6
    assert found(at_16_bit(np.tanh(2 * sound))).clipping()[0] <= 6


def gaps(sound: np.ndarray, starts_s: list[float], length_s: float, held: bool) -> tuple[np.ndarray, list[float]]:
    """Gaps at the first samples after starts_s that are neither near a zero crossing nor at a top."""
    sound, starts = sound.copy(), []
    length = round(length_s * RATE_HZ)
    for start in (round(start_s * RATE_HZ) for start_s in starts_s):
        while (
            min(np.abs(sound[start - 12 : start]).max(), np.abs(sound[start + length :][:12]).max()) < 0.2
            or abs(sound[start]) > 0.5
        ):
            start += 1
        starts.append(start / RATE_HZ)
        sound[start : start + length] = sound[start] if held else 0
    return sound, starts


@pytest.mark.parametrize("length_s", [0.6e-3, 5e-3, 60e-3, 190e-3])
@pytest.mark.parametrize("held", [False, True])
def test_dropouts_are_found_where_they_are(length_s: float, held: bool) -> None:
    sound, starts_s = gaps(voice(), [0.5, 1.3, 2.6], length_s, held)
    meter = found(sound, edges=(24_100, 62_500))
    assert meter.dropouts == 3
    np.testing.assert_allclose(meter.dropout_times_s, starts_s, atol=2e-3)
    both = found(sound, sound)
    assert both.dropouts == 3  # not one for each channel
    assert found(voice(), sound).dropouts == 3


def test_pauses_and_gates_are_no_dropouts() -> None:
    sound = voice().astype(np.float64)
    gate = np.ones(len(sound))
    for start_s in (0.5, 1.2, 2.0, 3.1):  # closes and opens within 5 ms
        start, stop, fade = round(start_s * RATE_HZ), round((start_s + 0.1) * RATE_HZ), RATE_HZ // 200
        gate[start:stop] = 0
        gate[start - fade : start], gate[stop : stop + fade] = np.linspace(1, 0, fade), np.linspace(0, 1, fade)
    assert found(sound * gate).dropouts == 0
    sound[RATE_HZ : round(1.4 * RATE_HZ)] = 0  # longer than a dropout
    assert found(sound).dropouts == 0
    assert found(at_16_bit(voice() * 1e-3)).dropouts == 0
    assert found(np.clip(voice() * 20, -0.9, 0.9)).dropouts == 0  # long flat tops, but tops


@settings(max_examples=8, deadline=None)
@given(edges=st.lists(st.integers(0, 4 * RATE_HZ), max_size=6))
def test_nothing_depends_on_where_blocks_end(edges: list[int]) -> None:
    damaged, _ = gaps(np.clip(voice(), -0.25, 0.25), [0.5, 1.3], 20e-3, held=False)
    whole, cut = found(damaged), found(damaged, edges=tuple(edges))
    assert (cut.dropouts, cut.dropout_times_s) == (whole.dropouts, whole.dropout_times_s)
    assert cut.clipping() == whole.clipping()


def test_real_takes_have_no_faults_until_they_are_damaged(shared_data: Path) -> None:
    for path in sorted((shared_data / "research/gtsinger").glob("*.flac"))[::14]:
        take = read(path)
        sound = take.samples.numpy()
        meters = []
        for samples in (sound, np.clip(sound, *np.quantile(sound, [0.002, 0.998]))):
            meters.append(FaultMeter(take.sample_rate, take.channels))
            meters[-1].feed(samples)
            meters[-1].finish()
        healthy, clipped = meters
        assert healthy.dropouts == 0 and healthy.clipping()[0] <= 12
        assert clipped.clipping()[0] > 100
