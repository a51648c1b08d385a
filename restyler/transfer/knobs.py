"""The chain that is fitted: which parts in which order, and between what bounds each of their values is sought."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

Values: TypeAlias = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Knob:
    """One value of the chain that is sought: between low and high, from `start` on; in ratios where `logarithmic`."""

    low: float
    high: float
    start: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """The unbounded number that stands for a value: the logit of its place between the bounds."""
        low, high, at = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        share = min(max((at - low) / (high - low), 0.005), 0.995)  # at a bound nothing would move it any more
        return math.log(share / (1 - share))


def _frequency(low_hz: float, high_hz: float, start_hz: float) -> Knob:
    return Knob(low_hz, high_hz, start_hz, logarithmic=True)


def _gain(reach_db: float) -> Knob:
    return Knob(-reach_db, reach_db, 0.0)


# The chain in its order: name of a part in KNOBS → the part of `audio.parts`.
CHAIN = {
    "high_pass": "high_pass",
    "low_shelf": "low_shelf",
    "peak1": "peak",
    "peak2": "peak",
    "peak3": "peak",
    "peak4": "peak",
    "high_shelf": "high_shelf",
    "low_pass": "low_pass",
    "compressor": "compressor",
    "width": "width",
    "pan": "pan",
    "ping_pong_delay": "ping_pong_delay",
    "reverb": "reverb",
}
PEAKS = ("peak1", "peak2", "peak3", "peak4")
EQUALISER = tuple(CHAIN)[:8]

# Part and parameter → knob. What is left out stays at the part's default.
KNOBS: dict[str, Knob] = {
    "high_pass.frequency_hz": _frequency(15, 400, 40),
    "low_shelf.frequency_hz": _frequency(60, 500, 180),
    "low_shelf.gain_db": _gain(18),
    "peak1.frequency_hz": _frequency(120, 800, 300),
    "peak1.gain_db": _gain(15),
    "peak1.q": Knob(0.4, 5, 1, logarithmic=True),
    "peak2.frequency_hz": _frequency(400, 2500, 1000),
    "peak2.gain_db": _gain(15),
    "peak2.q": Knob(0.4, 5, 1, logarithmic=True),
    "peak3.frequency_hz": _frequency(1500, 7000, 3000),
    "peak3.gain_db": _gain(15),
    "peak3.q": Knob(0.4, 5, 1, logarithmic=True),
    "peak4.frequency_hz": _frequency(4000, 14000, 7000),
    "peak4.gain_db": _gain(15),
    "peak4.q": Knob(0.4, 5, 1, logarithmic=True),
    "high_shelf.frequency_hz": _frequency(2500, 16000, 9000),
    "high_shelf.gain_db": _gain(18),
    "low_pass.frequency_hz": _frequency(4000, 20000, 18000),
    "compressor.threshold_db": Knob(-55, -1, -20),
    "compressor.ratio": Knob(1.02, 20, 2, logarithmic=True),
    "compressor.attack_ms": Knob(0.3, 100, 8, logarithmic=True),
    "compressor.release_ms": Knob(10, 1500, 150, logarithmic=True),
    "compressor.makeup_db": Knob(-20, 40, 0),
    "width.width_percent": Knob(0, 200, 100),
    "pan.pan_percent": Knob(-100, 100, 0),
    "ping_pong_delay.time_ms": Knob(20, 1000, 250, logarithmic=True),
    "ping_pong_delay.feedback": Knob(0, 0.8, 0.25),
    "ping_pong_delay.wet_db": Knob(-60, 3, -32),
    "ping_pong_delay.low_pass_hz": _frequency(500, 18000, 5000),
    "ping_pong_delay.odd_pan_percent": Knob(-100, 100, -40),
    "ping_pong_delay.even_pan_percent": Knob(-100, 100, 40),
    "reverb.wet_db": Knob(-60, 6, -18),
    "reverb.t60_low_s": Knob(0.1, 6, 1.2, logarithmic=True),
    "reverb.t60_mid_s": Knob(0.1, 6, 1.0, logarithmic=True),
    "reverb.t60_high_s": Knob(0.1, 6, 0.7, logarithmic=True),
    "reverb.pre_delay_ms": Knob(0.5, 150, 15, logarithmic=True),
    "reverb.high_pass_hz": _frequency(20, 1000, 120),
    "reverb.low_pass_hz": _frequency(1000, 20000, 9000),
    "reverb.correlation": Knob(-0.9, 0.98, 0.0),
}


def places(starts: Mapping[str, float], names: Sequence[str] = tuple(KNOBS)) -> torch.Tensor:
    """The unbounded numbers of knobs, [names]; those not in `starts` begin at the knob's own start."""
    return torch.tensor([KNOBS[name].place(starts.get(name, KNOBS[name].start)) for name in names])


def values(at: torch.Tensor, names: Sequence[str] = tuple(KNOBS)) -> dict[str, torch.Tensor]:
    """The values that unbounded numbers [names] stand for."""
    low, high, logarithmic = _bounds(tuple(names))
    found = low + (high - low) * torch.sigmoid(at)
    return dict(
        zip(names, torch.where(logarithmic, torch.where(logarithmic, found, 0.0).exp(), found).unbind(), strict=True)
    )


@functools.cache
def _bounds(names: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each knob the lowest and the highest value, and whether these are logarithms: of what is sought in ratios."""
    knobs = [KNOBS[name] for name in names]
    ends = torch.tensor([[knob.low, knob.high] for knob in knobs])
    logarithmic = torch.tensor([knob.logarithmic for knob in knobs])
    low, high = torch.where(logarithmic[:, None], ends.clamp(min=1e-9).log(), ends).unbind(dim=1)
    return low, high, logarithmic
