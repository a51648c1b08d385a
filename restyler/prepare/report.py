"""What became of every file: report.json for programs, report.html for people."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audio.io import write_text_atomic
from restyler.dataset_index import CodecFacts
from restyler.prepare.judging import Judged
from restyler.prepare.plan import PlannedSegment
from restyler.prepare.report_page import page
from restyler.prepare.verdicts import Verdict


def write_report(out: Path, judged: Judged, codec: CodecFacts, *, finished: bool) -> None:
    """Writes OUT/report.json and OUT/report.html. finished: whether the latents are all there."""
    content = report(judged, codec, finished=finished)
    write_text_atomic(out / "report.json", json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n")
    write_text_atomic(out / "report.html", page(content))


def report(judged: Judged, codec: CodecFacts, *, finished: bool) -> dict[str, Any]:
    """The content of report.json: `pairs`, one object for each, `files`, one for each file that was found or named, and
    `minutes` of raw takes that are used, by split, song, singer and style."""
    of_pair: dict[str, list[PlannedSegment]] = defaultdict(list)
    for segment in judged.segments:
        for mix in segment.mixes:
            of_pair[mix.key].append(segment)
    return {
        "finished": finished,
        "codec": codec.model_dump(),
        "pairs": [_pair(verdict, of_pair[verdict.pair.key], codec.frame_rate_hz) for verdict in judged.verdicts],
        "files": list(_files(judged)),
        "minutes": _minutes(judged, codec),
        "faults": dict(sorted(Counter(fault.code for v in judged.verdicts for fault in v.faults).items())),
    }


def _pair(verdict: Verdict, segments: Sequence[PlannedSegment], frame_rate_hz: float) -> dict[str, Any]:
    pair = verdict.pair
    row: dict[str, Any] = {
        "key": pair.key,
        "status": verdict.status,
        "faults": [fault.code for fault in verdict.faults],
        "reasons": {fault.code: fault.reason for fault in verdict.faults},
        "take": pair.take,
        "raw": str(pair.raw),
        "mix": str(pair.mix),
        "song": pair.song,
        "singer": pair.singer,
        "style": pair.style,
        "segments": [
            [round(edge / frame_rate_hz, 3) for edge in (segment.start_frame, segment.stop_frame)]
            for segment in segments
        ],
        "seconds": round(sum(segment.frames for segment in segments) / frame_rate_hz, 2),
    }
    if segments:
        take = segments[0].take
        mix = next(mix for mix in segments[0].mixes if mix.key == pair.key)
        row |= {"split": take.split, "raw_gain_db": round(take.gain_db, 3), "mix_gain_db": round(mix.gain_db, 3)}
    if verdict.alignment is not None:
        row["alignment"] = asdict(verdict.alignment)
    if verdict.measures is not None:
        row["measures"] = asdict(verdict.measures)
    for side, heard in (("raw", verdict.raw), ("mix", verdict.mix)):
        if heard is not None:
            row[f"{side}_heard"] = {
                k: v for k, v in heard.to_record().items() if k not in ("levels", "dropout_times_s")
            }
    return row


def _files(judged: Judged) -> Iterator[dict[str, Any]]:
    """Every file once: used, rejected or unreadable with its pairs, or why it is in none."""
    fates: dict[str, dict[str, Any]] = {}
    for verdict in judged.verdicts:
        reason = next((fault.reason for fault in verdict.faults if fault.action == "reject"), "")
        for side, path in (("raw", verdict.pair.raw), ("mix", verdict.pair.mix)):
            unreadable = next((fault.reason for fault in verdict.faults if fault.code == f"unreadable_{side}"), "")
            fate = "unreadable" if unreadable else "rejected" if reason else "used"
            new = {"path": str(path), "side": side, "fate": fate, "reason": unreadable or reason, "pairs": []}
            row = fates.setdefault(str(path), new)
            row["pairs"].append(verdict.pair.key)
            if fate == "used":  # with one of its mixes at least
                row |= {"fate": fate, "reason": ""}
    yield from fates.values()
    for one in judged.leftovers:
        yield {"path": str(one.path), "side": None, "fate": one.code, "pairs": [], "reason": one.reason}


def _minutes(judged: Judged, codec: CodecFacts) -> dict[str, dict[str, float]]:
    """Minutes of raw takes in segments, by split, song and singer, and of mixes by style; "" is what was not told."""
    totals: dict[str, dict[str, float]] = {name: defaultdict(float) for name in ("split", "song", "singer", "style")}
    for segment in judged.segments:
        minutes = segment.frames / codec.frame_rate_hz / 60
        take = segment.take
        for name, value in (("split", take.split), ("song", take.song), ("singer", take.singer)):
            totals[name][value or ""] += minutes
        for mix in segment.mixes:
            totals["style"][mix.style or ""] += minutes
    return {
        name: {key: round(minutes, 3) for key, minutes in sorted(values.items())} for name, values in totals.items()
    }
