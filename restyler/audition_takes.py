"""Which takes of the validation split a run restyles to be heard: the same ones whatever else is in the data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from audio.errors import InputError
from audio.io import MIN_DURATION_S, blocks
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.audition import Audition, levelled
from restyler.listening import ListenedTake, read_listened, read_listening
from restyler.pairs import Pair, fraction
from restyler.prepared import PreparedSet
from restyler.storage import Storage

T = TypeVar("T")
R = TypeVar("R")
Found = tuple[str, str | None, Waveform, Waveform]  # key, style, raw, mix
LONGEST_NAME = 80
SEARCHED_S = 120.0


@dataclass(frozen=True)
class Candidate(Generic[T]):
    """take, style: what the takes to be heard shall differ in. poor: comes after those that aren't. rank: orders the
    candidates of one take and style."""

    item: T
    take: str
    style: str | None
    poor: bool
    rank: tuple[Any, ...]


def choose(candidates: Sequence[Candidate[T]], count: int, use: Callable[[T], R | None]) -> list[R]:
    """What `use` makes of up to `count` items. One of which it makes nothing (None) is passed over.

    Every take comes before any comes again, and styles in equal shares; else a hash of the take decides, so that other
    takes which come or go change little.
    """
    left = [(fraction(one.take), one) for one in candidates]
    takes: Counter[str] = Counter()
    styles: Counter[str | None] = Counter()
    made: list[R] = []
    while left and len(made) < count:
        _, place = min(
            ((takes[one.take], one.poor, styles[one.style], chance, one.rank), place)
            for place, (chance, one) in enumerate(left)
        )
        _, chosen = left.pop(place)
        result = use(chosen.item)
        if result is not None:
            takes[chosen.take] += 1
            styles[chosen.style] += 1
            made.append(result)
    return made


def auditions_of_pairs(
    pairs: Sequence[Pair], *, takes: int, take_s: float, sample_rate: int, loudness_lufs: float
) -> list[Audition]:
    """Up to `takes` of the validation pairs among `pairs`, of each the stretch of take_s with the most energy within
    its first two minutes, or the first one after them with any; files are read no further than that.

    Raises InputError for a file that can't be read, and where no pair has a stretch with sound on both sides.
    """
    if not takes:
        return []
    candidates = [
        Candidate(pair, pair.key, pair.style, False, (str(pair.mix),)) for pair in pairs if pair.split == "validation"
    ]

    def sounding(pair: Pair) -> Found | None:
        sides = _sounding(pair, take_s, sample_rate, loudness_lufs)
        return sides and (pair.key, pair.style, *sides)

    found = choose(candidates, takes, sounding)
    if not found:
        raise InputError(f"none of {len(candidates)} validation pairs has {MIN_DURATION_S:g} s of sound to restyle")
    return _named(found)


def auditions_of_sets(sets: Sequence[PreparedSet], *, takes: int, take_s: float) -> list[Audition]:
    """Up to `takes` of those that the sets keep for listening, each set's in turn, of each its first take_s.

    Sets without a validation split have none. Raises InputError for a set that has one and was prepared before audio
    was kept, for files that are gone or damaged, and where no set keeps any.
    """
    if not takes:
        return []
    kept: list[list[tuple[Storage, ListenedTake]]] = [
        [(one.storage, take) for take in read_listening(one.storage).takes]
        for one in sets
        if one.dataset.shards.validation
    ]
    found: list[Found] = []
    for storage, take in (entry for turn in zip_longest(*kept) for entry in turn if entry is not None):
        raw, mix = (read_listened(storage, file) for file in (take.raw, take.mix))
        length = round(take_s * raw.sample_rate)
        sides = _both_levelled(_cut(raw, length), _cut(mix, length), sets[0].dataset.loudness_lufs)
        if sides is not None:  # else one of them begins only later
            found.append((take.key, take.style, *sides))
        if len(found) == takes:
            break
    if not found:
        raise InputError(
            f"{', '.join(one.url for one in sets)}: no audio was kept for listening (listening.takes of restyler"
            " prepare): prepare again with some, or set validation.takes=0"
        )
    return _named(found)


def _named(found: Sequence[Found]) -> list[Audition]:
    names = audition_names([(key, style) for key, style, _, _ in found])
    return [Audition(name, raw, mix, style) for name, (_, style, raw, mix) in zip(names, found, strict=True)]


def audition_names(told: Sequence[tuple[str, str | None]]) -> list[str]:
    """A name for every (key, style): printable, fit for a file, and unique."""
    names: list[str] = []
    for key, style in told:
        text = key if style is None else f"{key}, {style}"
        plain = "".join(sign if sign.isprintable() and sign not in '/\\:*?"<>|' else "_" for sign in text)
        plain = plain[:LONGEST_NAME].strip(" .") or "take"
        name, number = plain, 2
        while name.casefold() in {other.casefold() for other in names}:  # some file systems ignore case
            name, number = f"{plain} ({number})", number + 1
        names.append(name)
    return names


def _sounding(pair: Pair, take_s: float, sample_rate: int, loudness_lufs: float) -> tuple[Waveform, Waveform] | None:
    """The stretch of a pair that is heard, both sides at loudness_lufs; None where one side is silent throughout."""
    best, most = None, 0.0
    for number, (raw, mix) in enumerate(zip(stretches(pair.raw, take_s), stretches(pair.mix, take_s), strict=False)):
        energy = float(raw.samples.double().square().sum())
        long_enough = min(raw.duration_s, mix.duration_s) >= MIN_DURATION_S
        if energy > most and long_enough and min(map(integrated_loudness_lufs, (raw, mix))) > -math.inf:
            best, most = (raw, mix), energy
        if best is not None and (number + 1) * take_s >= SEARCHED_S:
            break
    if best is None:
        return None
    raw, mix = (side.stereo().resampled(sample_rate) for side in best)
    length = min(raw.samples.shape[1], mix.samples.shape[1])
    return _both_levelled(_cut(raw, length), _cut(mix, length), loudness_lufs)


def stretches(path: Path, length_s: float) -> Iterator[Waveform]:
    """A file in stretches of length_s one after the other, the last one perhaps shorter.

    It is read from its start: seeking lands samples off in MP3 and others, and two sides would no longer be in time.
    """
    held: torch.Tensor | None = None
    sample_rate, number = 0, 0
    for block in blocks(path):
        held = block.samples if held is None else torch.cat([held, block.samples], dim=1)
        sample_rate = block.sample_rate
        while held.shape[1] >= (
            length := _edge(number + 1, length_s, sample_rate) - _edge(number, length_s, sample_rate)
        ):
            yield Waveform(held[:, :length], sample_rate)
            held, number = held[:, length:], number + 1
    if held is not None and held.shape[1]:
        yield Waveform(held, sample_rate)


def _edge(number: int, length_s: float, sample_rate: int) -> int:
    """The first sample of a stretch: the same moment, to half a sample, at any rate."""
    return round(number * length_s * sample_rate)


def _both_levelled(raw: Waveform, mix: Waveform, loudness_lufs: float) -> tuple[Waveform, Waveform] | None:
    sides = levelled(raw, loudness_lufs), levelled(mix, loudness_lufs)
    return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])


def _cut(waveform: Waveform, samples: int) -> Waveform:
    return Waveform(waveform.samples[:, :samples], waveform.sample_rate)
