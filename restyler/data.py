"""Training examples: aligned crops of raw and mix latents, with everything the conditioner may be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from audio.errors import InputError
from restyler.control_draws import JointNormal
from restyler.latents import LatentCache, Recording
from restyler.pairs import Pair
from restyler.seeds import generator as generator_for

MAX_LENGTH_DIFFERENCE_S = 1.0
Example = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Statistics:
    """What the training split measures: mean and std of latents [latent], of mix − raw, and of controls [controls].

    residual_std is in units of standardised latents. draws: see `restyler.settings.SamplingDefaults`.
    """

    latent_mean: torch.Tensor
    latent_std: torch.Tensor
    residual_std: torch.Tensor
    control_mean: torch.Tensor
    control_std: torch.Tensor
    draws: Mapping[str, JointNormal]


class Examples(Protocol):
    """One split of the data, whatever it is read from."""

    styles: list[str]

    def numbered(self, number: int, *, seed: int, purpose: str) -> Example:
        """Example `number` of a run: a pure function of its three arguments. Fields as `LatentPairs.example` says."""


@dataclass(frozen=True)
class LatentPair:
    pair: Pair
    raw: Recording
    mix: Recording

    @property
    def frames(self) -> int:
        return min(self.raw.frames, self.mix.frames)

    def controls(self, names: Sequence[str]) -> torch.Tensor:
        """What the mix did to each feature, mix − raw, [controls]; NaN where a feature is undefined."""
        return torch.tensor([self.mix.features[name] - self.raw.features[name] for name in names])


def latent_pairs(pairs: Sequence[Pair], cache: LatentCache) -> list[LatentPair]:
    """Pairs with their latents, all of which the cache must hold.

    Raises InputError where raw and mix differ in length by more than a second: then they are not the same take.
    """
    found = [LatentPair(pair, cache.recording(pair.raw), cache.recording(pair.mix)) for pair in pairs]
    for item in found:
        raw_s, mix_s = (side.frames / cache.codec.frame_rate_hz for side in (item.raw, item.mix))
        if abs(raw_s - mix_s) > MAX_LENGTH_DIFFERENCE_S:
            raise InputError(
                f"{item.pair.key}: the raw take lasts {raw_s:.2f} s and its mix {mix_s:.2f} s;"
                f" a pair differs by {MAX_LENGTH_DIFFERENCE_S:g} s at most"
            )
    return found


class LatentPairs:
    """One split of the pairs. An example is a pure function of its generator: no worker, rank or order matters."""

    def __init__(
        self,
        pairs: Sequence[LatentPair],
        *,
        statistics: Statistics,
        styles: Sequence[str],
        controls: Sequence[str],
        crop_frames: int,
        reference_frames: int,
    ) -> None:
        self.pairs, self.statistics, self.styles, self.controls = list(pairs), statistics, list(styles), list(controls)
        self.crop_frames, self.reference_frames = crop_frames, reference_frames
        unknown = sorted({p.pair.style for p in self.pairs if p.pair.style} - set(self.styles))
        if unknown:
            raise InputError(f"styles without a single training pair: {', '.join(unknown)}")
        self._ends = torch.tensor([p.frames for p in self.pairs]).cumsum(0)
        self._chains: dict[str, list[int]] = defaultdict(list)
        for index, item in enumerate(self.pairs):
            if item.pair.chain:
                self._chains[item.pair.chain].append(index)

    def numbered(self, number: int, *, seed: int, purpose: str) -> Example:
        return self.example(generator_for(seed, purpose, number))

    def example(self, generator: torch.Generator) -> Example:
        """One crop, with every second of the split equally likely; short pairs are padded and masked.

        raw, mix [latent crop_frames]; frame_mask [crop_frames], True where there is audio; style, −1 for none;
        reference [latent reference_frames] and its number of valid frames, 0 for none; controls [controls].
        """
        total = int(self._ends[-1])
        index = int(torch.searchsorted(self._ends, torch.randint(total, (), generator=generator), right=True))
        item = self.pairs[index]
        start = int(torch.randint(max(1, item.frames - self.crop_frames + 1), (), generator=generator))
        stop = min(start + self.crop_frames, item.frames)
        raw, mix = self._read(item.raw, start, stop), self._read(item.mix, start, stop)
        mask = torch.arange(self.crop_frames) < stop - start
        reference = self._reference(index, start, stop, generator)
        style = item.pair.style
        return {
            "raw": pad(raw, self.crop_frames),
            "mix": pad(mix, self.crop_frames),
            "frame_mask": mask,
            "style": torch.tensor(self.styles.index(style) if style else -1),
            "reference": pad(reference, self.reference_frames),
            "reference_frames": torch.tensor(reference.shape[1]),
            "controls": (item.controls(self.controls) - self.statistics.control_mean) / self.statistics.control_std,
        }

    def _read(self, recording: Recording, start: int, stop: int) -> torch.Tensor:
        mean, std = self.statistics.latent_mean[:, None], self.statistics.latent_std[:, None]
        return (recording.read(start, stop) - mean) / std

    def _reference(self, index: int, start: int, stop: int, generator: torch.Generator) -> torch.Tensor:
        """What the style is read from: another mix of the same chain, else a part of this mix outside the crop.

        Never the crop itself, or the model would learn to look the answer up. [latent frames], 0 frames for none.
        """
        item, length = self.pairs[index], self.reference_frames
        others = [other for other in self._chains.get(item.pair.chain or "", []) if other != index]
        if others:
            mix = self.pairs[others[int(torch.randint(len(others), (), generator=generator))]].mix
            at = int(torch.randint(max(1, mix.frames - length + 1), (), generator=generator))
            return self._read(mix, at, min(at + length, mix.frames))
        before, after = max(0, start - length + 1), max(0, item.frames - length - stop + 1)
        if before + after == 0:
            return self._read(item.mix, 0, 0)
        at = int(torch.randint(before + after, (), generator=generator))
        at = at if at < before else stop + at - before
        return self._read(item.mix, at, at + length)


def pad(latents: torch.Tensor, frames: int) -> torch.Tensor:
    """[latent up to frames] with zeros behind, [latent frames]."""
    return torch.nn.functional.pad(latents, (0, frames - latents.shape[1]))
