"""Every pair through every row, each result kept at once; what is there already is not done again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audio.errors import InputError
from audio.io import make_folder, read, read_tags, write, write_text_atomic
from audio.waveform import Waveform
from restyler.command import shown
from restyler.evaluate.evaluation_set import Entry, Song
from restyler.evaluate.records import Record, code_digest, digest, file_digest, read_record, write_record
from restyler.evaluate.row import Row
from restyler.evaluate.scoring import score
from restyler.progress import Progress, Work
from restyler.report import Version, report_html

SCORES = "scores"  # folder of OUT that holds the records
RENDERS = "renders"  # and the one that holds what was rendered


@dataclass(frozen=True)
class Plan:
    """What is to be done. depends: for each row what its renders depend on beside the pair, as text.

    kept: write the renders too.
    """

    entries: Sequence[Entry]
    rows: Sequence[Row]
    depends: Mapping[str, str]
    aligned: bool
    kept: bool


def record_path(out: Path, entry: Entry, row: Row, plan: Plan) -> Path:
    """Where the record of a pair in a row lies: named by everything that it depends on."""
    files = [file_digest(path) for path in (entry.raw, entry.mix, *entry.renders.get(row.name, ()))]
    facts = (entry.key, entry.song, entry.style)
    return out / SCORES / f"{digest(files, facts, row.name, row.scored_s, plan.depends[row.name], plan.aligned)}.json"


def walk(out: Path, plan: Plan, progress: Progress) -> dict[str, list[Record]]:
    """The records of every row in the order of the entries, from OUT or made now.

    A pair is read once, for all of its rows. Raises InputError where a render is silent, naming row and pair, and where
    a file can't be written.
    """
    make_folder(out / SCORES)
    found: dict[str, list[Record]] = {row.name: [] for row in plan.rows}
    work = Work(len(plan.entries) * len(plan.rows), progress)
    for entry in plan.entries:
        song: Song | None = None
        for row in plan.rows:
            path = record_path(out, entry, row, plan)
            record = read_record(path)
            if record is None or (plan.kept and not _are_kept(kept_paths(out, entry, row, record), path)):
                song = song or entry.load()
                record = _made(out, path, entry, song, row, plan)
            found[row.name].append(record)
            work.add(1)
    return found


def _made(out: Path, path: Path, entry: Entry, song: Song, row: Row, plan: Plan) -> Record:
    try:
        record, renders = score(song, row.name, row.render, scored_s=row.scored_s, aligned=plan.aligned)
    except InputError as error:
        raise InputError(f"row «{row.name}», pair «{shown(entry.key)}»: {error}") from None
    if plan.kept:
        places = kept_paths(out, entry, row, record)
        for place, render in zip(places, renders, strict=True):
            make_folder(place.parent)
            peak = float(render.samples.abs().max())
            # What is over full scale has no place in a file of integers: it is turned down to fit.
            samples = render.samples / peak if peak > 1 else render.samples
            write(place, Waveform(samples, render.sample_rate), tags=_tags(path))
        for further in _further(out, entry, row, len(places)):
            further.unlink()
    record = replace(record, code=code_digest())
    write_record(path, record)
    return record


def kept_paths(out: Path, entry: Entry, row: Row, record: Record) -> list[Path]:
    """OUT/renders/ROW/KEY_00.flac, …: a folder that `restyler evaluate --renders` reads."""
    return [_kept_path(out, entry, row, draw) for draw in range(len(record.draws))]


def _kept_path(out: Path, entry: Entry, row: Row, draw: int) -> Path:
    return out / RENDERS / row.name.replace("/", "_") / f"{entry.key}_{draw:02d}.flac"


def _further(out: Path, entry: Entry, row: Row, draw: int) -> Iterator[Path]:
    """What an earlier evaluation with more draws left there, from this one on."""
    while (path := _kept_path(out, entry, row, draw)).exists():
        yield path
        draw += 1


def _tags(record_path: Path) -> dict[str, str]:
    return {"record": record_path.stem}


def _are_kept(places: Sequence[Path], record_path: Path) -> bool:
    """Whether they are the renders of this record, not those of another model under the same name."""
    try:
        return all(read_tags(place) == _tags(record_path) for place in places)
    except InputError:
        return False


def write_listening(out: Path, plan: Plan, records: Mapping[str, Sequence[Record]]) -> None:
    """OUT/listen/KEY.html: take, mix and the first draw of every row of a pair, level-matched."""
    for number, entry in enumerate(plan.entries):
        song = entry.load()
        versions = [Version("raw take", song.take), Version("mix", song.mix)]
        for row in plan.rows:
            for path in kept_paths(out, entry, row, records[row.name][number])[:1]:
                versions.append(Version(row.name, read(path)))
        page = out / "listen" / f"{entry.key}.html"
        make_folder(page.parent)
        write_text_atomic(page, report_html(entry.key, "Take, mix and the first draw of every row.", versions))
