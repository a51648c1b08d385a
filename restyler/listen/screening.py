"""Which listeners are left out, by the post-screening of BS.1534-3, and what would have to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from restyler.listen.answers import Answer
from restyler.listen.summaries import quartiles

GOOD = 90.0  # points: a hidden reference is to reach it, a mid anchor not to pass it
TOLERATED = 0.15  # share of a listener's pages
AMBIGUOUS = 0.25  # share of the listeners: a mid anchor that passes for good with more of them says nothing
FENCE_IQR = 1.5


class Verdict(NamedTuple):
    """On one listener. failed of judged: pages that count for the rule."""

    listener: str
    reference_judged: int
    reference_failed: int
    anchor_judged: int
    anchor_failed: int
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        return not self.reasons


class Outlier(NamedTuple):
    """A rating beyond the fences of its condition and item: to be examined, never removed."""

    listener: str
    trial: str
    condition: str
    item: str
    score: float
    low: float
    high: float


def screen(answers: Sequence[Answer]) -> list[Verdict]:
    """Verdicts on all listeners of MUSHRA answers (BS.1534-3, section 4.1.2).

    Out is who rates the hidden reference below 90 on more than 15 % of the pages, and who rates the mid anchor above 90
    on more than 15 % of the pages, the `ambiguous` ones not counted. A repeat is a page of its own.
    """
    references = [answer for answer in answers if answer.role == "reference"]
    unclear = ambiguous(answers)
    anchors = [answer for answer in answers if answer.role == "anchor70" and answer.trial not in unclear]
    return [_verdict(name, references, anchors) for name in sorted({answer.listener for answer in answers})]


def ambiguous(answers: Sequence[Answer]) -> list[str]:
    """Pages where the mid anchor screens nobody: more than a quarter of all who judged it rate it above 90.

    Of fewer than four listeners one is more than a quarter: there the rule never applies.
    """
    good: dict[str, list[bool]] = {}
    for answer in answers:
        if answer.role == "anchor70":
            good.setdefault(answer.trial, []).append(_score(answer) > GOOD)
    return sorted(trial for trial, above in good.items() if np.mean(above) > AMBIGUOUS)


def _verdict(listener: str, references: Sequence[Answer], anchors: Sequence[Answer]) -> Verdict:
    low = [_score(answer) < GOOD for answer in references if answer.listener == listener]
    high = [_score(answer) > GOOD for answer in anchors if answer.listener == listener]
    reasons = []
    if low and np.mean(low) > TOLERATED:
        reasons.append(f"hidden reference rated below {GOOD:g} on {sum(low)} of {len(low)} pages")
    if high and np.mean(high) > TOLERATED:
        reasons.append(f"mid anchor rated above {GOOD:g} on {sum(high)} of {len(high)} pages")
    return Verdict(listener, len(low), sum(low), len(high), sum(high), tuple(reasons))


def outliers(answers: Sequence[Answer]) -> list[Outlier]:
    """Ratings more than 1.5 interquartile ranges beyond the quartiles of their condition and page."""
    cells: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        cells.setdefault((answer.trial, answer.condition), []).append(answer)
    found = []
    for _, cell in sorted(cells.items()):
        lower, _, upper = quartiles(np.array([_score(answer) for answer in cell]))
        low, high = lower - FENCE_IQR * (upper - lower), upper + FENCE_IQR * (upper - lower)
        found += [
            Outlier(one.listener, one.trial, one.condition, one.item, _score(one), low, high)
            for one in sorted(cell, key=lambda answer: answer.listener)
            if not low <= _score(one) <= high
        ]
    return found


def _score(answer: Answer) -> float:
    if answer.score is None:
        raise ValueError(f"{answer.listener}, {answer.trial}: has no score")
    return answer.score
