"""What a listener sees of a page, may answer on it, and what the answers stand for. Pure: no clock, no storage."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

from restyler.listen.answers import Answer, answer_to
from restyler.listen.balance import Page
from restyler.listen.plan import Stimulus

REFERENCE = "R"  # the open reference's slot; the others are A, B, C …, and X
COMMENT = "comment"
CHOICE = "choice"
TIE = "tie"
MAX_COMMENT = 2000
HEARD_S = 1.0  # of listening at least, before a sound counts as heard; clips judged alone are heard whole
SCALES = {"mushra": (0, 100), "rating": (0, 100), "acr": (1, 5), "ccr": (-3, 3)}
HEARD_WHOLE = ("acr", "ccr")


class RefusedError(Exception):
    """What a listener's browser may not do: an HTTP status and one line that says why."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


def slots(page: Page) -> dict[str, Stimulus]:
    """The sounds of a page by slot, in the order in which they are shown; the open reference first, as R."""
    names = "ABX" if page.trial.kind == "abx" else "ABCDEFGHIJKL"
    sounds = dict(zip(names, (page.trial.stimuli[index] for index in page.slots), strict=False))
    return ({REFERENCE: page.trial.reference} if page.trial.reference else {}) | sounds


def fields(page: Page) -> tuple[str, ...]:
    """What must be answered: one score for each slot, or one choice."""
    if page.trial.kind in ("mushra", "rating"):
        return tuple(name for name in slots(page) if name != REFERENCE)
    return (CHOICE,)


def checked_value(page: Page, field: str, value: Any) -> Any:
    """`value`, where `field` of the page may have it.

    mushra, rating: a number 0–100 for each slot. ab, abx: "A" or "B", and "tie" where the trial has ties. acr: 1–5.
    ccr: −3 … 3. comment: text. Raises RefusedError (422) for anything else.
    """
    if field == COMMENT:
        if not isinstance(value, str) or len(value) > MAX_COMMENT:
            raise RefusedError(422, f"comment: text of at most {MAX_COMMENT} characters allowed")
        return value
    if field not in fields(page):
        raise RefusedError(422, f"this page has no such field (allowed: {', '.join((*fields(page), COMMENT))})")
    kind = page.trial.kind
    if kind in ("ab", "abx"):
        allowed = ("A", "B", TIE) if kind == "ab" and page.trial.ties else ("A", "B")
        if not isinstance(value, str) or value not in allowed:
            raise RefusedError(422, f"{field}: one of {', '.join(allowed)} allowed")
        return value
    low, high = SCALES[kind]
    whole = kind in ("acr", "ccr")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or (whole and value != int(value)):
        raise RefusedError(422, f"{field}: a {'whole ' if whole else ''}number from {low} to {high} allowed")
    return value


def checked_slot(page: Page, slot: Any) -> str:
    """`slot`, where the page has it. Raises RefusedError (422) otherwise."""
    if not isinstance(slot, str) or slot not in slots(page):
        raise RefusedError(422, f"this page has no such sound (allowed: {', '.join(slots(page))})")
    return slot


def require_complete(page: Page, heard: Collection[str], values: Mapping[str, Any]) -> None:
    """Raises RefusedError (409) where a sound was not heard or a field has no value."""
    unheard = [name for name in slots(page) if name not in heard]
    if unheard:
        raise RefusedError(409, f"not heard yet: {', '.join(unheard)}")
    missing = [field for field in fields(page) if field not in values]
    if missing:
        raise RefusedError(409, f"not answered yet: {', '.join(missing)}")


def resolve(page: Page, values: Mapping[str, Any], *, listener: str, time_s: float | None) -> list[Answer]:
    """The answers that a complete page stands for, its comment on each of them.

    Of pairs (ab, abx, ccr) `condition` is the first of the two conditions by name, however they were ordered.
    """
    answered = functools.partial(
        answer_to, page.trial, listener=listener, time_s=time_s, comment=values.get(COMMENT, "")
    )
    if page.trial.kind in ("mushra", "rating", "acr"):
        sounds = [sound for name, sound in slots(page).items() if name != REFERENCE]
        scores = [float(values[field]) for field in fields(page)]
        return [answered([sound], score=score) for sound, score in zip(sounds, scores, strict=True)]
    shown = slots(page)
    pair = sorted((shown["A"], shown["B"]), key=lambda sound: sound.condition)
    chosen = values[CHOICE]
    if page.trial.kind == "ccr":  # B was played second, and judged against A
        score = float(chosen) if pair[0] is shown["B"] else -float(chosen)
        return [answered(pair, score=score + 0.0)]  # + 0.0: never −0
    if page.trial.kind == "abx":
        choice: str | None = "correct" if page.slots["AB".index(chosen)] == page.slots[2] else "incorrect"
    else:
        choice = None if chosen == TIE else shown[chosen].condition
    return [answered(pair, choice=choice)]
