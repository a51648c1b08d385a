"""What came out: report.json for programs, report.md for a README, report.html for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audio.io import write_text_atomic
from restyler.evaluate import summary
from restyler.evaluate.content import CONTENT
from restyler.evaluate.evaluation_set import Entry
from restyler.evaluate.fidelity import FIDELITY
from restyler.evaluate.page import page
from restyler.evaluate.records import Record, code_digest
from restyler.evaluate.summary import Line
from restyler.evaluate.tables import markdown, tables

SCHEMA = 1  # of report.json; counts up when a key changes its meaning


@dataclass(frozen=True)
class Part:
    """Rows that are scored over the same part of each pair, and the names of those with a role among them.

    records: of every row, in table order. bases: rows that the others are compared with, like with like: a best draw
    with the best of as many. floor, ceiling: what copying the take scores, and what the codec alone does. calibration:
    whose draws the diversity is compared with.
    """

    scored_s: tuple[float, float] | None
    what: Mapping[str, str]
    records: Mapping[str, Sequence[Record]]
    bases: Sequence[str]
    floor: str | None
    ceiling: str | None
    calibration: str | None


def write_report(out: Path, content: Mapping[str, Any]) -> None:
    """Writes OUT/report.json, report.md and report.html. Raises InputError where one can't be written."""
    write_text_atomic(out / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    found = tables(content)
    head = f"## {_title(content)}\n\n{_lead(content)}\n"
    what = [f"- {row['name']}: {row['what']}" for group in content["groups"] for row in group["rows"]]
    text = "\n".join([head, *map(markdown, found), "### Rows", "", *what, ""])
    # Names of files may hold bytes that are no UTF-8.
    write_text_atomic(out / "report.md", text.encode("utf-8", "backslashreplace").decode("utf-8"))
    write_text_atomic(out / "report.html", page(_title(content), _lead(content), content, found))


def report(
    entries: Sequence[Entry],
    parts: Sequence[Part],
    settings: Mapping[str, Any],
    *,
    absent: Sequence[str] = (),
    seed: int,
) -> dict[str, Any]:
    """The content of report.json: a function of its arguments, without clock or path. absent: rows that should be."""
    song_of = {entry.key: entry.song for entry in entries}
    processed = {entry.key: entry.song for entry in entries if not entry.unprocessed}
    return {
        "schema": SCHEMA,
        "settings": dict(settings),
        "absent": list(absent),
        "of_other_code": sum(
            record.code != code_digest() for part in parts for found in part.records.values() for record in found
        ),
        "pairs": [
            {"key": one.key, "song": one.song, "style": one.style, "unprocessed": one.unprocessed} for one in entries
        ],
        "quantities": [
            {"kind": kind, **asdict(one)}
            for kind, some in (("fidelity", FIDELITY), ("content", CONTENT))
            for one in some
        ],
        "groups": [_group(part, song_of, processed, seed=seed) for part in parts],
        "scores": [_scores(record) for part in parts for records in part.records.values() for record in records],
    }


def _group(part: Part, song_of: Mapping[str, str], processed: Mapping[str, str], *, seed: int) -> dict[str, Any]:
    scored = {record.key for found in part.records.values() for record in found}
    song_of, processed = ({key: one[key] for key in one if key in scored} for one in (song_of, processed))
    lines = [line for row, records in part.records.items() for line in summary.lines_of(row, records)]
    several = {row: found for row, found in part.records.items() if max(len(one.draws) for one in found) > 1}
    calibration = part.records[part.calibration] if part.calibration is not None else ()
    return {
        "scored_s": part.scored_s,
        "floor": part.floor,
        "ceiling": part.ceiling,
        "bases": list(part.bases),
        "rows": [
            {"name": row, "what": part.what[row], "pairs": len(found), "draws": max(len(one.draws) for one in found)}
            for row, found in part.records.items()
        ],
        "all": _subset(part, lines, song_of, seed=seed),
        "without_unprocessed": (
            _subset(part, lines, processed, seed=seed) if 0 < len(processed) < len(song_of) else None
        ),
        "diversity": {row: summary.diversity(found, calibration, seed=seed) for row, found in several.items()},
        "best_of_n": {row: summary.best_of_n_curve(found, seed=seed) for row, found in several.items()},
        "distribution": {row: summary.distribution(found) for row, found in part.records.items()},
    }


def _subset(part: Part, lines: Sequence[Line], song_of: Mapping[str, str], *, seed: int) -> dict[str, Any]:
    bases, records = part.bases, part.records
    return {
        "pairs": len(song_of),
        "songs": len(set(song_of.values())),
        "lines": [
            {
                "name": line.name,
                "row": line.row,
                "view": line.view,
                "estimates": summary.estimates(line, song_of, seed=seed),
                "differences": {
                    base: summary.differences(line, beside, song_of, seed=seed)
                    for base in bases
                    if base != line.row and (beside := _like(line, base, lines, records[base])) is not None
                },
                "by_pair": {
                    key: round(value, 6) for key, value in line.values[summary.CHOSEN_BY].items() if key in song_of
                },
            }
            for line in lines
        ],
    }


def _like(line: Line, base: str, lines: Sequence[Line], records: Sequence[Record]) -> Line | None:
    """What of the row `base` to compare with: the best of as many draws, or its one draw; None where it has fewer."""
    expected, *best = [one for one in lines if one.row == base]
    if line.draws == 1 or not best:
        return expected
    enough = line.draws <= min(len(record.draws) for record in records)
    return summary.best_of_line(base, records, line.draws) if enough else None


def _scores(record: Record) -> dict[str, Any]:
    """A record without how long it took and by which code: that is not the same twice."""
    left_out = ("mix_effects", "code")
    return {name: value for name, value in asdict(record).items() if name not in left_out}


def _title(content: Mapping[str, Any]) -> str:
    return f"Evaluation on {content['settings']['set']}"


def _lead(content: Mapping[str, Any]) -> str:
    songs = len({pair["song"] for pair in content["pairs"]})
    told = [f"{len(content['pairs'])} pairs of {songs} songs"]
    told += [f"{name} {value}" for name, value in content["settings"].items() if name != "set" and value is not None]
    absent = f" Rows that are not here: {'; '.join(content['absent'])}." if content["absent"] else ""
    old = content["of_other_code"]
    stale = f" {old} of {len(content['scores'])} results are of another version of the code." if old else ""
    return "; ".join(told) + "." + absent + stale
