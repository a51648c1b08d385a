"""Loudness and true peak of audio that comes in blocks, after ITU-R BS.1770-4, in bounded memory."""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm
from scipy.signal import lfilter

from audio.interpolation import INTERPOLATOR_HALF_WIDTH, SEGMENT_SAMPLES, oversampler

K_WEIGHTING = "DeMan"  # pyloudnorm's design with the standard's own coefficients; its default reads 0.04 LU too low
BLOCK_S = 0.4  # BS.1770-4: the length of a gating block
STEP_S = BLOCK_S / 4  # BS.1770-4: gating blocks overlap by 75 %
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
LOUDNESS_OFFSET = -0.691  # eq. 2 of the standard
HIGHEST = 16
BEND_SHARE = 0.5  # of the second difference, by which a signal may rise over its samples: 1/4 for a tone, see below


class StepSums:
    """Sums of a stream of values over steps of step_s seconds; step j starts at sample ⌊j · step_s · sample_rate⌋."""

    def __init__(self, sample_rate: int, step_s: float) -> None:
        self._step_samples = step_s * sample_rate
        self._sums: list[np.ndarray] = []
        self._complete = 0
        self._rest: np.ndarray = np.zeros(0)
        self.samples = 0

    def feed(self, values: np.ndarray) -> None:
        """values: float64 [samples]."""
        start = int(self._edge(self._complete))
        values = np.concatenate([self._rest, values])
        stop = start + len(values)
        last = int(stop / self._step_samples) + 1
        edges = self._edge(np.arange(self._complete, last + 1))
        edges = edges[edges <= stop]
        if len(edges) > 1:
            self._sums.append(np.add.reduceat(values[: edges[-1] - start], edges[:-1] - start))
            self._complete += len(edges) - 1
            values = values[edges[-1] - start :].copy()
        self._rest = values
        self.samples = stop

    def sums(self) -> np.ndarray:
        """[steps] of all complete steps, and of the incomplete last one where there is one."""
        rest = [np.array([self._rest.sum()])] if len(self._rest) else []
        return np.concatenate([*self._sums, *rest]) if self._sums or rest else np.zeros(0)

    def lengths(self) -> np.ndarray:
        """[steps]: the number of samples in each."""
        starts = self._edge(np.arange(self._complete + (len(self._rest) > 0)))
        return np.diff(starts, append=self.samples)

    def _edge(self, step: np.ndarray | int) -> np.ndarray:
        return np.floor(np.asarray(step) * self._step_samples + 1e-6).astype(np.int64)


class LoudnessMeter:
    """Loudness of a mono or stereo signal that comes in blocks, after BS.1770-4. pyloudnorm's filters; gating blocks
    begin at whole steps, which at rates where these are no whole samples moves it by 0.001 LU at most."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        first, second = pyloudnorm.Meter(sample_rate, K_WEIGHTING)._filters.values()
        # Both sections as one filter of fourth order: half the time.
        self._numerator = np.convolve(first.b, second.b) * first.passband_gain * second.passband_gain
        self._denominator = np.convolve(first.a, second.a)
        self._state: np.ndarray | None = None
        self._power = StepSums(sample_rate, STEP_S)

    def feed(self, samples: np.ndarray) -> None:
        """samples: [channels samples], one or two channels."""
        if self._state is None:
            self._state = np.zeros((len(samples), len(self._denominator) - 1))
        weighted, self._state = lfilter(
            self._numerator, self._denominator, samples.astype(np.float64), axis=1, zi=self._state
        )
        self._power.feed(np.einsum("cs,cs->s", weighted, weighted) * (2 / len(samples)))

    def step_powers(self) -> np.ndarray:
        """K-weighted power of all that was fed, as BS.1770-4 adds the channels (a mono signal counts as two), in steps
        of 0.1 s; the last may be shorter. [steps]"""
        return self._power.sums() / self._power.lengths()

    def block_powers(self) -> np.ndarray:
        """K-weighted power in each gating block (BS.1770-4, eq. 1), [blocks]; of less than one block, all there is."""
        sums, samples = self._power.sums(), self._power.samples
        if samples == 0:
            raise ValueError("nothing was fed to the meter")
        if samples <= BLOCK_S * self.sample_rate:
            return np.array([sums.sum() / samples])
        # As pyloudnorm has it: the last block may reach over the end by half a step.
        blocks = int(np.round((samples / self.sample_rate - BLOCK_S) / STEP_S)) + 1
        running = np.concatenate([[0.0], np.cumsum(sums)])
        stops = np.minimum(np.arange(blocks) + round(BLOCK_S / STEP_S), len(sums))
        return np.asarray((running[stops] - running[:blocks]) / (BLOCK_S * self.sample_rate))

    def lufs(self) -> float:
        """Loudness of all that was fed; −inf where every gating block lies under the absolute gate."""
        return gated_lufs(self.block_powers())


def gated_lufs(powers: np.ndarray) -> float:
    """Of gating blocks: the mean of those that lie over both gates (BS.1770-4, eq. 4 to 7); −inf for none."""
    loud = powers[_lufs(powers) >= ABSOLUTE_GATE_LUFS]
    if not len(loud):
        return -math.inf
    return float(_lufs(loud[_lufs(loud) > _lufs(loud.mean()) + RELATIVE_GATE_LU].mean()))


def _lufs(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(LOUDNESS_OFFSET + 10 * np.log10(power))


class TruePeakMeter:
    """`true_peak_db` of a signal that comes in blocks, within 0.05 dB, at a fraction of the work.

    Only stretches that may hold the highest peak are interpolated. Between its samples a tone rises over them by a
    quarter of its second difference at most: with ω its angular frequency per sample, (1 − cos ω/2) against 4 sin² ω/2.
    What stands after twice that under the highest peak so far cannot win.
    """

    def __init__(self) -> None:
        self._peak = 0.0
        self._tail: np.ndarray | None = None
        self._kernel = oversampler().astype(np.float32)

    def feed(self, samples: np.ndarray) -> None:
        """samples: float32 [channels samples]."""
        if self._tail is None:
            self._tail = np.zeros((len(samples), 2 * INTERPOLATOR_HALF_WIDTH), np.float32)
        self._tail = self._search(np.concatenate([self._tail, samples], axis=1))

    def db(self) -> float:
        """Highest peak in dBTP of all that was fed, its ringing after the end included; −inf for silence."""
        if self._tail is None:
            raise ValueError("nothing was fed to the meter")
        self._search(np.pad(self._tail, ((0, 0), (0, 2 * INTERPOLATOR_HALF_WIDTH + SEGMENT_SAMPLES))))
        return 20 * math.log10(self._peak) if self._peak > 0 else -math.inf

    def _search(self, samples: np.ndarray) -> np.ndarray:
        """Looks at all whole segments that have the interpolator's reach on either side; returns what is to come."""
        half = INTERPOLATOR_HALF_WIDTH
        segments = (samples.shape[1] - 2 * half) // SEGMENT_SAMPLES
        if segments <= 0:
            return samples
        stop = half + segments * SEGMENT_SAMPLES
        for channel in samples:
            starts = np.arange(0, stop - half, SEGMENT_SAMPLES)
            bound = np.maximum.reduceat(np.abs(channel[half:stop]), starts)
            bound += BEND_SHARE * np.maximum.reduceat(np.abs(np.diff(channel[half - 1 : stop + 1], 2)), starts)
            # What rises after a segment's last sample may belong to the first of the next.
            bound = np.maximum(bound, np.append(bound[1:], bound[-1:]))
            windows = np.lib.stride_tricks.sliding_window_view(channel, SEGMENT_SAMPLES + 2 * half)[::SEGMENT_SAMPLES]
            order = np.argsort(-bound)
            for some in (order[:HIGHEST], order[HIGHEST:]):  # the highest first: they spare most of the others
                chosen = some[bound[some] > self._peak]
                if len(chosen):
                    self._peak = max(self._peak, float(np.abs(windows[chosen] @ self._kernel).max()))
        return samples[:, segments * SEGMENT_SAMPLES :].copy()
