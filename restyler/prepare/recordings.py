"""Files that hold the same recording under whatever name, format and level: what ties pairs, and what is twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from audio.fingerprint import duplicates
from restyler.prepare.config import PrepareConfig
from restyler.prepare.examining import Record, fingerprint_of
from restyler.prepare.verdicts import SIDES, Fault, Side, Verdict

SAME_SHARE = 0.7  # of the shorter recording: two copies have most of it in common, two excerpts of a session less


@dataclass(frozen=True)
class Same:
    """Two files with a recording in common, and how much of the shorter one that is, 0 … 1."""

    one: Path
    other: Path
    share: float


def same_recordings(verdicts: Sequence[Verdict], records: Mapping[Path, Record | None]) -> list[Same]:
    """All files of both sides that have some seconds in common: by their samples, or by their fingerprints.

    A take and its own mix are left out: of a light mix that is what it is.
    """
    marks: dict[str, np.ndarray] = {}
    paths: dict[str, Path] = {}
    hashes: dict[str, list[Path]] = defaultdict(list)
    own = {(verdict.pair.raw, verdict.pair.mix) for verdict in verdicts}
    for verdict in verdicts:
        record = records[verdict.pair.raw]
        for path, heard in ((verdict.pair.raw, verdict.raw), (verdict.pair.mix, verdict.mix)):
            if heard is not None and record is not None and str(path) not in marks:
                paths[str(path)] = path
                marks[str(path)] = fingerprint_of(record["files"][str(path)])
                hashes[heard.audio_hash].append(path)
    found = [Same(paths[match.first], paths[match.second], match.overlap) for match in duplicates(marks)]
    found += [Same(one, other, 1.0) for copies in hashes.values() for one, other in pairwise(sorted(copies))]
    return [same for same in found if not {(same.one, same.other), (same.other, same.one)} & own]


def ties(used: Sequence[Verdict], same: Sequence[Same]) -> Iterator[tuple[str, str]]:
    """Keys of pairs that have a recording, or a file, in common on whichever side."""
    of_file: dict[Path, list[str]] = defaultdict(list)
    for verdict in used:
        for path in (verdict.pair.raw, verdict.pair.mix):
            of_file[path].append(verdict.pair.key)
    for keys in of_file.values():
        yield from pairwise(keys)
    for each in same:
        if each.one in of_file and each.other in of_file:
            yield of_file[each.one][0], of_file[each.other][0]


def duplicate_faults(
    verdicts: Sequence[Verdict], same: Sequence[Same], config: PrepareConfig
) -> Iterator[tuple[str, Fault]]:
    """For keys of pairs. Where both sides are copies of another pair's, the one that can't be used anyway, or else the
    later key, is a duplicate; where one side is, in another file, both are told."""
    heard = {verdict.pair.key: verdict for verdict in verdicts if verdict.raw is not None and verdict.mix is not None}
    of_file: dict[tuple[Side, Path], list[str]] = defaultdict(list)
    for key, verdict in heard.items():
        of_file["raw", verdict.pair.raw].append(key)
        of_file["mix", verdict.pair.mix].append(key)

    def rank(key: str) -> tuple[bool, str]:
        return heard[key].status == "rejected", key

    alike: dict[tuple[str, str], set[Side]] = defaultdict(set)
    for (side, _), keys in list(of_file.items()):
        for one, other in product(keys, keys):  # mixes of one take
            if rank(one) < rank(other):
                alike[one, other].add(side)
    for side, each in product(SIDES, same):
        if each.share >= SAME_SHARE:
            for one, other in product(of_file.get((side, each.one), ()), of_file.get((side, each.other), ())):
                first, second = sorted((one, other), key=rank)
                alike[first, second].add(side)
    gone: set[str] = set()
    for (one, other), sides in sorted(alike.items(), key=lambda item: [rank(key) for key in item[0]]):
        if len(sides) == 2 and one not in gone and other not in gone:
            gone.add(other)
            yield other, Fault("duplicate", config.actions.duplicate, f"the same recordings as «{one}»")
    for (one, other), sides in sorted(alike.items()):
        (side, *more) = sides
        files = {getattr(heard[key].pair, side) for key in (one, other)}
        if more or len(files) == 1 or gone & {one, other}:
            continue
        action = config.actions.duplicate_raw if side == "raw" else config.actions.duplicate_mix
        for key, twin in ((one, other), (other, one)):
            yield key, Fault(f"duplicate_{side}", action, f"the same recording as in «{twin}»")
