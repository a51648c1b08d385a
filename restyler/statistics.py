"""Statistics of the training split: what one unit of a latent, of a difference and of a control is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from audio.errors import InputError
from codec.base import LatentCodec
from restyler.data import LatentPair, Statistics


def measure(
    pairs: Sequence[LatentPair], controls: Sequence[str], codec: LatentCodec, *, standardise_codec: bool
) -> Statistics:
    """Statistics of the training pairs; every frame counts the same.

    standardise_codec: measure the codec's own statistics (raw takes and mixes pooled) and set them, for a codec
    that comes without any. Raises InputError for pairs without a difference and controls without variation.
    """
    if standardise_codec:
        sides = [side for item in pairs for side in (item.raw, item.mix)]
        mean, std = _mean_std(lambda: (side.read(0, side.frames) for side in sides))
        codec.set_statistics(mean.float(), std.float())
    latent_mean, latent_std = codec.latent_mean.cpu().clone(), codec.latent_std.cpu().clone()
    _, residual_std = _mean_std(
        lambda: (item.mix.read(0, item.frames) - item.raw.read(0, item.frames) for item in pairs)
    )
    if not bool((residual_std > 0).all()):
        raise InputError("the mixes don't differ from their raw takes: there is nothing to learn")
    control_mean, control_std = control_statistics(pairs, controls)
    return Statistics(latent_mean, latent_std, residual_std.float() / latent_std, control_mean, control_std)


def control_statistics(pairs: Sequence[LatentPair], names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every control over `pairs`, undefined values left out, each [controls].

    Raises InputError for a control that never varies: its name would promise what the model can't learn.
    """
    if not names:
        return torch.zeros(0), torch.ones(0)
    values = torch.stack([item.controls(names) for item in pairs]).double()
    mean = values.nanmean(0)
    std = (values - mean).square().nanmean(0).sqrt()
    flat = [name for name, spread in zip(names, std.tolist(), strict=True) if not spread > 0]
    if flat:
        raise InputError(f"conditioner.controls: without variation in the training pairs: {', '.join(flat)}")
    return mean.float(), std.float()


def _mean_std(parts: Callable[[], Iterable[torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel over all frames of parts [channels frames], in two passes: exact where the mean is far from zero."""
    count = 0
    total = torch.zeros(())
    for part in parts():
        count, total = count + part.shape[1], total + part.double().sum(1)
    mean = total / count
    squares = torch.zeros(())
    for part in parts():
        squares = squares + (part.double() - mean[:, None]).square().sum(1)
    return mean, (squares / count).sqrt()
