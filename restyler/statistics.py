"""Statistics of the training split: what one unit of a latent, of a difference and of a control is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from audio.errors import InputError
from audio.features import FEATURES
from audio.features import measure as feature_values
from audio.io import read
from codec.base import LatentCodec
from restyler.command import shown
from restyler.control_draws import TAKE, JointNormal, joint_normals
from restyler.data import LatentPair, Statistics
from restyler.moments import Moments, together
from restyler.pairs import Pair
from restyler.prepared import PreparedSplit
from restyler.settings import NO_STYLE


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
    _, residual_std = _mean_std(
        lambda: (item.mix.read(0, item.frames) - item.raw.read(0, item.frames) for item in pairs)
    )
    values = torch.stack([item.controls(controls) for item in pairs]).numpy()
    takes = np.array([[item.raw.features[name] for name in FEATURES] for item in pairs])
    draws = control_draws(controls, values, takes, np.ones(len(pairs)), [item.pair.style for item in pairs])
    return _statistics(codec, residual_std, control_statistics(pairs, controls), draws)


def measure_prepared(
    splits: Sequence[PreparedSplit],
    weights: Sequence[int],
    controls: Sequence[str],
    codec: LatentCodec,
    *,
    standardise_codec: bool,
) -> Statistics:
    """`measure` for the training splits of prepared sets, from what their shards say: no latents are read.

    Each set counts by its weight, whatever its size, and in a segment the take counts as much as all its mixes: as
    training shows them. Raises InputError as `measure` does.
    """
    shares = np.array(weights) / sum(weights)
    if standardise_codec:
        pooled = _weighed([split.latents for split in splits], shares)
        codec.set_statistics(torch.from_numpy(pooled.mean).float(), torch.from_numpy(pooled.std).float())
    residual_std = torch.from_numpy(_weighed([split.difference for split in splits], shares).std)
    columns = [FEATURES.index(name) for name in controls]
    values = torch.from_numpy(np.concatenate([split.controls[:, columns] for split in splits]))
    # Every segment of a set has the same share of it, and every mix of a segment the same share of that.
    row_weights = [
        share / len(split) / np.diff(split.first_row)[split.row_segment]
        for split, share in zip(splits, shares, strict=True)
    ]
    weight = np.concatenate(row_weights)
    told = _control_mean_std(values, torch.from_numpy(weight), controls)
    takes = np.concatenate([split.take_features[split.row_segment] for split in splits])
    styles = [None if style < 0 else split.styles[style] for split in splits for style in split.style]
    return _statistics(codec, residual_std, told, control_draws(controls, values.numpy(), takes, weight, styles))


def control_draws(
    controls: Sequence[str], values: np.ndarray, takes: np.ndarray, weights: np.ndarray, styles: Sequence[str | None]
) -> dict[str, JointNormal]:
    """`SamplingDefaults.draws` of pairs: what their mixes changed, values [pairs controls], and all FEATURES of their
    takes [pairs features]; weights [pairs], and the style of each."""
    names = [*controls, *(TAKE + name for name in FEATURES)]
    return joint_normals(names, np.concatenate([values, takes], axis=1), weights, styles, everything=NO_STYLE)


def _weighed(moments: Sequence[Moments | None], shares: np.ndarray) -> Moments:
    return together(part.scaled(share) for part, share in zip(moments, shares.tolist(), strict=True) if part)


def draws_of_recordings(pairs: Sequence[Pair], controls: Sequence[str], sample_rate: int) -> dict[str, JointNormal]:
    """`control_draws` of the training pairs of a folder, measured on their recordings at the codec's `sample_rate`.

    Raises InputError for a recording that can't be read or measured, for a style NO_STYLE, and where there is nothing
    to draw.
    """
    pairs = [pair for pair in pairs if pair.split == "train"]
    styles = [pair.style for pair in pairs]
    if NO_STYLE in styles:
        raise InputError(f"a style can't be called {NO_STYLE!r}: that word says something else to commands")
    found: dict[Path, dict[str, float]] = {}
    for file in tqdm(sorted({file for pair in pairs for file in (pair.raw, pair.mix)}), desc="measuring"):
        waveform = read(file).stereo().resampled(sample_rate)
        try:
            found[file] = feature_values(waveform)
        except ValueError as error:
            raise InputError(f"{shown(file)}: {error}") from None
    values = [[found[pair.mix][name] - found[pair.raw][name] for name in controls] for pair in pairs]
    takes = [[found[pair.raw][name] for name in FEATURES] for pair in pairs]
    draws = control_draws(controls, np.array(values), np.array(takes), np.ones(len(pairs)), styles)
    if not draws:
        raise InputError("nothing can be drawn: the model has no controls, or one that hardly varies in these pairs")
    return draws


def _statistics(
    codec: LatentCodec,
    residual_std: torch.Tensor,
    controls: tuple[torch.Tensor, torch.Tensor],
    draws: Mapping[str, JointNormal],
) -> Statistics:
    if not bool((residual_std > 0).all()):
        raise InputError("the mixes don't differ from their raw takes: there is nothing to learn")
    latent_mean, latent_std = codec.latent_mean.cpu().clone(), codec.latent_std.cpu().clone()
    return Statistics(latent_mean, latent_std, residual_std.float() / latent_std, *controls, draws)


def control_statistics(pairs: Sequence[LatentPair], names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every control over `pairs`, undefined values left out, each [controls].

    Raises InputError for a control that never varies: its name would promise what the model can't learn.
    """
    values = torch.stack([item.controls(names) for item in pairs])
    return _control_mean_std(values, torch.ones(len(values)), names)


def _control_mean_std(
    values: torch.Tensor, weights: torch.Tensor, names: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of values [mixes controls] with weights [mixes], NaN left out."""
    values = values.double()
    told = weights.double()[:, None] * ~values.isnan()
    mean = (told * values.nan_to_num()).sum(0) / told.sum(0)
    std = ((told * (values - mean).nan_to_num().square()).sum(0) / told.sum(0)).sqrt()
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
