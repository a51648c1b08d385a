"""One pair after another for `restyler distil`, and the folder that they are kept in."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from audio import io
from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.command import shown
from restyler.pairs import split_of
from restyler.phrases import Phrase, Recording, read_phrase
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import render
from restyler.student.knobs import KNOBS, Knobs, as_row
from restyler.way_names import RESIDUAL

DISTILLATION, PAIRS = "distillation.json", "pairs.jsonl"
LOUDNESS_LUFS = -24.0  # both sides: so low that no mix has to be quieter for its peaks
TAIL_S = 0.5  # of silence after a take, in which its mix rings out
HELD_OUT = 0.1  # share of the voices that validate
LARGE_SHARE = 0.1  # of all sound; such a voice is never held out by chance


def distilled(
    pipeline: VocalRestylePipeline, phrase: Phrase, knobs: Knobs, styles: Sequence[str], *, seed: int, out: Path
) -> dict[str, Any] | None:
    """Writes the take and the sampler's mix of it; the row for the manifest, None for a silent take."""
    rate = pipeline.codec.sample_rate
    voice = read_phrase(phrase, rate).samples
    take = Waveform(torch.cat([voice, torch.zeros(1, round(TAIL_S * rate))], dim=1), rate)
    loudness_lufs = integrated_loudness_lufs(take)
    if loudness_lufs == -float("inf"):
        return None
    take = Waveform(take.samples * 10 ** ((LOUDNESS_LUFS - loudness_lufs) / 20), rate)
    raw_name, mix_name = f"raw/{phrase.key}.flac", f"mix/{phrase.key}.flac"
    told = knobs.told(styles, pipeline.defaults)
    io.write(out / raw_name, take, tags={"singer": phrase.singer})
    (mix,) = render(
        pipeline,
        take,
        pipeline.settings(spread=0.0),
        seeds=[seed],
        said=[told],
        paths=[out / mix_name],
        tags={"singer": phrase.singer},
        way=RESIDUAL,
        strength=1.0,  # that knob the student has itself
    )
    sounds = {"key": phrase.key, "raw": raw_name, "mix": mix_name, "singer": phrase.singer, "seed": str(mix.seed)}
    return sounds | {"knobs": as_row(knobs), "limited": mix.limited, "styles": dict(told.styles)} | dict(told.controls)


def held_out_singers(recordings: Sequence[Recording], named: Sequence[str]) -> set[str]:
    """Those named, and of the others who have less than a tenth of all sound a tenth, by a hash of their names.

    Raises InputError for a name that no recording has.
    """
    seconds: dict[str, float] = {}
    for each in recordings:
        seconds[each.singer] = seconds.get(each.singer, 0.0) + each.duration_s
    unknown = [name for name in named if name not in seconds]
    if unknown:
        raise InputError(f"--hold-out: no recording is of {unknown[0]!r}")
    most_s = LARGE_SHARE * sum(seconds.values())
    by_chance = (name for name, own_s in seconds.items() if own_s < most_s)
    return {*named, *(name for name in by_chance if split_of(name, HELD_OUT) == "validation")}


def claim(out: Path, facts: dict[str, Any]) -> None:
    """Makes the folder, or takes up one with the same facts. Raises InputError for one with others."""
    wanted = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    kept = out / DISTILLATION
    if kept.exists() and kept.read_bytes() != wanted.encode():
        raise InputError(f"{shown(out)}: holds pairs of other voices, of another model or seed (see {DISTILLATION})")
    for name in ("raw", "mix"):
        io.make_folder(out / name)
    io.write_text_atomic(kept, wanted)


@contextmanager
def appended(out: Path) -> Iterator[BinaryIO]:
    """The manifest, to append lines to; a last line that was cut off is removed.

    Raises InputError where another process has it: both would make the same pairs.
    """
    with (out / PAIRS).open("ab") as sink:
        try:
            fcntl.flock(sink, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{shown(out)}: another `restyler distil` is at work there") from error
        sink.truncate((out / PAIRS).read_bytes().rfind(b"\n") + 1)
        yield sink


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the manifest; a last line that was cut off counts for nothing.

    Raises InputError for a folder without one, and for a damaged line.
    """
    path = folder / PAIRS
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}; `restyler distil` makes it") from None
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            _ = row["key"], row["raw"], row["mix"], row["split"], [float(row["knobs"][name]) for name in KNOBS]
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{shown(path)}, line {number}: not a pair that `restyler distil` made") from None
        rows.append(row)
    return rows
