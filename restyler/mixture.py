"""Training examples from prepared data sets, several of them mixed by weight: what example n shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from audio.errors import InputError
from audio.features import FEATURES
from restyler.data import Example, Statistics, pad
from restyler.prepared import PreparedSplit, Stretch
from restyler.seeds import generator


@dataclass(frozen=True)
class Turn:
    """What an example shows: a segment of a set, in that set's so manieth epoch."""

    set: int
    epoch: int
    segment: int


def turn(number: int, *, counts: Sequence[int], weights: Sequence[int], seed: int, purpose: str) -> Turn:
    """Example `number` of a run over sets of `counts` segments, mixed by `weights`: a pure function, so that nothing
    but the number has to be known to go on after a stop, or to share the work.

    Any sum(weights) examples in a row hold weights[k] of set k. Of each set, every segment comes once per epoch, in an
    order that differs from epoch to epoch.
    """
    sets, before = _turns(tuple(weights), seed, purpose)
    rounds, place = divmod(number, len(sets))
    which = int(sets[place])
    epoch, position = divmod(rounds * weights[which] + int(before[place]), counts[which])
    return Turn(which, epoch, int(_order(counts[which], seed, purpose, which, epoch)[position]))


@lru_cache(maxsize=8)
def _turns(weights: tuple[int, ...], seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """The order in which sets take turns, each as often as its weight says, the same in every round; and how often the
    set of each place had its turn before in the round."""
    sets = np.repeat(np.arange(len(weights)), weights)
    sets = sets[torch.randperm(len(sets), generator=generator(seed, purpose, "sets")).numpy()]
    before = np.zeros(len(sets), np.int64)
    for which in range(len(weights)):
        places = np.flatnonzero(sets == which)
        before[places] = np.arange(len(places))
    return sets, before


# Orders in use: of each set the present epoch and the one before, as a batch may lie across two. An order of all epochs
# would fill the memory of every worker, and what is computed for every example would cost more than the example.
_orders: dict[tuple[int, int, str, int], dict[int, np.ndarray]] = {}


def _order(count: int, seed: int, purpose: str, which: int, epoch: int) -> np.ndarray:
    """The segments of a set in the order of an epoch."""
    kept = _orders.setdefault((count, seed, purpose, which), {})
    if epoch not in kept:
        order = torch.randperm(count, generator=generator(seed, purpose, "order", which, epoch))
        while len(kept) > 1:
            kept.pop(next(iter(kept)))
        kept[epoch] = order.numpy().astype(np.int32)
    return kept[epoch]


class PreparedExamples:
    """One split of one or several sets. An example is a pure function of seed, purpose and number.

    Styles are known by name across sets; chains belong to their own set, where alone a name is sure to mean one sound.
    """

    def __init__(
        self,
        splits: Sequence[PreparedSplit],
        weights: Sequence[int],
        *,
        statistics: Statistics,
        styles: Sequence[str],
        controls: Sequence[str],
        crop_frames: int,
        reference_frames: int,
        frame_rate_hz: float,
    ) -> None:
        self.splits, self.weights, self.statistics = list(splits), list(weights), statistics
        self.styles, self.crop_frames, self.reference_frames = list(styles), crop_frames, reference_frames
        self.frame_rate_hz = frame_rate_hz
        unknown = sorted({style for split in self.splits for style in split.styles} - set(self.styles))
        if unknown:
            raise InputError(f"styles without a single training pair: {', '.join(unknown)}")
        self._style_numbers = [[self.styles.index(style) for style in split.styles] for split in self.splits]
        self._controls = [FEATURES.index(name) for name in controls]

    def numbered(self, number: int, *, seed: int, purpose: str) -> Example:
        """Example `number`: its segment by `turn`, with a random crop and one of the mixes; the fields are those of
        `LatentPairs.example`.

        Raises InputError where the data can't be read or are damaged.
        """
        counts = [len(split) for split in self.splits]
        shown = turn(number, counts=counts, weights=self.weights, seed=seed, purpose=purpose)
        split, segment = self.splits[shown.set], shown.segment
        draws = generator(seed, purpose, number)
        frames, rows = int(split.frames[segment]), split.first_row[segment : segment + 2].tolist()
        mix = _draw(rows[1] - rows[0], draws)
        start = _draw(max(1, frames - self.crop_frames + 1), draws)
        stop = min(start + self.crop_frames, frames)
        crop = Stretch(segment, 1 + mix, start, stop)
        reference = self._reference(split, rows[0] + mix, crop, draws)
        parts = [Stretch(segment, 0, start, stop), crop, *([reference] if reference else [])]
        raw, mixed, *others = (self._standardised(part) for part in split.read(parts))
        heard = others[0] if others else raw[:, :0]
        style = int(split.style[rows[0] + mix])
        controls = torch.from_numpy(split.controls[rows[0] + mix, self._controls])
        return {
            "raw": pad(raw, self.crop_frames),
            "mix": pad(mixed, self.crop_frames),
            "frame_mask": torch.arange(self.crop_frames) < stop - start,
            "style": torch.tensor(-1 if style < 0 else self._style_numbers[shown.set][style]),
            "reference": pad(heard, self.reference_frames),
            "reference_frames": torch.tensor(heard.shape[1]),
            "controls": (controls - self.statistics.control_mean) / self.statistics.control_std,
        }

    def _standardised(self, latents: np.ndarray) -> torch.Tensor:
        """float32 [frames latent] → [latent frames] in units of the statistics."""
        mean, std = self.statistics.latent_mean[:, None], self.statistics.latent_std[:, None]
        return (torch.from_numpy(latents).T - mean) / std

    def _reference(self, split: PreparedSplit, row: int, crop: Stretch, draws: torch.Generator) -> Stretch | None:
        """What the style is read from: another stretch of the same chain, else a part of this mix outside the crop.

        Never the moments of the crop, in whichever mix of its take: the model would learn to look the answer up.
        """
        length = self.reference_frames
        rows = split.same_chain(row)
        first = _draw(len(rows), draws)
        for step in range(len(rows)):
            other = int(rows[(first + step) % len(rows)])
            segment = int(split.row_segment[other])
            if not self._overlap(split, segment, crop):
                frames = int(split.frames[segment])
                at = _draw(max(1, frames - length + 1), draws)
                mix = other - int(split.first_row[segment])
                return Stretch(segment, 1 + mix, at, min(at + length, frames))
        frames = int(split.frames[crop.segment])
        before, after = max(0, crop.start - length + 1), max(0, frames - length - crop.stop + 1)
        if before + after == 0:
            return None
        at = _draw(before + after, draws)
        at = at if at < before else crop.stop + at - before
        return Stretch(crop.segment, crop.array, at, at + length)

    def _overlap(self, split: PreparedSplit, segment: int, crop: Stretch) -> bool:
        """Whether a segment is of the crop's take and shares moments with it; the crop's own segment does."""
        if segment == crop.segment:
            return True
        if split.take[segment] != split.take[crop.segment]:
            return False
        ours_s = split.start_s[crop.segment] + np.array([crop.start, crop.stop]) / self.frame_rate_hz
        theirs_s = split.start_s[segment] + np.array([0, split.frames[segment]]) / self.frame_rate_hz
        return bool(ours_s[0] < theirs_s[1] and theirs_s[0] < ours_s[1])


def _draw(count: int, draws: torch.Generator) -> int:
    """One of 0 … count − 1."""
    return int(torch.randint(count, (), generator=draws))
