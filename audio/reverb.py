"""A reverb made of shaped noise: exponential decay with its own time in each octave."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import fft
from scipy.signal import fftconvolve

from audio.filters import Filter, equalise


@dataclass(frozen=True)
class Reverb:
    """A diffuse stereo reverb.

    band_hz: centres of the bands, ascending octaves; t60_s: seconds in which each falls by 60 dB; the outer bands
    reach to 0 Hz and to the Nyquist frequency.
    mid_level_db: energy of one output channel for white noise of energy 1, the same on both input channels;
    side_level_db: the same for noise of opposite sign on the two channels. −inf switches it off.
    correlation: of left with right output for input that is the same on both channels, −1 … 1.
    pre_delay_ms: silence before the first reflection. equaliser: filters of the reverb alone.
    """

    band_hz: tuple[float, ...]
    t60_s: tuple[float, ...]
    mid_level_db: float
    side_level_db: float
    correlation: float
    pre_delay_ms: float
    equaliser: tuple[Filter, ...]

    def __post_init__(self) -> None:
        if len(self.band_hz) != len(self.t60_s) or not min(self.t60_s) > 0:
            raise ValueError(f"a reverb has one positive T60 a band, not {self.t60_s} s for {self.band_hz} Hz")
        if not self.band_hz[0] > 0 or any(low >= high for low, high in pairwise(self.band_hz)):
            raise ValueError(f"the bands of a reverb ascend, which {self.band_hz} Hz do not")
        if not -1 <= self.correlation <= 1 or self.pre_delay_ms < 0:
            raise ValueError(f"correlation lies in −1 … 1 and the pre-delay is not negative: {self}")


def band_weights(band_hz: tuple[float, ...], frequency_hz: np.ndarray) -> np.ndarray:
    """Share of each band in each frequency, [bands frequencies], adding up to one; the outer bands have no far edge."""
    position = np.interp(np.log2(np.maximum(frequency_hz, 1.0)), np.log2(band_hz), np.arange(len(band_hz)))
    distance = np.abs(position - np.arange(len(band_hz))[:, None])
    return (np.cos(np.pi / 2 * np.clip(distance, 0, 1)) ** 2).astype(np.float32)


def decaying_noise(
    reverb: Reverb, channels: int, samples: int, sample_rate: int, noise: np.random.Generator
) -> np.ndarray:
    """Independent noise channels [channels samples], each band falling by 60 dB in its T60; flat at the start.

    The bands overlap with raised-cosine slopes on a logarithmic axis that add up to one, so that equal times give
    exactly white noise under one exponential.
    """
    length = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(noise.standard_normal((channels, length), dtype=np.float32))
    weights = band_weights(reverb.band_hz, fft.rfftfreq(length, 1 / sample_rate))
    seconds = np.arange(samples) / sample_rate
    decayed = np.zeros((channels, samples), dtype=np.float32)
    for weight, t60_s in zip(weights, reverb.t60_s, strict=True):
        envelope = (10 ** (-3 * seconds / t60_s)).astype(np.float32)
        decayed += fft.irfft(spectrum * weight, n=length)[:, :samples] * envelope
    return decayed


def impulse_responses(reverb: Reverb, samples: int, sample_rate: int, noise: np.random.Generator) -> np.ndarray:
    """[output input samples]: from mid and side, in this order, to left and right; energies as the levels say.

    Levels count the whole decay: a response cut at `samples` keeps the level of its untruncated self.
    """
    whole = max(2, round(max(reverb.t60_s) * sample_rate))
    channels = decaying_noise(reverb, 4, whole, sample_rate, noise)
    channels /= np.sqrt((channels**2).sum(axis=-1, keepdims=True))
    left, other, side_left, side_right = channels
    right = reverb.correlation * left + np.sqrt(1 - reverb.correlation**2) * other
    right /= np.sqrt((right**2).sum())
    mid_gain, side_gain = 10 ** (reverb.mid_level_db / 20), 10 ** (reverb.side_level_db / 20)
    body = np.array([[mid_gain * left, side_gain * side_left], [mid_gain * right, side_gain * side_right]])
    pre_delay = round(reverb.pre_delay_ms / 1000 * sample_rate)
    return equalise(reverb.equaliser, np.pad(body, ((0, 0), (0, 0), (pre_delay, 0))), sample_rate)[..., :samples]


def reverberate(reverb: Reverb, stereo: np.ndarray, sample_rate: int, noise: np.random.Generator) -> np.ndarray:
    """The wet signal alone, [2 samples], of stereo [2 samples]; as long as the input."""
    samples = stereo.shape[1]
    responses = impulse_responses(reverb, samples, sample_rate, noise)
    mid, side = (stereo[0] + stereo[1]) / 2, (stereo[0] - stereo[1]) / 2
    wet = fftconvolve(mid[None], responses[:, 0], axes=-1)
    if side.any():
        wet = wet + fftconvolve(side[None], responses[:, 1], axes=-1)
    return wet[:, :samples]
