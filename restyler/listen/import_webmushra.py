"""webMUSHRA's result files as answers: rows put together again to the sessions that the server would have got."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from audio.errors import InputError
from restyler.command import shown
from restyler.listen.answers import Answer
from restyler.listen.plan import ListeningTest
from restyler.listen.sessions import RefusedError
from restyler.listen.webmushra_post import Session, resolved

# What a file's rows are of is seen in a column that no other kind has; each column's name in the session's response.
COLUMNS: dict[str, dict[str, str]] = {
    "mushra": {
        "rating_stimulus": "stimulus",
        "rating_score": "score",
        "rating_time": "time",
        "rating_comment": "comment",
    },
    "bs1116": {
        "rating_reference": "reference",
        "rating_non_reference": "nonReference",
        "rating_reference_score": "referenceScore",
        "rating_non_reference_score": "nonReferenceScore",
        "rating_time": "time",
        "choice_comment": "comment",
    },
    "paired_comparison": {
        "choice_reference": "reference",
        "choice_non_reference": "nonReference",
        "choice_answer": "answer",
        "choice_time": "time",
        "choice_comment": "comment",
    },
    "likert": {"stimuli_rating": "stimulusRating", "stimuli": "stimulus", "rating_time": "time"},
}
LIKERT = {"rating": "likert_multi_stimulus", "acr": "likert_single_stimulus"}  # both have the same columns
LISTENER, UUID, TEST, PAGE = "listener", "session_uuid", "session_test_id", "trial_id"


def webmushra_answers(plan: ListeningTest, files: Sequence[Path]) -> list[Answer]:
    """Training pages are left out. Raises InputError for what is no such file, or of another test."""
    kinds = {trial.id: trial.kind for trial in plan.trials}
    found: list[Answer] = []
    for file in files:
        sessions: dict[str, dict[str, list[dict[str, str]]]] = {}
        names: dict[str, str] = {}
        tests: dict[str, str] = {}
        file_kind, rows = _rows(file)
        for row in rows:
            who = row.get(UUID) or row[LISTENER]
            names[who], tests[who] = row.get(LISTENER, ""), row[TEST]
            told = {ours: row[theirs] for theirs, ours in COLUMNS[file_kind].items() if theirs in row}
            response = {name: value for name, value in told.items() if value or name != "time"}
            sessions.setdefault(who, {}).setdefault(row[PAGE], []).append(response)
        for who, pages in sessions.items():
            trials = [
                {"id": page, "type": LIKERT.get(kinds.get(page, ""), file_kind), "responses": responses}
                if file_kind == "likert"
                else {"id": page, "type": file_kind, "responses": responses}
                for page, responses in pages.items()
            ]
            document = {
                "testId": tests[who],
                "uuid": who,
                "participant": {"name": [LISTENER], "response": [names[who]]},
                "trials": trials,
            }
            found += _answers(plan, document, file)
    return found


def _answers(plan: ListeningTest, document: dict[str, Any], file: Path) -> list[Answer]:
    try:
        session = Session.model_validate(document)
        return [one for training, answers in resolved(plan, session) if not training for one in answers]
    except ValidationError as error:
        bad = error.errors()[0]
        raise InputError(f"{shown(file)}: {'.'.join(map(str, bad['loc']))}: {bad['msg']}") from error
    except RefusedError as error:
        raise InputError(f"{shown(file)}: {error}") from error


def _rows(file: Path) -> tuple[str, list[dict[str, str]]]:
    """The kind of a file, and its rows by column, without the spaces around values."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            lines = list(csv.reader(handle, strict=True))
    except OSError as error:
        raise InputError(f"{shown(file)}: cannot be read: {error.strerror}") from error
    except (csv.Error, ValueError) as error:
        raise InputError(f"{shown(file)}: is no CSV in UTF-8: {error}") from error
    head = [name.strip() for name in lines[0]] if lines else []
    kind = next((kind for kind, columns in COLUMNS.items() if next(iter(columns)) in head), None)
    if kind is None or TEST not in head or PAGE not in head:
        raise InputError(
            f"{shown(file)}: is no result file of webMUSHRA with one answer a row: {TEST}, {PAGE} and one of "
            f"{', '.join(next(iter(columns)) for columns in COLUMNS.values())} are needed as columns"
        )
    if len(set(head)) < len(head):
        raise InputError(f"{shown(file)}: a column is there twice")
    if UUID not in head and LISTENER not in head:
        raise InputError(
            f"{shown(file)}: answers can't be told apart by listener: a column {LISTENER} or {UUID} is needed"
        )
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(head):
            raise InputError(
                f"{shown(file)}: row {number} has {len(cells)} values under {len(head)} columns: webMUSHRA keeps the "
                "first header when the questionnaire is changed"
            )
        row = {name: cell.strip() for name, cell in zip(head, cells, strict=True)}
        if not (row.get(UUID) or row.get(LISTENER)):
            raise InputError(f"{shown(file)}: row {number}: names no listener")
        rows.append(row)
    return kind, rows
