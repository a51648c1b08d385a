"""Whether listeners agree with one another, and with themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from restyler.evaluate.intervals import Interval
from restyler.listen.answers import Answer


class Agreement(NamedTuple):
    """Intraclass correlations of what is judged (condition on item) over listeners.

    single: ICC(2,1), absolute agreement of one listener with another. mean: ICC(3,k), consistency of the mean of these
    listeners.
    """

    judged: int
    listeners: int
    single: Interval
    mean: Interval


def agreement(table: np.ndarray, *, level: float) -> Agreement | None:
    """Of table [judged listeners], complete (Shrout & Fleiss 1979; intervals: McGraw & Wong 1996, tables 7 and 8).

    None for fewer than two of either, or without spread.
    """
    judged, listeners = table.shape
    if judged < 2 or listeners < 2:
        return None
    left = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    rows = listeners * float(np.square(table.mean(1) - table.mean()).sum()) / (judged - 1)
    columns = judged * float(np.square(table.mean(0) - table.mean()).sum()) / (listeners - 1)
    error_degrees = (judged - 1) * (listeners - 1)
    error = float(np.square(left).sum()) / error_degrees
    if error <= 1e-12 * (rows + columns) or rows <= 0:
        return None
    single = (rows - error) / (rows + (listeners - 1) * error + listeners * (columns - error) / judged)
    upper = (1 + level) / 2

    ratio = columns / error
    weight = judged * (1 + (listeners - 1) * single) - listeners * single
    freedom = (
        error_degrees
        * (listeners * single * ratio + weight) ** 2
        / ((judged - 1) * (listeners * single * ratio) ** 2 + weight**2)
    )
    shared = listeners * columns + (listeners * judged - listeners - judged) * error
    f_low, f_high = stats.f.ppf(upper, judged - 1, freedom), stats.f.ppf(upper, freedom, judged - 1)
    low = judged * (rows - f_low * error) / (f_low * shared + judged * rows)
    high = judged * (f_high * rows - error) / (shared + judged * f_high * rows)

    f = rows / error
    mean_low = 1 - stats.f.ppf(upper, judged - 1, error_degrees) / f
    mean_high = 1 - 1 / (f * stats.f.ppf(upper, error_degrees, judged - 1))
    return Agreement(
        judged,
        listeners,
        Interval(float(single), float(low), float(high)),
        Interval(1 - 1 / f, float(mean_low), float(mean_high)),
    )


class Retest(NamedTuple):
    """Of pages heard twice. within: standard deviation of one listener's judgement of one thing; repeatable: two of
    them differ by less in 95 % (Bland & Altman 1996); correlation: None without spread."""

    listener: str | None  # None: all
    pairs: int
    mean_difference: float
    mean_absolute: float
    within: float
    repeatable: float
    correlation: float | None


class Same(NamedTuple):
    """Of choices made twice: how many came out the same."""

    listener: str | None
    pairs: int
    same: int


def retests(answers: Sequence[Answer]) -> list[Retest]:
    """Of scores: all listeners together first, then each one who judged something twice; empty without repeats."""
    pairs = [
        (one.listener, float(one.score), float(other.score))
        for one, other in _twice(answers)
        if one.score is not None and other.score is not None
    ]
    names = sorted({listener for listener, _, _ in pairs})
    return [_retest(name, pairs) for name in (None, *names)] if pairs else []


def same_choices(answers: Sequence[Answer]) -> list[Same]:
    """Of choices, likewise."""
    pairs = [(one.listener, one.choice == other.choice) for one, other in _twice(answers)]
    found = []
    for name in (None, *sorted({listener for listener, _ in pairs})):
        equal = [same for listener, same in pairs if name in (None, listener)]
        found.append(Same(name, len(equal), sum(equal)))
    return found if pairs else []


def _retest(name: str | None, pairs: Sequence[tuple[str, float, float]]) -> Retest:
    scores = np.array([(first, second) for listener, first, second in pairs if name in (None, listener)])
    change = scores[:, 1] - scores[:, 0]
    within = float(np.sqrt(np.mean(np.square(change)) / 2))
    spread = len(scores) > 2 and bool((np.ptp(scores, axis=0) > 0).all())
    return Retest(
        listener=name,
        pairs=len(scores),
        mean_difference=float(change.mean()),
        mean_absolute=float(np.abs(change).mean()),
        within=within,
        repeatable=float(stats.norm.ppf(0.975) * np.sqrt(2) * within),
        correlation=float(np.corrcoef(scores.T)[0, 1]) if spread else None,
    )


def _twice(answers: Sequence[Answer]) -> list[tuple[Answer, Answer]]:
    """(first, repeat) of everything a listener judged on a page and on its repeat."""
    firsts = {(one.listener, one.trial, one.condition, one.other): one for one in answers}
    return [
        (firsts[key], one)
        for one in answers
        if one.repeat_of is not None and (key := (one.listener, one.repeat_of, one.condition, one.other)) in firsts
    ]
