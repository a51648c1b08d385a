"""All rows of the benchmark, in the order of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from restyler.evaluate.hybrid_row import (
    AND_SOFT_PLATE,
    SOFT_PLATE_WHAT,
    finished_with_plate,
    hybrid_rows,
    raw_with_plate_row,
)
from restyler.evaluate.matchering_row import installed, matchering_row
from restyler.evaluate.model_rows import Finish, average_row, codec_rows, sampled_rows
from restyler.evaluate.preset_rows import Fit, fitted_rows
from restyler.evaluate.row import Row, on_second_half
from restyler.pipeline import VocalRestylePipeline
from restyler.settings import SPACE
from restyler.way_names import CODEC, RESIDUAL

UNREFERRED = (f"ours, average answer, {RESIDUAL}", f"ours, {RESIDUAL}")  # what a reference has to make nearer


def all_rows(
    pipeline: VocalRestylePipeline | None,
    *,
    finishes: Mapping[str, Finish],
    fit: Fit,
    presets: Sequence[Row],
    deterministic: Sequence[Row],
    draws: int,
    seed: int,
) -> list[Row]:
    """First what every table needs around it, then the model's own rows; what is scored on the second half comes last.

    pipeline: the model; None where others' renders alone are scored. presets, deterministic: their rows
    (`deterministic_rows`), if there are any. The row of Matchering is left out where its package is not installed. The
    best of the random presets, and of a model's samples, is found among the draws of one row.
    """
    rows = [Row("raw take", "the raw take as it is (floor)", lambda song: [song.take])]
    if pipeline is not None:
        rows += codec_rows(pipeline)
    rows += presets
    around = list(rows)
    rows.append(raw_with_plate_row())
    rows += fitted_rows(fit)
    rows += deterministic
    if pipeline is not None:
        what = "the model's one answer without chance: nothing told, lowest σ, one step"
        rows += _answers(pipeline, "ours, average answer", what, finishes)
        sampled = sampled_rows(pipeline, finishes, draws=draws, seed=seed)
        rows += sampled
        if SPACE in pipeline.defaults.controls and RESIDUAL in finishes:
            (own,) = (row for row in sampled if row.name == UNREFERRED[1])
            rows += hybrid_rows(pipeline, finishes[RESIDUAL], own, draws=draws, seed=seed)
        around += [row for row in rows if row.name in UNREFERRED]
    if installed():
        rows.append(matchering_row())
    whole = [row for row in rows if row.scored_s is None]
    half = [row for row in rows if row.scored_s is not None]
    return [*whole, *map(on_second_half, around), *half]


def deterministic_rows(pipeline: VocalRestylePipeline, finishes: Mapping[str, Finish]) -> list[Row]:
    """Of a model trained to give one answer, which is taken at its word.

    finishes: its own, at the strength of the model beside it: finished otherwise, the rows could not be compared.
    """
    name, what = "deterministic network", "a network trained to give one answer"
    rows = _answers(pipeline, name, what, finishes)
    if RESIDUAL in finishes:
        finish = finished_with_plate(finishes[RESIDUAL])
        rows.append(average_row(pipeline, f"hybrid, {name} {AND_SOFT_PLATE}", f"{what}, and {SOFT_PLATE_WHAT}", finish))
    return rows


def _answers(pipeline: VocalRestylePipeline, name: str, what: str, finishes: Mapping[str, Finish]) -> list[Row]:
    ways = [way for way in (CODEC, RESIDUAL) if way in finishes]
    return [average_row(pipeline, f"{name}, {way}", what, finishes[way]) for way in ways]
