"""Which stretches of a take and its mix a chain is fitted on: a few seconds that sound, whatever the length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from audio import on_disk

BODY_S = 2.0
CONTEXT_S = 1.2  # of the take before a body, so that compressor, delay and reverb have heard what still sounds in it
MOST = 6
LEAST_SHARE = 0.02  # of the energy of the loudest body: what is less is a pause


@dataclass(frozen=True)
class Excerpt:
    """take: [channels, context + body samples], an even number; mix: its body alone, [2 samples]."""

    take: torch.Tensor
    mix: torch.Tensor

    @property
    def context(self) -> int:
        return self.take.shape[1] - self.mix.shape[1]

    def louder(self, take_gain: float, mix_gain: float) -> Excerpt:
        """The same, each side by a factor."""
        return Excerpt(self.take * take_gain, self.mix * mix_gain)


def excerpts(take: torch.Tensor, mix: torch.Tensor, sample_rate: int) -> list[Excerpt]:
    """At most MOST excerpts without overlap, spread evenly over the stretches of a mix that sound; at least one.

    take: [channels samples]; mix: [2 samples] of the same length. Before the take is silence.
    """
    length = take.shape[1]
    body, context = min(round(BODY_S * sample_rate), length), round(CONTEXT_S * sample_rate)
    context += (body + context) % 2
    count = length // body
    starts = [place * (length - body) // (count - 1) if count > 1 else 0 for place in range(count)]
    energies = []
    for start in starts:
        energies.append(float(mix[:, start : start + body].square().sum()))
        on_disk.let_go(mix)
    sounding = [start for start, energy in zip(starts, energies, strict=True) if energy >= LEAST_SHARE * max(energies)]
    chosen = min(MOST, len(sounding))
    found = []
    for start in (sounding[place * len(sounding) // chosen] for place in range(chosen)):
        heard = F.pad(take[:, max(0, start - context) : start + body], (max(0, context - start), 0))
        found.append(Excerpt(heard, mix[:, start : start + body]))
    return found
