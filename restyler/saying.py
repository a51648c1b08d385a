"""What mixes are told, as the denoiser hears it: one pooled vector per mix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from audio.waveform import Waveform
from conditioning.conditioner import StyleConditioner
from conditioning.conditions import Conditions
from restyler.settings import SamplingDefaults
from restyler.telling import Told


@dataclass(frozen=True)
class Reference:
    """A recording whose style is to be taken over; weight: > 0, against that of the other references."""

    waveform: Waveform
    weight: float = 1.0


References: TypeAlias = Waveform | Sequence[Reference] | None
"""One recording, several with weights, or none."""


def as_references(references: References) -> list[Reference]:
    """Raises ValueError for a weight that is not a positive number."""
    found = [Reference(references)] if isinstance(references, Waveform) else list(references or ())
    if not all(math.isfinite(one.weight) and one.weight > 0 for one in found):
        raise ValueError(f"weights are positive numbers, not {[one.weight for one in found]}")
    return found


def heard_in(
    conditioner: StyleConditioner, latents: Sequence[torch.Tensor], weights: Sequence[float]
) -> torch.Tensor | None:
    """What the conditioner hears in references, as one vector [1 embed]: the mean of their vectors, by their weights.

    latents: of each reference, [1 latent frames]. None for no reference.
    """
    total, heard = sum(weights), None
    for one, weight in zip(latents, weights, strict=True):
        frames = torch.tensor([one.shape[-1]], device=one.device)
        vector = weight / total * conditioner.reference_encoder(one, frames)
        heard = vector if heard is None else heard + vector
    return heard


def conditions(
    conditioner: StyleConditioner,
    defaults: SamplingDefaults,
    raw: torch.Tensor,
    said: Sequence[Told],
    heard: torch.Tensor | None,
) -> Conditions:
    """Conditions of as many mixes. raw: latents of the take [1 latent frames]. heard: from `heard_in`, for all mixes.

    A mix that is told several styles hears the mean of their embeddings, by their shares.
    """
    parts = [(mix, name, share) for mix, one in enumerate(said) for name, share in one.shares()]
    told = dict[str, torch.Tensor]()
    indices = [-1 if name is None else conditioner.style_index(name) for _, name, _ in parts]
    told["style"] = torch.tensor(indices, device=raw.device)
    if any(one.controls for one in said):
        names = conditioner.config.controls
        rows = [[defaults.scaled(name, said[mix].controls) for name in names] for mix, *_ in parts]
        told["controls"] = torch.tensor(rows, device=raw.device)
    vectors = conditioner(raw.expand(len(parts), -1, -1), **told).pooled
    pooled = torch.zeros(len(said), vectors.shape[1], device=raw.device, dtype=vectors.dtype)
    for (mix, _, share), vector in zip(parts, vectors, strict=True):
        pooled[mix] += share * vector
    return Conditions(aligned=raw.expand(len(said), -1, -1), pooled=pooled if heard is None else pooled + heard)
