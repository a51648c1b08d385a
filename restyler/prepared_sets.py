"""The prepared data sets of a config, opened together: do they fit each other, the codec, and their own splits?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from audio.errors import InputError
from restyler.config import PreparedData
from restyler.pairs import SPLITS
from restyler.prepared import PreparedSet, PreparedSplit


@dataclass(frozen=True)
class WeightedSplit:
    """One split of every set that has segments in it, and the weights of these sets."""

    splits: list[PreparedSplit]
    weights: list[int]

    @property
    def segments(self) -> int:
        return sum(len(split) for split in self.splits)


@dataclass(frozen=True)
class PreparedSets:
    """styles: of the training splits, sorted. train_s: seconds of takes to train on. digest: of everything that
    training depends on, weights and order of the sets included."""

    sets: list[PreparedSet]
    train: WeightedSplit
    validation: WeightedSplit
    styles: list[str]
    loudness_lufs: float
    train_s: float
    digest: str


def open_sets(data: PreparedData, *, codec_fingerprint: str | None) -> PreparedSets:
    """Opens every set. codec_fingerprint: of the codec whose latents they must hold; None where any will do.

    Raises InputError for a set that is missing, damaged, of another codec or another loudness than the first, without
    training segments; for no validation segments at all; and for a recording in two splits.
    """
    sets = [PreparedSet(choice.path) for choice in data.sets]
    first = sets[0]
    for one in sets:
        found, loudness_lufs = one.dataset.codec.fingerprint, one.dataset.loudness_lufs
        if codec_fingerprint not in (found, None):
            raise InputError(
                f"{one.url}: prepared with the codec {found}, and codec of this config is {codec_fingerprint}:"
                " prepare the set with this codec, or train with the other"
            )
        if loudness_lufs != first.dataset.loudness_lufs:
            raise InputError(
                f"{one.url}: prepared at {loudness_lufs:g} LUFS, and {first.url} at {first.dataset.loudness_lufs:g}:"
                " sets that are mixed have one loudness"
            )
        if one.dataset.codec != first.dataset.codec:
            raise InputError(f"{one.url}: prepared with another codec than {first.url}")
        if not one.dataset.shards.train:
            raise InputError(f"{one.url}: no segment is in the train split")
    opened = {name: [one.split(name) for one in sets] for name in SPLITS}
    refuse_leaks(sets, opened)
    weights = [choice.weight for choice in data.sets]
    validation = [(split, weight) for split, weight in zip(opened["validation"], weights, strict=True) if len(split)]
    if not validation:
        raise InputError(f"{', '.join(one.url for one in sets)}: no segment is in the validation split")
    digest = hashlib.sha256(repr([(one.digest(), weight) for one, weight in zip(sets, weights, strict=True)]).encode())
    return PreparedSets(
        sets,
        WeightedSplit(opened["train"], weights),
        WeightedSplit([split for split, _ in validation], [weight for _, weight in validation]),
        sorted({style for split in opened["train"] for style in split.styles}),
        first.dataset.loudness_lufs,
        sum(shard.seconds for one in sets for shard in one.dataset.shards.train),
        digest.hexdigest()[:16],
    )


def refuse_leaks(sets: Sequence[PreparedSet], opened: dict[str, list[PreparedSplit]]) -> None:
    """Raises InputError where a take of one set, or one recording of all sets, is in two splits: what the model was
    trained on would validate it. Recordings are told by `audio_hash`, where segments carry it."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for split, parts in opened.items():
        for one, part in zip(sets, parts, strict=True):
            for key, audio_hash in part.takes.items():
                here = f"«{key}» of {one.url}"
                for identity in ((one.url, key), *([("", audio_hash)] if audio_hash else [])):
                    other_split, there = first.setdefault(identity, (split, here))
                    if other_split != split:
                        raise InputError(f"one recording in two splits: {there} in {other_split} and {here} in {split}")
