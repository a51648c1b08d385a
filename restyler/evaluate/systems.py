"""The rows that a call asks for, and what each of them depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from audio.errors import InputError
from audio.waveform import Waveform
from restyler.command import shown
from restyler.evaluate.evaluation_set import Entry, Song
from restyler.evaluate.finishes import finishes, fit
from restyler.evaluate.preset_rows import preset_rows
from restyler.evaluate.row import Row
from restyler.evaluate.rows import all_rows, deterministic_rows
from restyler.evaluate.student_row import student_row
from restyler.model_folder import BUNDLED
from restyler.rendering import load_model, model_name
from restyler.student.files import load_student

PRESET_FILES = ("raw_params.npy", "train_index.npy")  # beside a table of presets


@dataclass(frozen=True)
class Systems:
    """rows: in table order, names unique. depends: for each, what its renders depend on beside the pair. facts: which
    model and presets these are, for the report."""

    rows: Sequence[Row]
    depends: Mapping[str, str]
    facts: Mapping[str, str | None]


def load_systems(
    entries: Sequence[Entry],
    *,
    model: Path | None,
    others: bool,
    presets: Path | None,
    deterministic: Path | None,
    student: Path | None = None,
    draws: int,
    seed: int,
    device: str,
) -> Systems:
    """Every row: those around a claim, a model's, and the entries' renders of other systems.

    others: files are to be scored, so the bundled model is no row unless it is named as `model`. Raises InputError for
    a folder that is no model, a bad table of presets, and a system called like a row of ours.
    """
    folder = model or (None if others else BUNDLED)
    pipeline, single = (load_model(one, device) if one is not None else None for one in (folder, deterministic))

    # All at one strength: with some of the take in it, and with what the codec lost, any answer is nearer.
    strength = next((one.defaults.strength for one in (pipeline, single) if one is not None), 1.0)
    ways = finishes(pipeline, strength=strength) if pipeline is not None else {}
    singles = deterministic_rows(single, finishes(single, strength=strength)) if single is not None else []
    of_presets = preset_rows(presets, draws=draws, seed=seed) if presets is not None else []
    rows_of = partial(all_rows, finishes=ways, fit=fit, presets=of_presets, draws=draws, seed=seed)

    facts = {
        "model": model_name(folder) if folder is not None else None,
        "deterministic": model_name(deterministic) if deterministic is not None else None,
        "presets": _presets_name(presets) if presets is not None else None,
        "student": model_name(student) if student is not None else None,
    }
    ours = rows_of(pipeline, deterministic=singles)
    shared = f"{facts['presets']}, {draws} draws from seed {seed}"
    depends = {row.name: f"{shared}, {facts['model']}, {facts['deterministic']}" for row in ours}
    depends |= {row.name: shared for row in rows_of(None, deterministic=[])}  # a changed model changes nothing in these
    if student is not None:
        live = student_row(load_student(student))
        ours.append(live)
        depends[live.name] = f"{facts['student']}"
    theirs = render_rows(entries)
    for row in theirs:
        if row.name in depends:
            raise InputError(f"a folder of renders can't be called «{shown(row.name)}»: a row of ours has that name")
    depends |= {row.name: "files" for row in theirs}
    whole = [row for row in ours if row.scored_s is None]
    return Systems([*whole, *theirs, *(row for row in ours if row.scored_s is not None)], depends, facts)


def chosen(rows: Sequence[Row], patterns: Sequence[str] | None) -> list[Row]:
    """The rows whose names match one of the patterns (`*`: any text). Raises InputError for a pattern without a row."""
    if patterns is None:
        return list(rows)
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            raise InputError(f"--rows: no row {pattern!r} (allowed: {'; '.join(shown(row.name) for row in rows)})")
    return [row for row in rows if any(fnmatchcase(row.name, pattern) for pattern in patterns)]


def render_rows(entries: Sequence[Entry]) -> list[Row]:
    """A row for each other system whose files the entries hold."""

    def draws(name: str, song: Song) -> Sequence[Waveform]:
        return song.renders[name]

    return [Row(name, "rendered elsewhere, read from files", partial(draws, name)) for name in entries[0].renders]


def _presets_name(table: Path) -> str:
    """Names the table by its content: a hash over it and the files that belong to it."""
    files = [table, *(path for name in PRESET_FILES if (path := table.with_name(name)).is_file())]
    try:
        data = b"".join(path.read_bytes() for path in files)
    except OSError as error:
        raise InputError(f"{shown(table)}: cannot be read: {error.strerror}") from None
    return f"{table.name} {hashlib.sha256(data).hexdigest()[:12]}"
