"""Loudness and true peak in blocks are those of the whole (which `test_loudness.py` holds to standards)."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import Waveform
from audio.io import blocks, read
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.meters import LoudnessMeter, StepSums, TruePeakMeter


def phrases(rate_hz: int, seconds: float, channels: int, seed: int) -> np.ndarray:
    """Noise under syllables between −50 and 0 dB."""
    random = np.random.default_rng(seed)
    samples = round(seconds * rate_hz)
    level_db = np.repeat(random.uniform(-50, 0, 20), -(-samples // 20))[:samples]
    return (random.normal(0, 0.1, (channels, samples)) * 10 ** (level_db / 20)).astype(np.float32)


def measured(samples: np.ndarray, rate_hz: int, edges: list[int]) -> tuple[float, float]:
    loudness, peak = LoudnessMeter(rate_hz), TruePeakMeter()
    for piece in np.split(samples, sorted(edges), axis=1):
        loudness.feed(piece)
        peak.feed(piece)
    return loudness.lufs(), peak.db()


@settings(max_examples=25, deadline=None)
@given(
    rate_hz=st.sampled_from([8_000, 11_025, 44_100, 48_000]),
    seconds=st.floats(0.1, 5),
    channels=st.integers(1, 2),
    edges=st.lists(st.integers(0, 100_000), max_size=4),
    seed=st.integers(0, 100),
)
def test_blocks_measure_as_the_whole(rate_hz: int, seconds: float, channels: int, edges: list[int], seed: int) -> None:
    samples = phrases(rate_hz, seconds, channels, seed)
    whole = Waveform(torch.from_numpy(samples), rate_hz)
    lufs, peak_db = measured(samples, rate_hz, edges)
    assert lufs == pytest.approx(integrated_loudness_lufs(whole), abs=0.01)
    assert peak_db == pytest.approx(true_peak_db(whole), abs=0.05)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["signs", "clipped", "high tone", "sparse"])
def test_true_peaks_far_over_the_samples_are_not_passed_over(kind: str, seed: int) -> None:
    """Signals that rise up to 8 dB between their samples."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(1, 24_000))
    if kind == "signs":
        values = 0.3 * np.sign(values)
    elif kind == "clipped":
        values = np.clip(values, -0.3, 0.3)
    elif kind == "high tone":
        values = 0.4 * np.sin(np.pi * random.uniform(0.5, 0.97) * np.arange(24_000))[None] + 0.1 * values
    else:
        values = 0.3 * np.sign(values) * (random.uniform(size=values.shape) < 0.02)
    samples = values.astype(np.float32)
    expected = true_peak_db(Waveform(torch.from_numpy(samples), 48_000))
    assert measured(samples, 48_000, [100, 9_000])[1] == pytest.approx(expected, abs=0.05)


def test_silence_has_neither() -> None:
    assert measured(np.zeros((2, 48_000), np.float32), 48_000, [1_000]) == (-math.inf, -math.inf)


def test_real_mixes_measure_alike(shared_data: Path) -> None:
    for path in sorted((shared_data / "research/pairs").glob("MusicDelta_*__wet.mp3"))[:3]:
        loudness, peak, whole = None, TruePeakMeter(), read(path)
        for block in blocks(path):
            loudness = loudness or LoudnessMeter(block.sample_rate)
            loudness.feed(block.samples.numpy())
            peak.feed(block.samples.numpy())
        assert loudness is not None and loudness.lufs() == pytest.approx(integrated_loudness_lufs(whole), abs=0.01)
        assert peak.db() == pytest.approx(true_peak_db(whole), abs=0.05)


@settings(max_examples=50, deadline=None)
@given(
    rate_hz=st.integers(8_000, 50_000),
    samples=st.integers(1, 20_000),
    edges=st.lists(st.integers(0, 20_000), max_size=5),
)
def test_step_sums_add_up(rate_hz: int, samples: int, edges: list[int]) -> None:
    """Against a loop over the steps."""
    values = np.random.default_rng(0).uniform(size=samples)
    sums = StepSums(rate_hz, 0.05)
    for piece in np.split(values, sorted(edges)):
        sums.feed(piece)
    starts = [math.floor(step * 0.05 * rate_hz + 1e-6) for step in range(1_000)]
    expected = [values[start:stop].sum() for start, stop in pairwise(starts) if start < samples]
    np.testing.assert_allclose(sums.sums(), expected)
    assert sums.lengths().sum() == samples and len(sums.lengths()) == len(expected)
