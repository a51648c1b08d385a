"""What streams through an effect chain, in bounded memory: stages that are fed blocks and give blocks.

A stage gives in all as many frames as it is fed, in place to the sample, some of them later; what it gives does not
depend on where blocks end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy import fft
from scipy.signal import sosfilt

from audio.delay import PingPongDelay, pan_gains
from audio.filters import sections

LEAST_FFT_SAMPLES = 1 << 16
LONGEST_LATENCY_S = 10  # of a plugin


class Stage(Protocol):
    """[2 n] float64 in → [2 m] out. finish: what is still owed. close: also where it was not finished."""

    def feed(self, samples: np.ndarray) -> np.ndarray: ...

    def finish(self) -> np.ndarray: ...

    def close(self) -> None: ...


class Instant:
    """A stage that owes nothing: each block's answer comes at once."""

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self._answer = answer

    def feed(self, samples: np.ndarray) -> np.ndarray:
        return self._answer(samples) if samples.shape[1] else samples

    def finish(self) -> np.ndarray:
        return nothing()

    def close(self) -> None:
        pass


def nothing() -> np.ndarray:
    return np.zeros((2, 0))


def board(effect: Any, sample_rate: int) -> Instant:
    """One of Pedalboard's own effects, which have no latency."""

    def answer(samples: np.ndarray) -> np.ndarray:
        return effect(samples.astype(np.float32), sample_rate, reset=False).astype(np.float64)

    return Instant(answer)


def filtered(second_order: np.ndarray) -> Instant:
    """Second-order sections [sections 6] with what they remember from block to block."""
    state = np.zeros((len(second_order), 2, 2))

    def answer(samples: np.ndarray) -> np.ndarray:
        nonlocal state
        if not len(second_order):
            return samples
        found, state = sosfilt(second_order, samples, axis=-1, zi=state)
        return found

    return Instant(answer)


class Plugin:
    """Instances of a plugin of another maker: one for both sides, or one for each. The latency that it reports is taken
    off (in blocks, Pedalboard does not); what it owes at the end is asked for by silence."""

    def __init__(self, instances: list[Any], sample_rate: int) -> None:
        self._instances, self._rate = instances, sample_rate
        self._owed = 0
        self._late: int | None = None  # what of the latency has not been dropped; known once it runs at this rate

    def feed(self, samples: np.ndarray) -> np.ndarray:
        self._owed += samples.shape[1]
        return self._given(samples) if samples.shape[1] else samples

    def finish(self) -> np.ndarray:
        blocks, silent = [nothing()], np.zeros((2, self._rate))
        for _ in range(LONGEST_LATENCY_S):
            if not self._owed:
                break
            blocks.append(self._given(silent))
        return np.concatenate(blocks, axis=1)

    def close(self) -> None:
        pass

    def _given(self, samples: np.ndarray) -> np.ndarray:
        sides = samples.astype(np.float32)
        fed = [sides] if len(self._instances) == 1 else [sides[:1], sides[1:]]
        pairs = zip(self._instances, fed, strict=True)
        heard = np.concatenate([each(side, self._rate, reset=False) for each, side in pairs])
        late = self._instances[0].reported_latency_samples if self._late is None else self._late
        self._late = max(0, late - heard.shape[1])
        found = heard[:, late:][:, : self._owed]
        self._owed -= found.shape[1]
        return found.astype(np.float64)


class Convolver:
    """Fast convolution by overlap-add with responses [outputs inputs samples]; gives its answer in whole blocks."""

    def __init__(self, responses: np.ndarray) -> None:
        taps = responses.shape[-1]
        self._size = fft.next_fast_len(max(2 * taps, LEAST_FFT_SAMPLES), real=True)
        self._block = self._size - taps + 1
        self._spectra = fft.rfft(responses, n=self._size)
        self._overlap = np.zeros((len(responses), taps - 1))
        self._waiting = np.zeros((responses.shape[1], 0))

    def feed(self, samples: np.ndarray) -> np.ndarray:
        self._waiting = np.concatenate([self._waiting, samples], axis=1)
        blocks = [np.zeros((len(self._overlap), 0))]
        while self._waiting.shape[1] >= self._block:
            blocks.append(self._convolved(self._waiting[:, : self._block]))
            self._waiting = self._waiting[:, self._block :]
        return np.concatenate(blocks, axis=1)

    def finish(self) -> np.ndarray:
        rest, self._waiting = self._waiting, self._waiting[:, :0]
        return self._convolved(rest)[:, : rest.shape[1]]

    def _convolved(self, samples: np.ndarray) -> np.ndarray:
        spectrum = fft.rfft(samples, n=self._size)
        found = fft.irfft((self._spectra * spectrum).sum(axis=1), n=self._size)
        length = samples.shape[1]
        found = found[:, : length + self._overlap.shape[1]]
        found[:, : self._overlap.shape[1]] += self._overlap
        self._overlap = found[:, length:].copy()
        return found[:, :length]


class Beside:
    """Dry sound with what a convolver makes of another beside it; the dry waits for the wet."""

    def __init__(self, convolver: Convolver) -> None:
        self._convolver = convolver
        self._dry = nothing()

    def feed(self, dry: np.ndarray, sent: np.ndarray) -> np.ndarray:
        self._dry = np.concatenate([self._dry, dry], axis=1)
        return self._summed(self._convolver.feed(sent))

    def finish(self) -> np.ndarray:
        return self._summed(self._convolver.finish())

    def _summed(self, wet: np.ndarray) -> np.ndarray:
        length = wet.shape[1]
        found, self._dry = self._dry[:, :length] + wet, self._dry[:, length:]
        return found


class WetOnly:
    """A stage without the dry sound that it leaves, by a gain, beside what it makes."""

    def __init__(self, stage: Stage, dry: float) -> None:
        self._stage, self._dry = stage, dry
        self._waiting = nothing()

    def feed(self, samples: np.ndarray) -> np.ndarray:
        self._waiting = np.concatenate([self._waiting, samples], axis=1)
        return self._without(self._stage.feed(samples))

    def finish(self) -> np.ndarray:
        return self._without(self._stage.finish())

    def close(self) -> None:
        self._stage.close()

    def _without(self, came: np.ndarray) -> np.ndarray:
        length = came.shape[1]
        found, self._waiting = came - self._dry * self._waiting[:, :length], self._waiting[:, length:]
        return found


class Echoes:
    """`audio.delay.echoes` for a signal that comes in blocks."""

    def __init__(self, delay: PingPongDelay, sample_rate: int) -> None:
        self._delay = delay
        self._low_pass = sections((delay.low_pass,), sample_rate)
        self._state = np.zeros((1, 2, 2))
        period = max(1, round(delay.time_ms / 1000 * sample_rate))
        self._mono, self._lines = np.zeros(period), np.zeros((2, period))  # the last ones, oldest first
        self._pans = np.stack([pan_gains(delay.odd_pan_percent), pan_gains(delay.even_pan_percent)], axis=1)

    def feed(self, mono: np.ndarray) -> np.ndarray:
        """[samples] → the wet signal alone, [2 samples]."""
        period, blocks = len(self._mono), [nothing()]
        for start in range(0, len(mono), period):
            block = mono[start : start + period]
            fed = self._delay.feedback * self._lines[::-1, : len(block)]
            fed[0] += self._mono[: len(block)]
            lines, self._state = sosfilt(self._low_pass, fed, axis=-1, zi=self._state)
            self._mono = np.concatenate([self._mono, block])[-period:]
            self._lines = np.concatenate([self._lines, lines], axis=1)[:, -period:]
            blocks.append(self._delay.gain * self._pans @ lines)
        return np.concatenate(blocks, axis=1)
