"""A bad seed is sampled again: the noise of another seed in its place, derived from it; what the mix is told stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from audio.waveform import Waveform
from restyler.guards import Guard, Verdict
from restyler.noise import Seed, another
from restyler.ways import Made

MOST_TRIES = 4


@dataclass(frozen=True)
class Faithful:
    """A mix that may go out, or the least bad of all that were tried. made: before, waveform: after the slow gain."""

    made: Made
    waveform: Waveform
    seed: Seed
    verdict: Verdict


def faithful(
    first: Made,
    seed: Seed,
    *,
    guard: Guard,
    again: Callable[[Seed], Made] | None,
) -> Faithful:
    """The first of a seed's mix and those of up to three other seeds (`noise.another`) that the guard lets out; where
    there is none, the one nearest to it, whose verdict says so.

    A chain's mix is judged and never repaired. again: the mix of another seed; None where the mix of this very seed is
    wanted.
    """
    refused, best = tuple[str, ...](), None
    for number in range(MOST_TRIES if again else 1):
        now, made = seed, first
        if number and again:
            now = another(seed, number)
            made = again(now)
        waveform, verdict = guard(made.waveform, repairs=not made.steps)
        if number:
            verdict = replace(verdict, instead_of=str(seed), refused=refused)
        else:
            refused = verdict.faults
        one = Faithful(made, waveform, now, replace(verdict, tries=number + 1))
        if not verdict.faults:
            return one
        if best is None or verdict.excess < best.verdict.excess:  # of the others nothing is kept: they are long
            best = one
    if best is None:
        raise ValueError("a guard that judges at least one mix")
    return replace(best, verdict=replace(best.verdict, tries=number + 1))
