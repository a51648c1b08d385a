"""From records to verdicts on all pairs, and from the pairs that are used to takes with splits and gains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from audio.activity import STEP_S, active
from audio.alignment import Alignment, Region
from audio.fingerprint import duplicates
from audio.inspection import Inspection
from audio.pair_quality import PairMeasures
from restyler.prepare.config import PrepareConfig
from restyler.prepare.examining import Record, Take, fingerprint_of, read_record
from restyler.prepare.matching import Leftover, Matched, Pair
from restyler.prepare.plan import PlannedMix, PlannedSegment, PlannedTake, plan_segments
from restyler.prepare.splits import assign_splits
from restyler.prepare.verdicts import Fault, Side, Verdict, file_faults, pair_faults

SIDES: tuple[Side, ...] = ("raw", "mix")


@dataclass(frozen=True)
class Judged:
    """Verdicts on all pairs in the order of their keys, the files in no pair, and the segments to be encoded."""

    verdicts: tuple[Verdict, ...]
    leftovers: tuple[Leftover, ...]
    segments: tuple[PlannedSegment, ...]


def judge(
    matched: Matched, takes: Sequence[Take], records: Path, config: PrepareConfig, *, frame_rate_hz: float
) -> Judged:
    """Every take must have been examined. Raises InputError for given splits that contradict each other."""
    found = {take.raw: read_record(take, records) for take in takes}
    verdicts = {}
    for pair in sorted(matched.pairs, key=lambda pair: pair.key):
        record = found[pair.raw]
        if record is None:
            reason = "the file changed while it was being read"
            verdicts[pair.key] = Verdict(pair, (Fault("unreadable_raw", "reject", reason),))
        else:
            verdicts[pair.key] = _verdict(pair, record, config)
    same = {side: _same_recordings(side, list(verdicts.values()), found) for side in ("raw", "mix")}
    for key, fault in _duplicate_faults(list(verdicts.values()), same, config):
        verdicts[key] = verdicts[key].with_fault(fault)
    used = [verdict for verdict in verdicts.values() if verdict.status != "rejected"]
    ties = [
        (one.pair.key, other.pair.key)
        for side, groups in same.items()
        for group in groups
        for one, other in pairwise([verdict for verdict in used if getattr(verdict.pair, side) in group])
    ]
    splits = assign_splits([verdict.pair for verdict in used], ties, **config.splits.model_dump())
    segments = [
        segment
        for take in _planned(used, splits, config)
        for segment in plan_segments(take, config.segments.rules(), frame_rate_hz)
    ]
    covered = {mix.key for segment in segments for mix in segment.mixes}
    for verdict in used:
        if verdict.pair.key not in covered:
            verdicts[verdict.pair.key] = verdict.with_fault(_too_short(config))
    return Judged(tuple(verdicts.values()), matched.leftovers, tuple(segments))


def _verdict(pair: Pair, record: Record, config: PrepareConfig) -> Verdict:
    faults: list[Fault] = []
    heard: list[Inspection | None] = []
    for side, path in zip(SIDES, (pair.raw, pair.mix), strict=True):
        file = record["files"][str(path)]
        if file["inspection"] is None:
            faults.append(Fault(f"unreadable_{side}", "reject", file["problem"]))
            heard.append(None)
        else:
            inspection = Inspection.from_record(file["inspection"])
            heard.append(inspection)
            faults += file_faults(side, inspection, config)
            if inspection.active_s < config.segments.shortest_s and not _nothing_to_compare(faults):
                faults.append(_too_short(config))
    raw, mix = heard
    compared = record["mixes"].get(str(pair.mix))
    if compared is None or _nothing_to_compare(faults):
        return Verdict(pair, tuple(faults), raw, mix)
    if compared["alignment"] is None:
        faults.append(Fault("wrong_pair", config.actions.wrong_pair, "no part of the mix follows the raw take"))
        return Verdict(pair, tuple(faults), raw, mix)
    found = compared["alignment"]
    alignment = Alignment(**{**found, "regions": tuple(Region(**region) for region in found["regions"])})
    measures = PairMeasures(**compared["measures"])
    faults += pair_faults(alignment, measures, config)
    return Verdict(pair, tuple(faults), raw, mix, alignment, measures)


def _nothing_to_compare(faults: Sequence[Fault]) -> bool:
    return any(fault.code in ("silent_raw", "silent_mix", "too_short") for fault in faults)


def _too_short(config: PrepareConfig) -> Fault:
    return Fault("too_short", "reject", f"nowhere {config.segments.shortest_s:g} s of activity that both sides have")


def _same_recordings(side: str, verdicts: Sequence[Verdict], records: dict[Path, Record | None]) -> list[set[Path]]:
    """Groups of two and more files of one side that hold the same recording."""
    marks: dict[str, np.ndarray] = {}
    hashes: dict[str, list[Path]] = defaultdict(list)
    for verdict in verdicts:
        heard: Inspection | None = getattr(verdict, side)
        path: Path = getattr(verdict.pair, side)
        record = records[verdict.pair.raw]
        if heard is not None and record is not None and str(path) not in marks:
            marks[str(path)] = fingerprint_of(record["files"][str(path)])
            hashes[heard.audio_hash].append(path)
    groups = {path: {path} for paths in hashes.values() for path in paths}
    alike = [(Path(one), Path(other)) for one, other, _ in duplicates(marks)]
    for one, other in [*alike, *(two for paths in hashes.values() for two in pairwise(paths))]:
        whole = groups[one] | groups[other]
        for path in whole:
            groups[path] = whole
    return [group for path, group in groups.items() if len(group) > 1 and path == min(group)]


def _duplicate_faults(
    verdicts: Sequence[Verdict], same: dict[str, list[set[Path]]], config: PrepareConfig
) -> Iterator[tuple[str, Fault]]:
    """For keys of pairs. Of pairs with the same recordings on both sides all but the first are duplicates; where only
    one side is the same, in two files, all are told."""

    first_file = {(side, path): min(group) for side in same for group in same[side] for path in group}

    def recording(pair: Pair, side: str) -> Path:
        """The file that stands for all with its recording."""
        path: Path = getattr(pair, side)
        return first_file.get((side, path), path)

    pairs = [verdict.pair for verdict in verdicts if verdict.raw is not None and verdict.mix is not None]
    first: dict[tuple[Path, Path], Pair] = {}
    by_side: dict[tuple[str, Path], list[Pair]] = defaultdict(list)
    for pair in pairs:
        both = recording(pair, "raw"), recording(pair, "mix")
        original = first.setdefault(both, pair)
        if original is not pair:
            yield pair.key, Fault("duplicate", config.actions.duplicate, f"the same recordings as «{original.key}»")
        for side, path in zip(("raw", "mix"), both, strict=True):
            by_side[side, path].append(pair)
    for (side, _), members in by_side.items():
        originals = [pair for pair in members if first[recording(pair, "raw"), recording(pair, "mix")] is pair]
        files = {getattr(pair, side): pair for pair in reversed(originals)}
        action = config.actions.duplicate_raw if side == "raw" else config.actions.duplicate_mix
        for pair in originals if len(files) > 1 else ():
            others = [other.key for path, other in files.items() if path != getattr(pair, side)]
            reason = f"the same recording as in {', '.join(map(repr, others))}"
            yield pair.key, Fault(f"duplicate_{side}", action, reason)


def _planned(used: Sequence[Verdict], splits: dict[str, str], config: PrepareConfig) -> Iterator[PlannedTake]:
    """Takes with their mixes, at the loudness of the set; one gain more where a true peak would pass the ceiling."""
    takes: dict[tuple[str, Path], list[Verdict]] = defaultdict(list)
    for verdict in used:
        takes[verdict.pair.take, verdict.pair.raw].append(verdict)
    for (key, path), verdicts in sorted(takes.items()):
        raw, pair = verdicts[0].raw, verdicts[0].pair
        assert raw is not None
        heard = [raw, *(verdict.mix for verdict in verdicts if verdict.mix is not None)]
        gains_db = [config.levels.loudness_lufs - one.loudness_lufs for one in heard]
        peaks_db = [one.true_peak_db + gain_db for one, gain_db in zip(heard, gains_db, strict=True)]
        safety_db = min(0.0, config.levels.peak_db - max(peaks_db))
        raw_gain_db, *mix_gains_db = (gain_db + safety_db for gain_db in gains_db)
        level_db = raw.level_db
        yield PlannedTake(
            key=key,
            path=path,
            content=raw.audio_hash,
            song=pair.song,
            singer=pair.singer,
            split=splits[pair.key],
            gain_db=raw_gain_db,
            active=active(level_db),
            level_db=level_db,
            step_s=STEP_S,
            mixes=tuple(
                PlannedMix(
                    key=verdict.pair.key,
                    path=verdict.pair.mix,
                    content=verdict.mix.audio_hash,
                    alignment=verdict.alignment,
                    gain_db=gain_db,
                    style=verdict.pair.style,
                    chain=verdict.pair.chain,
                )
                for verdict, gain_db in zip(verdicts, mix_gains_db, strict=True)
                if verdict.mix is not None and verdict.alignment is not None
            ),
        )
