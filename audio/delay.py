"""A ping-pong delay: echoes that fall alternately on two positions in the stereo field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import sosfilt

from audio.filters import Filter, sections


@dataclass(frozen=True)
class PingPongDelay:
    """Echo n of n = 1, 2, … comes n × time_ms late, at gain × feedback^(n − 1), low-passed n times.

    time_ms: above 0; feedback and gain: linear, 0 ≤ feedback < 1; pans in percent, −100 (left) … 100 (right):
    odd echoes lie at odd_pan_percent, even ones at even_pan_percent.
    """

    time_ms: float
    feedback: float
    gain: float
    low_pass: Filter
    odd_pan_percent: float
    even_pan_percent: float

    def __post_init__(self) -> None:
        if not self.time_ms > 0 or not 0 <= self.feedback < 1:
            raise ValueError(f"a delay has a positive time, 0 ≤ feedback < 1, not {self.time_ms} ms, {self.feedback}")
        pan_gains(self.odd_pan_percent), pan_gains(self.even_pan_percent)  # refuse what can't be panned


def pan_gains(pan_percent: float) -> np.ndarray:
    """Constant-power gains [left right] of a position −100 … 100 %; 1 and 1 in the centre, √2 and 0 at the ends."""
    if not -100 <= pan_percent <= 100:
        raise ValueError(f"a pan lies within −100 … 100 %, not {pan_percent}")
    angle = (pan_percent + 100) / 200 * np.pi / 2
    return np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)])


def echoes(delay: PingPongDelay, mono: np.ndarray, sample_rate: int) -> np.ndarray:
    """The wet signal alone, [2 samples], of mono [samples]; as long as the input, the time rounded to samples.

    Two crossed delay lines: what leaves the odd one, low-passed, feeds the even one and the other way round.
    A block as long as the delay depends only on the block before it, so that each is one vector operation.
    """
    period = max(1, round(delay.time_ms / 1000 * sample_rate))
    low_pass = sections((delay.low_pass,), sample_rate)
    state = np.zeros((1, 2, 2))
    lines = np.zeros((2, len(mono)))
    for start in range(period, len(mono), period):
        length = min(period, len(mono) - start)
        previous = slice(start - period, start - period + length)
        fed = delay.feedback * lines[::-1, previous]
        fed[0] += mono[previous]
        lines[:, start : start + length], state = sosfilt(low_pass, fed, axis=-1, zi=state)
    pans = np.stack([pan_gains(delay.odd_pan_percent), pan_gains(delay.even_pan_percent)], axis=1)
    return delay.gain * pans @ lines
