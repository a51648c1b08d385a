"""Answers as webMUSHRA would have written them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio.io import make_folder, write_text_atomic
from restyler.listen.answers import Answer
from restyler.listen.import_webmushra import COLUMNS, LISTENER, PAGE, TEST, UUID
from restyler.listen.plan import Kind, ListeningTest

FILES: dict[Kind, tuple[str, str]] = {
    "mushra": ("mushra.csv", "mushra"),
    "rating": ("lms.csv", "likert"),
    "abx": ("paired_comparison.csv", "paired_comparison"),
    "acr": ("lss.csv", "likert"),
}


def write_results(folder: Path, plan: ListeningTest, answers: Sequence[Answer]) -> list[str]:
    """FOLDER/mushra.csv, lms.csv, paired_comparison.csv, lss.csv, as kinds were asked. Returns lines on what was done.

    The questionnaire is one field, listener; mushra.csv has session_uuid too, with the same content. Of comments only
    those of kinds with a column for them are kept.
    """
    make_folder(folder)
    told = []
    # As webMUSHRA's page: X is the reference or, where there is none, the first condition, and is called «reference».
    open_ones = {
        trial.id: sorted(trial.stimuli, key=lambda one: one.role != "reference")[0].condition for trial in plan.trials
    }
    for kind in dict.fromkeys(one.kind for one in answers):
        of_kind = [one for one in answers if one.kind == kind]
        if kind not in FILES:
            told.append(f"webMUSHRA has no results of {kind}: {len(of_kind)} answers left out")
            continue
        name, columns = FILES[kind]
        head = [TEST, LISTENER, *([UUID] if kind == "mushra" else []), PAGE, *COLUMNS[columns]]
        rows = [_row(plan.name, one, open_ones[one.trial]) for one in of_kind]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *([row[column] for column in head] for row in rows)])
        write_text_atomic(folder / name, text.getvalue())
        told.append(f"{len(of_kind)} answers as webMUSHRA's: {folder / name}")
    return told


def _row(test: str, one: Answer, open_one: str) -> dict[str, Any]:
    time_ms = "" if one.time_s is None else round(one.time_s * 1000)
    score = "" if one.score is None else f"{one.score:g}"
    return {
        TEST: test,
        LISTENER: one.listener,
        UUID: one.listener,
        PAGE: one.trial,
        "rating_stimulus": one.condition,
        "rating_score": score,
        "rating_time": time_ms,
        "rating_comment": one.comment,
        "choice_reference": "reference",
        "choice_non_reference": one.other if one.condition == open_one else one.condition,
        "choice_answer": one.choice,
        "choice_time": time_ms,
        "choice_comment": one.comment,
        "stimuli_rating": f" {score} ",
        "stimuli": one.condition,
    }
