"""Where in a mix a stretch of the raw take might lie: candidates from how its sound moves, over all of the mix.

Band levels in dB with their slow parts taken out keep what equalisers, compressors, reverb and inverted polarity leave
of a voice: when which band rises and falls. The candidates are good to a few hundredths of a second and may be wrong;
`audio.alignment_fine` tells which are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import uniform_filter1d

from audio.alignment_fine import vertex
from audio.proxy import Samples

STEP_S = 0.02  # of the features, in mix time
WINDOW_S = 0.064
BANDS = 20
BAND_RANGE_HZ = (120.0, 6_000.0)
DEPTH_DB = 30.0  # levels further below a band's loud ones count as this: noise floors and tails end there
LOUD_PERCENTILE = 95.0
SOUNDING_DB = 40.0  # a take sounds where it is no further below its loudest steps
LOUDEST_PERCENTILE = 99.5
TREND_S = 1.0  # what moves slower than this is taken out: gains, equalisers, the level of a verse
BLOCK_FRAMES = 2_048
FFT_FRAMES = 2_048
CHUNKS_AT_ONCE = 16
LEAST_MIX_ENERGY = 0.1  # as a share of the chunk's own: quieter places are not scaled up to it
SEPARATION_STEPS = 8  # between two candidates


@dataclass(frozen=True)
class Candidate:
    """A place of a chunk in the mix: raw time t ↔ mix time rate · t + offset_s; likeness −1 … 1 of its features."""

    offset_s: float
    likeness: float


@dataclass(frozen=True)
class Movements:
    """bands: [steps bands] float32, levels without their trends; sounding: [steps] bool, where there is any sound."""

    bands: np.ndarray
    sounding: np.ndarray


def movements(signal: Samples, sample_rate: int, *, rate: float = 1.0) -> Movements:
    """Mono [samples] → how its band levels move, one row every STEP_S of mix time.

    rate: mix seconds per second of this signal, 1 for the mix itself. A raw take that a mix plays back faster or slower
    is so read with proportionally spaced steps and bands. Blocks bound the memory.
    """
    step, size = STEP_S / rate * sample_rate, 2 * round(WINDOW_S / rate * sample_rate / 2)
    steps = max(0, int((len(signal) - size) // step) + 1)
    top_hz = min(BAND_RANGE_HZ[1], 0.45 * sample_rate / rate)
    edges_hz = np.geomspace(BAND_RANGE_HZ[0], top_hz, BANDS + 1) * rate
    middles_hz = np.arange(size // 2 + 1) * sample_rate / size
    pick = ((middles_hz[:, None] >= edges_hz[:-1]) & (middles_hz[:, None] < edges_hz[1:])).astype(np.float32)
    # A low band may be narrower than a bin is wide: it takes the bin that is nearest.
    nearest = np.abs(middles_hz[:, None] - np.sqrt(edges_hz[:-1] * edges_hz[1:])).argmin(axis=0)
    pick[nearest, np.arange(BANDS)] = 1.0
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    power = np.empty((steps, BANDS), dtype=np.float32)
    for first in range(0, steps, BLOCK_FRAMES):
        starts = np.round(np.arange(first, min(first + BLOCK_FRAMES, steps)) * step).astype(np.int64)
        piece = np.asarray(signal[starts[0] : starts[-1] + size], dtype=np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(piece, size)[starts - starts[0]] * window
        power[first : first + len(starts)] = np.square(np.abs(fft.rfft(frames, axis=1))) @ pick
    if not steps:
        return Movements(power, np.zeros(0, dtype=bool))
    whole = power.sum(axis=1)
    return Movements(
        _without_trends(power), whole > 10 ** (-SOUNDING_DB / 10) * np.percentile(whole, LOUDEST_PERCENTILE)
    )


def _without_trends(power: np.ndarray) -> np.ndarray:
    loud = np.percentile(power, LOUD_PERCENTILE, axis=0) + np.float32(1e-20)
    levels = power / loud
    np.maximum(levels, np.float32(10 ** (-DEPTH_DB / 10)), out=levels)
    np.log(levels, out=levels)
    trends = uniform_filter1d(levels, round(TREND_S / STEP_S), axis=0, mode="nearest")
    return np.subtract(levels, trends, out=levels)


def candidates(
    raw: np.ndarray, mix: np.ndarray, starts: np.ndarray, length: int, *, count: int
) -> Iterator[list[Candidate]]:
    """For each chunk raw[start : start + length] of movements its `count` likeliest places in mix, likeliest first.

    raw, mix: [steps bands] as from `movements`; starts and length in steps. A chunk may hang over the ends of the mix
    by up to its whole length. The likeness is the normalised cross-correlation over steps and bands together. Offsets
    are in s of mix time, interpolated between steps.
    """
    padded = np.pad(mix, ((length, length + FFT_FRAMES), (0, 0)))
    energy = np.cumsum(np.concatenate([[0.0], np.square(padded, dtype=np.float64).sum(axis=1)]))
    lags = len(mix) + length + 1
    energy = energy[length : length + lags] - energy[:lags]
    valid = FFT_FRAMES - length + 1
    blocks = [padded[first : first + FFT_FRAMES] for first in range(0, lags, valid)]
    spectra = fft.rfft(np.stack(blocks, axis=-1), axis=0)  # [frequencies bands blocks]
    for first in range(0, len(starts), CHUNKS_AT_ONCE):
        some = starts[first : first + CHUNKS_AT_ONCE]
        chunks = np.stack([_cut(raw, start, length) for start in some])  # [chunks steps bands]
        own = np.square(chunks, dtype=np.float64).sum(axis=(1, 2))
        turned = fft.rfft(chunks, FFT_FRAMES, axis=1).conj().transpose(1, 0, 2)
        products = fft.irfft(turned @ spectra, FFT_FRAMES, axis=0)[:valid]  # [lags chunks blocks]
        for index, start in enumerate(some):
            correlation = products[:, index].T.reshape(-1)[:lags]
            scale = np.sqrt(own[index] * np.maximum(energy, LEAST_MIX_ENERGY * own[index])) + 1e-20
            yield _peaks(correlation / scale, count, zero_lag=length + int(start))


def _cut(steps: np.ndarray, start: int, length: int) -> np.ndarray:
    piece = steps[start : start + length]
    return np.pad(piece, ((0, length - len(piece)), (0, 0)))


def _peaks(likeness: np.ndarray, count: int, *, zero_lag: int) -> list[Candidate]:
    """The highest values that keep their distance; offsets by a parabola through the neighbours."""
    left = likeness.astype(np.float64)
    found = []
    for _ in range(count):
        top = int(left.argmax())
        if left[top] <= 0:
            break
        found.append(Candidate((top + vertex(likeness, top) - zero_lag) * STEP_S, float(likeness[top])))
        left[max(0, top - SEPARATION_STEPS) : top + SEPARATION_STEPS + 1] = -np.inf
    return found
