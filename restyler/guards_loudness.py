"""Whether the loudness of a mix goes where that of its take goes, and the slow gain that brings it back.

Mixing narrows the loudness of a take: what was quiet comes up. So the difference of the two short-term loudnesses,
mix − take, is a straight line over the take's loudness, falling at most as far as a limiter makes it fall; what is left
beside that line is a level that wanders of itself. Chains of real mixes leave little (docs/guards.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal.windows import hann
from scipy.stats import theilslopes

from audio import on_disk
from audio.activity import active
from audio.meters import LOUDNESS_OFFSET, STEP_S, LoudnessMeter
from audio.waveform import Waveform

SHORT_TERM_S = 3.0  # EBU Tech 3341
QUIETEST_LU = -20.0  # under the mean of all: what lies lower does not count (EBU Tech 3342)
STEEPEST_SLOPE = -1.0  # dB of the difference for each dB of the take: a limiter
LEAST_COUNTED_STEPS = 10
SLOPE_EVERY_STEPS = 10  # neighbours share most of their window
SLOPE_MOST_STEPS = 300  # that the line is laid through: every pair of them has a slope
SMOOTHING_S = 2.0
ROUNDS = 12  # a gain is spread over windows of 3 s, so that it takes some to reach the bound
LEAST_POWER = 1e-12


@dataclass(frozen=True)
class Trajectories:
    """Every 0.1 s, [steps]: short-term loudness of take and mix in LUFS, the mix's deviation from the course it should
    take in dB, and which steps count. slope: of mix − take over the take's loudness, −1 to 0."""

    take_lufs: np.ndarray
    mix_lufs: np.ndarray
    deviation_db: np.ndarray
    counted: np.ndarray
    slope: float

    @property
    def furthest_db(self) -> float:
        """Largest deviation either way; 0 where too little counts to tell."""
        return float(np.abs(self.deviation_db[self.counted]).max(initial=0.0))


def step_powers(waveform: Waveform) -> np.ndarray:
    """K-weighted power of both channels in steps of 0.1 s, [steps], in bounded memory."""
    meter, samples = LoudnessMeter(waveform.sample_rate), waveform.samples
    for part in on_disk.parts(samples):
        meter.feed(samples[:, part].numpy(force=True))
    return meter.step_powers()


def trajectories(take_powers: np.ndarray, mix_powers: np.ndarray) -> Trajectories:
    """From `step_powers` of a take and of a mix as long as it.

    Steps count where the take sounds, in windows of at most 20 LU under the mean. The line is Theil's and Sen's: a
    level that drops for a while does not bend it.
    """
    take, mix = (short_term_lufs(powers) for powers in (take_powers, mix_powers))
    gate = LOUDNESS_OFFSET + 10 * np.log10(np.mean(10 ** ((take - LOUDNESS_OFFSET) / 10))) + QUIETEST_LU
    levels = _lufs(take_powers)
    counted = active(levels - levels.max()) & (take >= gate)
    difference = mix - take
    if np.count_nonzero(counted) < LEAST_COUNTED_STEPS:
        return Trajectories(take, mix, np.zeros(len(take)), np.zeros(len(take), bool), 0.0)
    every = max(SLOPE_EVERY_STEPS, -(-np.count_nonzero(counted) // SLOPE_MOST_STEPS))
    some, apart = take[counted][::every], difference[counted][::every]
    slope = float(np.clip(theilslopes(apart, some)[0], STEEPEST_SLOPE, 0)) if np.ptp(some) > 0 else 0.0
    beside = difference - slope * take
    return Trajectories(take, mix, beside - np.median(beside[counted]), counted, slope)


def repair_db(take_powers: np.ndarray, mix_powers: np.ndarray, bound_db: float) -> np.ndarray:
    """The gain at the middle of each step, in dB, [steps], that brings every deviation to the bound, as far as gains do
    that move no faster than within 2 s; zero where all lie within it.

    In pauses it only goes from where it was to where it will be: nothing there asks for any.
    """
    gain_db = np.zeros(len(mix_powers))
    smoother = hann(round(SMOOTHING_S / STEP_S) + 1)
    smoother /= smoother.sum()
    for _ in range(ROUNDS):
        found = trajectories(take_powers, mix_powers * 10 ** (gain_db / 10))
        beyond = np.abs(found.deviation_db) - bound_db
        if not (beyond[found.counted] > 0).any():
            break
        at = np.flatnonzero(found.counted)
        wanted = -np.sign(found.deviation_db[at]) * np.maximum(beyond[at], 0)
        whole = np.interp(np.arange(len(gain_db)), at, wanted)
        reach = len(smoother) // 2
        gain_db += np.convolve(np.pad(whole, reach, mode="edge"), smoother, mode="valid")
    return gain_db


def with_gain(waveform: Waveform, gain_db: np.ndarray) -> Waveform:
    """Under a gain given at the middle of each step of 0.1 s, [steps], in straight lines between them."""
    source = waveform.samples
    samples = on_disk.empty(*source.shape, like=source)
    middles = (np.arange(len(gain_db)) + 0.5) * STEP_S * waveform.sample_rate
    for part in on_disk.parts(samples, source):
        factor = 10 ** (np.interp(np.arange(part.start, part.stop), middles, gain_db) / 20)
        torch.mul(source[:, part], torch.from_numpy(factor).to(source), out=samples[:, part])
    return Waveform(samples, waveform.sample_rate)


def short_term_lufs(powers: np.ndarray) -> np.ndarray:
    """Loudness in LUFS over the 3 s around each step, at the ends over what there is of them, [steps]."""
    reach = round(SHORT_TERM_S / STEP_S) // 2
    running = np.concatenate([[0.0], np.cumsum(powers)])
    steps = np.arange(len(powers))
    first, last = np.maximum(steps - reach, 0), np.minimum(steps + reach + 1, len(powers))
    return _lufs((running[last] - running[first]) / (last - first))


def _lufs(powers: np.ndarray) -> np.ndarray:
    return np.asarray(LOUDNESS_OFFSET + 10 * np.log10(np.maximum(powers, LEAST_POWER)))
