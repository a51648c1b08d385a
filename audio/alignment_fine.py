"""Whether two stretches of sound are one performance, and how they lie to each other, to a fraction of a sample.

A mix is, in good part, its raw take under a filter that stays the same: delay, polarity, equaliser, early reflections.
Then the phase between the two, at each frequency, is the same in every short frame, whatever it is; between different
performances it is a matter of chance. The magnitude of the mean cross-spectrum, each side divided by its own power, is
the coherence (Carter, Knapp & Nuttall 1973); its inverse transform, the smoothed coherence transform, is a correlation
whose peak stands at the direct sound and knows no pitch period (Knapp & Carter 1976, table I: SCOT).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce

import numpy as np
from scipy import fft

from audio.proxy import Samples

BAND_HZ = (100.0, 6_000.0)
TOP_SHARE = 0.45  # of the sample rate: what proxies hold above is thinned by their resampling
OVERLAP_EXCESS = 1.3  # neighbouring frames share samples: chance adds up to this times what independent ones give
LARGEST_CHANCE = 0.9
LARGEST_DRIFT = 1.5e-3
DRIFT_STEP = 1.5e-5
DRIFT_PADDING = 4
DRIFT_BINS = 2  # every second bin: neighbours share a window, and say the same
OVERSAMPLING = 4
TINY = 1e-30
DIRECT_SHARE = 0.35  # of the highest peak that a direct sound before it has at least
DIRECT_RATIO = 7.0  # to the root mean square of what comes before it
LOBE_SHARE, LOBE_S = 0.75, 0.0004  # of the peak's height, and how long before it
ALONE_S, QUIET_S = 0.002, 0.03  # the latter is looked at, up to the former before the direct sound


@dataclass(frozen=True)
class Grid:
    """The frames that both sides are cut into: raw_samples long on one, mix_samples on the other, hop in raw samples.

    Frames of lengths in proportion to the rate have the same bins: a tone that the mix plays faster stays in its own.
    frequency_hz: that of the mix, one for each of the bins first_bin … stop_bin − 1.
    """

    sample_rate: int
    raw_samples: int
    mix_samples: int
    hop_samples: int
    first_bin: int
    stop_bin: int

    @property
    def hop_s(self) -> float:
        return self.hop_samples / self.sample_rate

    @property
    def frequency_hz(self) -> np.ndarray:
        return np.arange(self.first_bin, self.stop_bin) * (self.sample_rate / self.mix_samples)


def grid(sample_rate: int, rate: float, frame_s: float) -> Grid:
    raw_samples = 2 * fft.next_fast_len(round(frame_s * sample_rate / 2), real=True)
    mix_samples = round(raw_samples * rate)
    bin_hz = sample_rate / mix_samples
    top_hz = min(BAND_HZ[1], TOP_SHARE * sample_rate * min(1.0, 1 / rate))
    return Grid(
        sample_rate, raw_samples, mix_samples, raw_samples // 2, round(BAND_HZ[0] / bin_hz), round(top_hz / bin_hz)
    )


def spectra(
    raw: Samples, mix: Samples, cut: Grid, start_s: float, frames: int, *, rate: float, offset_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Spectra [frames bins] complex64 of raw from start_s on, and of the mix where rate and offset_s put it.

    What lies outside of either signal is silence.
    """
    raw_starts = round(start_s * cut.sample_rate) + np.arange(frames) * cut.hop_samples
    exact = rate * (raw_starts + cut.raw_samples / 2) + offset_s * cut.sample_rate - cut.mix_samples / 2
    mix_starts = np.round(exact).astype(np.int64)
    band = slice(cut.first_bin, cut.stop_bin)
    one = fft.rfft(_frames(raw, raw_starts, cut.raw_samples), axis=1)[:, band]
    other = fft.rfft(_frames(mix, mix_starts, cut.mix_samples), axis=1)[:, band]
    early_s = (exact - mix_starts) / cut.sample_rate  # frames start at whole samples: the rest is turned in phase
    if np.ptp(early_s) < 1e-9:
        early_s = early_s[:1]
    turn = np.exp((2j * np.pi * early_s)[:, None] * cut.frequency_hz[None]).astype(np.complex64)
    return one, other * turn


def _frames(signal: Samples, starts: np.ndarray, size: int) -> np.ndarray:
    """Hann-windowed frames [frames size] float32; silence outside of the signal."""
    low, high = int(starts.min()), int(starts.max()) + size
    inner = np.asarray(signal[min(max(low, 0), len(signal)) : max(min(high, len(signal)), 0)], dtype=np.float32)
    if low < 0 or high > len(signal):
        before = min(max(-low, 0), high - low)
        inner = np.pad(inner, (before, max(0, high - low - before - len(inner))))
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(inner, size)[starts - low] * window


@dataclass(frozen=True)
class Accord:
    """Sums over frames, [… bins]: cross-spectrum, power of either side, and what chance alone makes of |cross|²."""

    cross: np.ndarray
    raw_power: np.ndarray
    mix_power: np.ndarray
    chance: np.ndarray

    def transfer(self) -> np.ndarray:
        """Complex coherence per bin, magnitude 0 … 1; the phase is the mix's against the raw take's."""
        return self.cross / np.sqrt(self.raw_power * self.mix_power + TINY)

    def coherence(self) -> np.ndarray:
        """Mean magnitude-squared coherence over the bins, […], freed of chance: about 0 for strangers, up to 1."""
        both = self.raw_power * self.mix_power + TINY
        chance = np.minimum(self.chance / both, LARGEST_CHANCE)
        return ((np.abs(self.cross) ** 2 / both - chance) / (1 - chance)).mean(axis=-1)

    def turned(self, cut: Grid, delay_s: float) -> Accord:
        """As if the mix had been read delay_s later."""
        turn = np.exp(2j * np.pi * delay_s * cut.frequency_hz)
        return Accord(self.cross * turn, self.raw_power, self.mix_power, self.chance)


def accord(one: np.ndarray, other: np.ndarray, frames: int) -> Accord:
    """Accord [blocks bins] of blocks of so many frames each; a last incomplete block is left out."""
    blocks = len(one) // frames
    shape = (blocks, frames, one.shape[1])
    products = one.conj() * other

    def power(values: np.ndarray) -> np.ndarray:
        return np.square(values.real) + np.square(values.imag)

    def total(values: np.ndarray) -> np.ndarray:
        return values[: blocks * frames].reshape(shape).sum(axis=1)

    return Accord(total(products), total(power(one)), total(power(other)), OVERLAP_EXCESS * total(power(products)))


def summed(accords: Iterable[Accord]) -> Accord:
    """Of the frames of several accords (at least one) together. They may come one by one: only their sum is kept."""
    return reduce(
        lambda one, other: Accord(*(getattr(one, part.name) + getattr(other, part.name) for part in fields(Accord))),
        accords,
    )


def drift(one: np.ndarray, other: np.ndarray, cut: Grid) -> tuple[float, float, float]:
    """How fast the delay between two sides grows: (drift, coherence with it, coherence without).

    drift: seconds of mix per second of raw, on top of the rate at which they were cut, within ±LARGEST_DRIFT. It turns
    the phase at each frequency from frame to frame by an angle proportional to frequency, so one transform along the
    frames holds the coherence for every drift.
    """
    one, other = one[:, ::DRIFT_BINS], other[:, ::DRIFT_BINS]
    products = one.conj() * other
    size = fft.next_fast_len(DRIFT_PADDING * len(products))
    lines = fft.fft(products, size, axis=0)
    count = round(LARGEST_DRIFT / DRIFT_STEP)
    drifts = DRIFT_STEP * np.arange(-count, count + 1)
    places = np.round(-drifts[:, None] * cut.frequency_hz[::DRIFT_BINS] * cut.hop_s * size).astype(np.int64) % size
    both = accord(one, other, len(one))
    turned = Accord(lines[places, np.arange(products.shape[1])], both.raw_power, both.mix_power, both.chance)
    coherence = turned.coherence()
    best = int(coherence.argmax())
    exact = drifts[best] + DRIFT_STEP * vertex(coherence, best)
    return float(exact), float(coherence[best]), float(coherence[count])


def correlogram(transfer: np.ndarray, cut: Grid) -> np.ndarray:
    """Correlation over lags, OVERSAMPLING a sample of the mix, lag 0 in the middle; 1 at a lag for a pure delay by it.

    transfer: [bins], of one accord.
    """
    size = OVERSAMPLING * cut.mix_samples
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    spectrum[cut.first_bin : cut.stop_bin] = transfer
    return np.roll(fft.irfft(spectrum, size) * (size / 2 / len(transfer)), size // 2)


def peak(correlation: np.ndarray, cut: Grid, reach_s: float) -> tuple[float, float]:
    """Lag in s (between lags by a parabola) and signed height of a correlogram's largest magnitude within ±reach_s."""
    magnitude = np.abs(correlation)
    middle = len(correlation) // 2
    reach = min(round(reach_s * OVERSAMPLING * cut.sample_rate), middle - 1)
    return _at(
        correlation, magnitude, middle - reach + int(magnitude[middle - reach : middle + reach + 1].argmax()), cut
    )


def arrival(correlation: np.ndarray, cut: Grid, reach_s: float) -> tuple[float, float]:
    """`peak`, or the direct sound before it where what is largest is an echo or part of a reverb.

    A direct sound stands alone: hardly lower than the peak, and high above all that comes before it. Where a filter
    has turned its phase by a quarter it has two lobes of either sign, nearly as high: the first tells the polarity, as
    the response of a filter that does not look ahead begins with it.
    """
    magnitude = np.abs(correlation)
    per_s = OVERSAMPLING * cut.sample_rate
    middle = len(correlation) // 2
    reach, alone, quiet, lobe = (round(seconds * per_s) for seconds in (reach_s, ALONE_S, QUIET_S, LOBE_S))
    start = max(middle - reach, 1)
    top = start + int(magnitude[start : middle + reach + 1].argmax())
    early = start + np.flatnonzero(magnitude[start : max(start, top - alone)] > DIRECT_SHARE * magnitude[top])
    energy = np.concatenate([[0.0], np.cumsum(magnitude**2)])
    since, until = np.maximum(early - quiet, 0), np.maximum(early - alone, 1)
    before = np.sqrt((energy[until] - energy[since]) / (until - since))
    alone_at = early[magnitude[early] > DIRECT_RATIO * before]
    if len(alone_at):
        top = int(alone_at[0]) + int(magnitude[alone_at[0] : alone_at[0] + alone].argmax())
    first = max(0, top - lobe)
    opposite = -np.sign(correlation[top]) * correlation[first:top]
    if len(opposite) and opposite.max() > LOBE_SHARE * magnitude[top]:
        top = first + int(opposite.argmax())
    return _at(correlation, magnitude, top, cut)


def _at(correlation: np.ndarray, magnitude: np.ndarray, top: int, cut: Grid) -> tuple[float, float]:
    lag = top - len(correlation) // 2 + vertex(magnitude, top)
    return lag / (OVERSAMPLING * cut.sample_rate), float(correlation[top])


def vertex(values: np.ndarray, top: int) -> float:
    """How far from index top, −0.5 … 0.5, the parabola through it and its neighbours is highest; 0 at the ends."""
    if not 0 < top < len(values) - 1:
        return 0.0
    before, here, after = values[top - 1 : top + 2]
    bend = before - 2 * here + after
    return float((before - after) / (2 * bend)) if bend < 0 else 0.0
