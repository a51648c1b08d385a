"""Fundamental frequency of a voice: YIN's difference function, and the likeliest course through its dips.

A single frame can't tell a period from its double, least of all under reverb; the course through all frames can.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft

from audio.waveform import Waveform

RATE_HZ = 24_000
BAND_RATE_HZ = 6_000  # harmonics over 3 kHz turn faster than a parabola between two lags can follow
HOP_S = 0.01
WINDOW_SAMPLES = 840  # 35 ms: two periods of the lowest pitch
LOWEST_HZ, MIDDLE_HZ, HIGHEST_HZ = 60.0, 220.0, 1200.0
CANDIDATES = 6
FRAMES_AT_ONCE = 256
UNVOICED_COST = 0.25  # aperiodic share of the power from which a frame counts as unvoiced
OCTAVE_DOWN_COST = 0.05  # an octave: a doubled period fits as well as the period itself
OCTAVE_JUMP_COST = 0.4
VOICING_CHANGE_COST = 0.15
LEAST_LEVEL_DB = -50.0  # against the loudest frame: what is quieter has no pitch that could be heard


class Course(NamedTuple):
    """Every 10 ms from the start on, [frames]: pitch in Hz, nan where there is none."""

    f0_hz: np.ndarray

    @property
    def voiced(self) -> np.ndarray:
        return np.isfinite(self.f0_hz)


def pitch(waveform: Waveform) -> Course:
    """Pitch between 60 and 1200 Hz of a mono or stereo recording of one voice.

    Cumulative mean normalised difference function and parabolic interpolation after de Cheveigné & Kawahara 2002
    (equations 6 to 8), with difference functions added over the channels, so that neither polarity nor width matters;
    its lowest dips are the candidates of a dynamic programme that weighs them against jumps and gaps (Talkin 1995).
    Times are right to 4 ms.
    """
    samples = waveform.resampled(BAND_RATE_HZ).resampled(RATE_HZ).samples.numpy(force=True).astype(np.float64)
    if len(samples) == 2 and np.array_equal(*samples):
        samples = samples[:1]
    longest = int(RATE_HZ / LOWEST_HZ) + 2
    hop, length = round(HOP_S * RATE_HZ), WINDOW_SAMPLES + longest
    count = samples.shape[1] // hop + 1
    middle = (WINDOW_SAMPLES + round(RATE_HZ / MIDDLE_HZ)) // 2  # what is compared lies around it, for this pitch
    padded = np.pad(samples, ((0, 0), (middle, length)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)[:, ::hop][:, :count]
    f0_hz, cost, power = (np.concatenate(parts) for parts in zip(
        *(_candidates(frames[:, start : start + FRAMES_AT_ONCE]) for start in range(0, count, FRAMES_AT_ONCE)),
        strict=True,
    ))  # fmt: skip
    quiet = power <= power.max(initial=0.0) * 10 ** (LEAST_LEVEL_DB / 10)
    return Course(_likeliest(f0_hz, np.where(quiet[:, None], np.inf, cost)))


def _candidates(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[channels frames samples] → pitch in Hz and cost, each [frames candidates], and power [frames].

    A frame with fewer dips than candidates has infinite costs for the rest.
    """
    difference = _difference(frames)
    lags = np.arange(1, difference.shape[1])
    mean = np.cumsum(difference[:, 1:], axis=1) / lags
    normalised = np.ones_like(difference)
    np.divide(difference[:, 1:], mean, out=normalised[:, 1:], where=mean > 0)
    inner = normalised[:, 1:-1]
    dips = (inner < normalised[:, :-2]) & (inner <= normalised[:, 2:])
    dips[:, : int(RATE_HZ / HIGHEST_HZ) - 1] = False
    depth = np.where(dips, inner, np.inf)
    chosen = np.argpartition(depth, CANDIDATES, axis=1)[:, :CANDIDATES] + 1
    rows = np.arange(len(depth))[:, None]
    before, here, after = (difference[rows, chosen + step] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    moved = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend > 0)
    period = chosen + np.clip(moved, -0.5, 0.5)
    # The dip's bottom between two lags, at least 0; depth is of the normalised function, its share the same.
    share = np.divide(here - bend * moved**2 / 2, here, out=np.ones_like(here), where=here > 0)
    lowest = np.where(np.isfinite(depth[rows, chosen - 1]), normalised[rows, chosen] * np.maximum(share, 0), np.inf)
    cost = lowest + OCTAVE_DOWN_COST * np.log2(period * MIDDLE_HZ / RATE_HZ)
    return RATE_HZ / period, cost, np.einsum("cfs,cfs->f", frames, frames)


def _difference(frames: np.ndarray) -> np.ndarray:
    """Σ (x[j] − x[j + lag])² over a window, added over channels, [channels frames samples] → [frames lags]."""
    length = frames.shape[2]
    lags = length - WINDOW_SAMPLES
    size = scipy.fft.next_fast_len(length, real=True)
    start = scipy.fft.rfft(frames[:, :, :WINDOW_SAMPLES], size)
    correlation = scipy.fft.irfft(start.conj() * scipy.fft.rfft(frames, size), size)[:, :, :lags]
    running = np.cumsum(np.pad(frames**2, ((0, 0), (0, 0), (1, 0))), axis=2)
    energy = running[:, :, WINDOW_SAMPLES : WINDOW_SAMPLES + lags] - running[:, :, :lags]
    return np.maximum((energy[:, :, :1] + energy - 2 * correlation).sum(0), 0)


def _likeliest(f0_hz: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The course of least cost through candidates [frames candidates] and being unvoiced: f0 in Hz or nan, [frames]."""
    frames, candidates = f0_hz.shape
    octave = np.log2(f0_hz)
    own = np.column_stack([cost, np.full(frames, UNVOICED_COST)])
    change = np.full((candidates + 1, candidates + 1), VOICING_CHANGE_COST)
    change[-1, -1] = 0.0
    best, came_from = own[0], np.zeros((frames, candidates + 1), np.int64)
    states = np.arange(candidates + 1)
    for frame in range(1, frames):
        np.multiply(
            np.abs(octave[frame - 1][:, None] - octave[frame]), OCTAVE_JUMP_COST, out=change[:candidates, :candidates]
        )
        total = best[:, None] + change
        came_from[frame] = total.argmin(0)
        best = total[came_from[frame], states] + own[frame]
    state, course = int(best.argmin()), np.full(frames, np.nan)
    for frame in range(frames - 1, -1, -1):
        if state < candidates:
            course[frame] = f0_hz[frame, state]
        state = int(came_from[frame, state])
    return course
