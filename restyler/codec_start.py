"""Where codec training starts: from principal components of real coefficients, not from random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from audio.errors import InputError
from codec.pocket import PocketCodec

WHITENING = 0.7  # share of a bin's level (in log) that the bin scale takes out before principal components
ACTIVE_RMS = 1e-3  # quieter frames say nothing about the sound


@torch.no_grad()
def start_from_principal_components(codec: PocketCodec, batches: Sequence[torch.Tensor], *, components: int) -> None:
    """Set the bin scale and the linear path from data: the best linear code under that scale.

    batches: stereo excerpts, each [batch 2 samples]. The first `components` shape channels become whitened principal
    components of the scaled coefficients; the other channels are left to the networks.
    """
    shapes = []
    for batch in batches:
        coefficients, level = codec.analyse(batch)
        shapes.append(coefficients[level > math.log(ACTIVE_RMS)])
    shape = _several(torch.cat(shapes))
    codec.bin_scale.copy_(shape.square().mean(0).sqrt().clamp_min(1e-5) ** WHITENING)
    y = (shape / codec.bin_scale).double()
    variance, vectors = torch.linalg.eigh(y.T @ y / len(y))  # in ascending order
    vectors = vectors.flip(-1)[:, :components]
    std = variance.flip(-1)[:components].sqrt()
    codec.encoder_linear.weight.zero_()
    codec.decoder_linear.weight.zero_()
    codec.encoder_linear.weight[:components] = (vectors / std).T.float()
    codec.decoder_linear.weight[:, :components] = (vectors * std).float()
    nn.init.normal_(codec.encoder_out.weight[components:], std=0.05)


@torch.no_grad()
def latent_statistics(codec: PocketCodec, batches: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-channel mean and standard deviation of the raw latents of active frames, each [latent]."""
    latents = torch.cat([codec.encode_frames(batch).transpose(1, 2).flatten(0, 1) for batch in batches])
    latents = _several(latents[latents[:, 0] > math.log(ACTIVE_RMS)])
    return latents.mean(0), latents.std(0)


def _several(active: torch.Tensor) -> torch.Tensor:
    if len(active) < 2:
        raise InputError("data.sources: too quiet: hardly a frame of the excerpts lies above -60 dBFS")
    return active
