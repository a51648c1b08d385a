"""How far a rendering is from an engineer's mix, as distances that other papers can be compared with."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from auraloss.perceptual import FIRFilter
from scipy.signal import lfilter, oaconvolve

from audio.loudness import brought_to
from audio.waveform import Waveform
from codec.losses import magnitudes
from restyler.seeds import seeded

LOUDNESS_LUFS = -18.0
FFT_SIZES = (128, 512, 2048)
DYNAMICS_TIMES_MS = ((50, 1000), (100, 2000))  # short and long average
RISE_TIME = 2.2  # an average of time τ decays by exp(−2.2) in it: DiffVox counts the rise from a tenth to nine tenths
LEAST_POWER = 1e-8


@dataclass(frozen=True)
class SpectralDistance:
    """Multi-resolution STFT distance, lower is nearer. lr: of left and right; ms: of sum and difference.

    ms explodes where the reference is nearly mono: quote its median.
    """

    lr: float
    ms: float


def spectral_distance(reference: Waveform, estimate: Waveform) -> SpectralDistance:
    """Distance between two stereo signals of the same length and rate, both brought to −18 LUFS first.

    Spectral convergence plus L1 of log magnitudes at FFT sizes 128, 512 and 2048, hop a quarter, A-weighted: the
    settings of DiffVox (Yu et al. 2025), in the form of auraloss (Steinmetz & Reiss 2020), which works out phases
    besides, for half of its time, and weights anew at every size. Raises ValueError for signals of different shape or
    rate, InputError for a silent one.
    """
    _check_alike(reference, estimate)
    taps = _a_weighting(reference.sample_rate)
    weighted = (oaconvolve(at_loudness(one).numpy(), taps, mode="same", axes=1) for one in (reference, estimate))
    y, x = (torch.from_numpy(one) for one in weighted)
    middle, side = (_spectral(y[:1] + sign * y[1:], x[:1] + sign * x[1:]) for sign in (1, -1))
    return SpectralDistance(lr=_spectral(y, x), ms=(middle + side) / 2)


def _spectral(reference: torch.Tensor, estimate: torch.Tensor) -> float:
    """Mean distance over the FFT sizes of two [channels samples], channels taken as one."""
    total = 0.0
    for size in FFT_SIZES:
        y, x = (magnitudes(one, size) for one in (reference, estimate))
        total += float((y - x).norm() / y.norm() + (y.log() - x.log()).abs().mean())
    return total / len(FFT_SIZES)


@functools.cache
def _a_weighting(sample_rate: int) -> np.ndarray:
    """The taps [1 taps] of auraloss's A-weighting."""
    with seeded("auraloss"):  # it draws weights before it sets them: measuring must not move what training draws
        taps: np.ndarray = FIRFilter("aw", fs=sample_rate).fir.weight.data[0].numpy()
    return taps


def loudness_dynamics_distance(reference: Waveform, estimate: Waveform) -> float:
    """Multi-scale distance of the loudness dynamic range (MLDR): how differently the level moves, lower is nearer.

    Two stereo signals of the same length and rate, both brought to −18 LUFS first. Of each channel, the log of its
    power averaged over a short time minus that over a long one; between the signals, the mean absolute difference of
    these, added for 50 and 1000 ms and for 100 and 2000 ms. 0 also where a channel differs by a gain alone.

    After DiffVox (Yu et al. 2025), with the settings and in the form of its evaluation code: power is at least 1e-8
    before it is averaged, averages are causal and exponential, and the long one is moved ahead by half the difference
    of the two times, around the end of the signal. Raises as `spectral_distance` does.
    """
    _check_alike(reference, estimate)
    powers = [np.square(at_loudness(one).numpy().astype(np.float64)) for one in (reference, estimate)]
    total = 0.0
    for short_ms, long_ms in DYNAMICS_TIMES_MS:
        a, b = (_dynamic_range(power, reference.sample_rate, short_ms, long_ms) for power in powers)
        total += float(np.abs(a - b).mean())
    return total


def _dynamic_range(power: np.ndarray, sample_rate: int, short_ms: int, long_ms: int) -> np.ndarray:
    """Log ratio of the short and the long average of power, [channels samples]."""

    def average(time_ms: int) -> np.ndarray:
        kept = np.exp(-RISE_TIME * 1000 / (time_ms * sample_rate))
        averaged: np.ndarray = lfilter([1 - kept], [1, -kept], np.maximum(power, LEAST_POWER), axis=1)
        return averaged

    ahead = int(sample_rate * (long_ms - short_ms) / 2000)
    return np.log(average(short_ms) / np.roll(average(long_ms), -ahead, axis=1))


def _check_alike(reference: Waveform, estimate: Waveform) -> None:
    if reference.sample_rate != estimate.sample_rate or reference.samples.shape != estimate.samples.shape:
        raise ValueError(
            f"compared are signals of one shape and rate, not {list(reference.samples.shape)} at "
            f"{reference.sample_rate} Hz and {list(estimate.samples.shape)} at {estimate.sample_rate} Hz"
        )


def at_loudness(waveform: Waveform) -> torch.Tensor:
    """Samples [channels samples] at −18 LUFS, as `audio.loudness.brought_to`."""
    return brought_to(waveform, LOUDNESS_LUFS).samples.float()
