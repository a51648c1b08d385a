"""Answers as a file, and whether answers fit a test."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from audio.errors import InputError
from audio.io import write_text_atomic
from restyler.command import shown
from restyler.listen.answers import Answer
from restyler.listen.plan import ListeningTest
from restyler.listen.sessions import SCALES
from restyler.sections import first_mistake

FORMAT = "listening-test-answers-1"


@dataclass(config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class _File:
    format: Literal["listening-test-answers-1"]
    answers: list[Answer]


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """As JSON, atomically."""
    document = {"format": FORMAT, "answers": [dataclasses.asdict(answer) for answer in answers]}
    write_text_atomic(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_answers(path: Path) -> list[Answer]:
    """Raises InputError for a file that is no such list of answers."""
    try:
        return TypeAdapter(_File).validate_json(path.read_bytes()).answers
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        where, item = first_mistake(error)
        raise InputError(f"{shown(path)}: {where}: {item['msg']}") from error


def checked(plan: ListeningTest, answers: Sequence[Answer]) -> list[Answer]:
    """The answers, of pages that are no training. Raises InputError for one that the test can't have had.

    That is: none at all, a page, condition or kind that is not in the plan, a score outside its scale, a choice that is
    none, or the same thing judged twice by one listener.
    """
    trials = {trial.id: trial for trial in plan.trials}
    seen = set()
    for one in answers:
        name = f"{shown(one.listener)}, {shown(one.trial)}"
        trial = trials.get(one.trial)
        if trial is None:
            raise InputError(f"{name}: the test has no such page")
        conditions = {stimulus.condition: stimulus.role for stimulus in trial.stimuli}
        if (one.kind, one.item, one.repeat_of) != (trial.kind, trial.item, trial.repeat_of):
            raise InputError(f"{name}: the test's page is of {trial.kind} on {shown(trial.item)}, not so the answer")
        compares = one.kind in ("ab", "abx", "ccr")
        if (
            one.condition not in conditions
            or (compares and one.other not in conditions)
            or (one.other and not compares)
        ):
            raise InputError(f"{name}: the page compares {', '.join(map(shown, conditions))}")
        if one.role != conditions[one.condition]:
            raise InputError(f"{name}: {shown(one.condition)} is {conditions[one.condition]}, not {one.role}")
        _check_value(name, one, ties=trial.ties)
        key = (one.listener, one.trial, one.condition, one.other)
        if key in seen:
            raise InputError(f"{name}: {shown(one.condition)} was judged twice")
        seen.add(key)
    kept = [one for one in answers if not trials[one.trial].training]
    if not kept:
        raise InputError("there are no answers yet: nobody has submitted a page")
    return kept


def _check_value(name: str, one: Answer, *, ties: bool) -> None:
    if one.kind in SCALES:
        low, high = SCALES[one.kind]
        if one.score is None or not low <= one.score <= high:
            raise InputError(f"{name}: a score from {low:g} to {high:g} is needed, not {one.score}")
        return
    allowed = {"correct", "incorrect"} if one.kind == "abx" else {one.condition, one.other, *([None] if ties else [])}
    if one.choice not in allowed:
        told = ", ".join(sorted(shown(choice or "a tie") for choice in allowed))
        raise InputError(f"{name}: the choice is one of {told}, not {shown(one.choice)}")
