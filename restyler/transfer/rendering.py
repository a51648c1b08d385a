"""A take through a fitted chain, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from audio import on_disk
from audio.parts import Step, render
from audio.parts_kinds import Value
from audio.waveform import Waveform

BLOCK_S = 120.0  # up to here a take is rendered at once
FORGOTTEN = math.log(1e5)  # what has decayed by 100 dB is gone

_RINGS_S: dict[str, Callable[[dict[str, Value]], float]] = {
    **dict.fromkeys(
        ("high_pass", "low_pass", "peak", "low_shelf", "high_shelf"),
        # A biquad's poles decay with at least π·f/Q, and with π·f·Q where it is overdamped.
        lambda v: FORGOTTEN * max(_n(v, "q"), 1 / _n(v, "q")) / (math.pi * _n(v, "frequency_hz")) * _boost(v),
    ),
    "compressor": lambda v: FORGOTTEN * max(_n(v, "attack_ms"), _n(v, "release_ms")) / 1000,
    "gain": lambda v: 0.0,
    "width": lambda v: 0.0,
    "pan": lambda v: 0.0,
    "ping_pong_delay": lambda v: _n(v, "time_ms") / 1000 * (2 + FORGOTTEN / -math.log(max(_n(v, "feedback"), 1e-9))),
    "reverb": lambda v: _n(v, "pre_delay_ms") / 1000 + max(_n(v, f"t60_{band}_s") for band in ("low", "mid", "high")),
}


def render_chain(take: Waveform, steps: Sequence[Step], *, block_s: float = BLOCK_S) -> Waveform:
    """`audio.parts.render` of a chain of the fitted kinds of parts, take as loud as the chain is to hear it.

    A take of more than `block_s` goes through in blocks, each begun as early as the chain remembers, so that memory
    beside take and mix is that of a block; the mix is that of the whole within −90 dB. Raises ValueError for a part
    of another kind.
    """
    samples, block = take.samples.shape[1], round(block_s * take.sample_rate)
    if samples <= block:
        return render(steps, take)
    memory = math.ceil(rings_s(steps) * take.sample_rate)
    mix = on_disk.empty(2, samples)
    for start in range(0, samples, block):
        heard = Waveform(take.samples[:, max(0, start - memory) : start + block], take.sample_rate)
        mix[:, start : start + block] = render(steps, heard).samples[:, min(start, memory) :]
        on_disk.let_go(mix, take.samples)
    return Waveform(mix, take.sample_rate)


def rings_s(steps: Sequence[Step]) -> float:
    """How long the chain remembers, in seconds. Raises ValueError for a part that no fitted chain has."""
    for step in steps:
        if step.name not in _RINGS_S:
            raise ValueError(f"how long the part {step.name} remembers is not known")
    return sum(_RINGS_S[step.name](dict(step.values)) for step in steps)


def _n(values: dict[str, Value], name: str) -> float:
    return float(values[name])


def _boost(values: dict[str, Value]) -> float:
    """A cut widens or narrows the poles of a peak or shelf: by as much as its amplitude, at the most."""
    return float(10 ** (abs(float(values.get("gain_db", 0.0))) / 40))
