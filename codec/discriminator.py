"""Adversarial and feature-matching losses for codec training, with EnCodec's multi-scale STFT discriminator.

Défossez, Copet, Synnaeve, Adi: High Fidelity Neural Audio Compression (2022), section 3.4. The discriminator is
`encodec.msstftd.MultiScaleSTFTDiscriminator`, which maps [batch channels samples] to one map of logits per scale and,
per scale, a list of feature maps; its longest window must fit into the signal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from encodec.msstftd import MultiScaleSTFTDiscriminator
from torch.func import functional_call


def discriminator_loss(
    discriminator: MultiScaleSTFTDiscriminator, real: torch.Tensor, fake: torch.Tensor
) -> torch.Tensor:
    """Hinge loss of the discriminator, a scalar: mean over scales of max(0, 1 − D(real)) + max(0, 1 + D(fake)).

    Its gradient reaches the discriminator alone. Real and fake go through it as one batch, so that a discriminator
    that is spread over processes is called once per step.
    """
    logits, _ = discriminator(torch.cat([real, fake]).detach())
    losses = []
    for scale in logits:
        of_real, of_fake = scale.split([len(real), len(fake)])
        losses.append(F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean())
    return torch.stack(losses).mean()


def generator_losses(
    discriminator: MultiScaleSTFTDiscriminator,
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    over_all: Callable[[torch.Tensor], torch.Tensor] = lambda mean: mean,
) -> dict[str, torch.Tensor]:
    """What the generator of `fake` is told, as scalars.

    adversarial: mean over scales of max(0, 1 − D(fake)).
    feature: mean over scales and layers of |D_layer(real) − D_layer(fake)| relative to the mean |D_layer(real)|.
    over_all: where real and fake are one process's share of a batch, from that mean over it to the whole batch's.

    Their gradients reach `fake` alone: the discriminator's parameters are left untouched, and need no clearing.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    logits, fake_features = functional_call(discriminator, frozen, (fake,))
    with torch.no_grad():
        _, real_features = discriminator(real)
    features = [
        F.l1_loss(of_fake, of_real) / over_all(of_real.abs().mean())
        for scale_real, scale_fake in zip(real_features, fake_features, strict=True)
        for of_real, of_fake in zip(scale_real, scale_fake, strict=True)
    ]
    return {
        "adversarial": torch.stack([F.relu(1 - scale).mean() for scale in logits]).mean(),
        "feature": torch.stack(features).mean(),
    }
