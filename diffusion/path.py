"""The path between a take and its mix, as pure functions.

z_t = (1 − t)·mix + t·start, t from 1 (start) to 0 (mix): the straight path of flow matching (Lipman et al. 2023) and
rectified flow (Liu et al. 2023). Where it starts is the choice:

    "bridge"   start = raw + σ·residual_std·noise: the raw take itself, roughened. σ is the dial between faithful (0:
               no noise at all, one answer) and free. Its unit is the standard deviation of mix − raw in each latent
               channel, so that the noise is as large as what it has to make uncertain.
    "noise"    start = noise.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch

from conditioning.conditions import Conditions

PathKind = Literal["bridge", "noise"]


class DataPredictor(Protocol):
    """What the loss and the sampler ask of a denoiser: where its path starts, and its estimate of the mix."""

    def start(self, raw: torch.Tensor, sigma: torch.Tensor | None, noise: torch.Tensor) -> torch.Tensor: ...

    def __call__(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        sigma: torch.Tensor | None,
        conditions: Conditions,
        frame_mask: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


def bridge_start(
    raw: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor, residual_std: torch.Tensor
) -> torch.Tensor:
    """raw and noise [batch latent frames], sigma [batch], residual_std [latent] → start [batch latent frames]."""
    return raw + sigma[:, None, None] * residual_std[:, None] * noise


def interpolate(mix: torch.Tensor, start: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """z_t for mix and start [batch latent frames] and t [batch] in 0 … 1."""
    return torch.lerp(mix, start, t[:, None, None])


def velocity(noisy: torch.Tensor, mix: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """dz/dt = start − mix = (z_t − mix)/t, from z_t and an estimate of the mix; t [batch] in (0, 1]."""
    return (noisy - mix) / t[:, None, None]


def deviation(noisy: torch.Tensor, raw: torch.Tensor, t: torch.Tensor, kind: PathKind) -> torch.Tensor:
    """z_t minus what it would be on average if the mix were the raw take: all that z_t adds to knowing raw."""
    return noisy - raw if kind == "bridge" else noisy - (1 - t[:, None, None]) * raw
