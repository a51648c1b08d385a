"""All rows of the benchmark, in the order of its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from restyler.evaluate.matchering_row import installed, matchering_row
from restyler.evaluate.model_rows import Finish, average_row, codec_rows, sampled_rows
from restyler.evaluate.preset_rows import Fit, fitted_rows, preset_rows
from restyler.evaluate.row import Row, on_second_half
from restyler.pipeline import VocalRestylePipeline


def all_rows(
    pipeline: VocalRestylePipeline | None,
    *,
    finishes: Mapping[str, Finish],
    fit: Fit,
    presets: Path | None,
    deterministic: VocalRestylePipeline | None,
    draws: int,
    seed: int,
) -> list[Row]:
    """First what every table needs around it, then the model's own rows; what is scored on the second half comes last.

    pipeline: the model; None where others' renders alone are scored. presets: a `decoded.csv`; its rows are left out
    without one. deterministic: a model trained to give one answer, which is then taken at its word. The row of
    Matchering is left out where its package is not installed. The best of the random presets, and of a model's samples,
    is found among the draws of one row.

    Raises InputError where `preset_rows` does.
    """
    rows = [Row("raw take", "the raw take as it is (floor)", lambda song: [song.take])]
    if pipeline is not None:
        rows += codec_rows(pipeline)
    if presets is not None:
        rows += preset_rows(presets, draws=draws, seed=seed)
    around = list(rows)
    rows += fitted_rows(fit)
    if deterministic is not None:
        rows.append(average_row(deterministic, "deterministic network", "a network trained to give one answer"))
    if pipeline is not None:
        what = "the model's one answer without chance: nothing told, lowest σ, one step"
        rows.append(average_row(pipeline, "ours, average answer", what))
        rows += sampled_rows(pipeline, finishes, draws=draws, seed=seed)
    if installed():
        rows.append(matchering_row())
    whole, half = ([row for row in rows if (row.scored_s is None) == whole] for whole in (True, False))
    return [*whole, *map(on_second_half, around), *half]
