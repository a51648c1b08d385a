"""From records to verdicts on all pairs, and from the pairs that are used to takes with splits and gains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio.alignment import Alignment, Region
from audio.inspection import Inspection
from audio.pair_quality import PairMeasures
from restyler.prepare.config import PrepareConfig
from restyler.prepare.examining import Record, Take, read_record, stamps_in
from restyler.prepare.matching import Leftover, Matched, Pair
from restyler.prepare.plan import PlannedMix, PlannedSegment, PlannedTake, plan_segments
from restyler.prepare.recordings import duplicate_faults, same_recordings, ties
from restyler.prepare.splits import assign_splits
from restyler.prepare.verdicts import SIDES, Fault, Verdict, file_faults, pair_faults


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
    same = same_recordings(list(verdicts.values()), found)
    for key, fault in list(duplicate_faults(list(verdicts.values()), same, config)):
        verdicts[key] = verdicts[key].with_fault(fault)
    used = [verdict for verdict in verdicts.values() if verdict.status != "rejected"]
    splits = assign_splits([verdict.pair for verdict in used], ties(used, same), **config.splits.model_dump())
    segments = [
        segment
        for take, level_db in _planned(used, found, splits, config)
        for segment in plan_segments(take, level_db, config.segments.rules(), frame_rate_hz=frame_rate_hz)
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


def _planned(
    used: Sequence[Verdict], records: Mapping[Path, Record | None], splits: dict[str, str], config: PrepareConfig
) -> Iterator[tuple[PlannedTake, np.ndarray]]:
    """Takes with their mixes at the loudness of the set, and the levels of their raw files. One gain more lowers a take
    and its mixes where a true peak would pass the ceiling."""
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
        raw_gain_db, *mix_gains_db = (round(gain_db + safety_db, 4) for gain_db in gains_db)
        planned = PlannedTake(
            key=key,
            path=path,
            content=raw.audio_hash,
            song=pair.song,
            singer=pair.singer,
            split=splits[pair.key],
            gain_db=raw_gain_db,
            stamps=stamps_in(records[path], [path, *(verdict.pair.mix for verdict in verdicts)]),
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
        yield planned, raw.level_db
