"""BeaqleJS's result files as answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from audio.errors import InputError
from restyler.command import shown
from restyler.listen.answers import Answer, answer_to
from restyler.listen.plan import ListeningTest, Stimulus, Trial

RATED = ("mushra", "rating")
LARGEST_BYTES = 64 * 1024  # of a result, by BeaqleJS's own service


def beaqle_answers(plan: ListeningTest, files: Sequence[Path]) -> list[Answer]:
    """One listener a file. Pages that a listener was not shown have no rating and no answer; training is left out.

    Raises InputError for a file that is no such result, or names a page or sound that the test does not have.
    """
    trials = {trial.id: trial for trial in plan.trials}
    found: list[Answer] = []
    names: dict[str, Path] = {}
    for file in files:
        if file.stem in names:
            raise InputError(f"{shown(file)}: is called as {shown(names[file.stem])}: files name the listeners")
        names[file.stem] = file
        for entry in _entries(file):
            if isinstance(entry, bool):
                raise InputError(f"{shown(file)}: results of ABX don't say which page they are of: not readable")
            if not isinstance(entry, Mapping) or ("UserName" in entry and "TestID" not in entry):
                continue
            if "rating" not in entry:
                continue
            trial = trials.get(str(entry.get("TestID")))
            if trial is None or trial.kind not in RATED:
                raise InputError(f"{shown(file)}: TestID {entry.get('TestID')!r}: the test has no such page of ratings")
            if not trial.training:
                found += _page(file, trial, entry)
    return found


def _entries(file: Path) -> list[Any]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{shown(file)}: cannot be read: {error.strerror}") from error
    try:
        if len(data) > LARGEST_BYTES:
            raise ValueError(f"{len(data)} bytes")
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(file)}: is no result of BeaqleJS: {error}") from error
    if not isinstance(document, list):
        raise InputError(f"{shown(file)}: is no result of BeaqleJS: a list of pages is needed")
    return document


def _page(file: Path, trial: Trial, entry: Mapping[str, Any]) -> list[Answer]:
    rating, files, runtime = entry["rating"], entry.get("filename", {}), entry.get("Runtime")
    if not isinstance(rating, Mapping) or not isinstance(files, Mapping):
        raise InputError(f"{shown(file)}: {trial.id}: rating: a score for each label is needed")
    answers = []
    for label, score in rating.items():
        stimulus = _stimulus(trial, label, str(files.get(label, "")))
        if stimulus is None:
            raise InputError(f"{shown(file)}: {trial.id}: {shown(label)}: the page has no such sound")
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise InputError(f"{shown(file)}: {trial.id}: {shown(label)}: {score!r} is no score")
        answers.append(
            answer_to(
                trial,
                [stimulus],
                listener=file.stem,
                score=float(score),
                time_s=runtime / 1000 if isinstance(runtime, int | float) else None,
            )
        )
    missing = {one.condition for one in trial.stimuli} - {one.condition for one in answers}
    if missing:
        raise InputError(f"{shown(file)}: {trial.id}: has no rating of {', '.join(map(shown, sorted(missing)))}")
    return answers


def _stimulus(trial: Trial, label: str, file: str) -> Stimulus | None:
    """By condition, by file, or the hidden reference."""
    for one in trial.stimuli:
        if label == one.condition or (file and PurePosixPath(file).stem == PurePosixPath(one.file).stem):
            return one
    if label == "Reference":
        return next((one for one in trial.stimuli if one.role == "reference"), None)
    return None
