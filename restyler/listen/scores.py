"""Answers as arrays: listeners by conditions (or pairs of conditions) by items, the form every statistic takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from restyler.listen.answers import Answer

PREFERENCE = {True: 1.0, False: -1.0}


@dataclass(frozen=True)
class Scores:
    """values [listeners conditions items]: NaN where a listener did not judge; repeats of a page are averaged."""

    listeners: tuple[str, ...]
    conditions: tuple[str, ...]
    items: tuple[str, ...]
    values: np.ndarray

    def by_listener(self) -> np.ndarray:
        """Mean over the items that each listener judged, [listeners conditions], NaN for none."""
        return _mean(self.values, axis=2)

    def by_item(self) -> np.ndarray:
        """Mean over the listeners who judged it, [items conditions], NaN for none."""
        return _mean(self.values, axis=0).T

    def asked(self) -> np.ndarray:
        """Which conditions anybody judged on which items, [conditions items]: a test may not ask all of them."""
        return np.asarray(~np.isnan(self.values).all(axis=0))

    def complete(self) -> np.ndarray:
        """Which listeners judged everything that was asked, [listeners]."""
        return np.asarray(~np.isnan(self.values[:, self.asked()]).any(axis=1))


@dataclass(frozen=True)
class Differences:
    """values [listeners pairs items]: first minus second of each pair, NaN where one of them was not judged."""

    listeners: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    items: tuple[str, ...]
    values: np.ndarray


def scores(answers: Sequence[Answer]) -> Scores:
    """Of mushra, rating and acr. Raises ValueError for an answer without a score."""
    conditions = tuple(sorted({answer.condition for answer in answers}))
    listeners, items = _names(answers)
    cells: dict[tuple[int, int, int], list[float]] = {}
    for answer in answers:
        if answer.score is None:
            raise ValueError(f"{answer.listener}, {answer.trial}: has no score")
        where = (listeners.index(answer.listener), conditions.index(answer.condition), items.index(answer.item))
        cells.setdefault(where, []).append(answer.score)
    return Scores(listeners, conditions, items, _filled(cells, (len(listeners), len(conditions), len(items))))


def score_differences(found: Scores, conditions: Iterable[str]) -> Differences:
    """Of all pairs of `conditions`, in the order they are given."""
    pairs = tuple(combinations(conditions, 2))
    column = found.conditions.index
    firsts, seconds = [column(first) for first, _ in pairs], [column(second) for _, second in pairs]
    return Differences(found.listeners, pairs, found.items, found.values[:, firsts] - found.values[:, seconds])


def judged_differences(answers: Sequence[Answer]) -> Differences:
    """Of answers that compare already: ccr's score, and ab's preference as 1, 0 for a tie, −1.

    A pair is named in the order of the alphabet, and its values turned to fit. Raises ValueError without `other`.
    """
    listeners, items = _names(answers)
    pairs = tuple(sorted({_pair(answer) for answer in answers}))
    cells: dict[tuple[int, int, int], list[float]] = {}
    for answer in answers:
        pair = _pair(answer)
        sign = 1.0 if pair[0] == answer.condition else -1.0
        where = (listeners.index(answer.listener), pairs.index(pair), items.index(answer.item))
        cells.setdefault(where, []).append(sign * judgement(answer))
    return Differences(listeners, pairs, items, _filled(cells, (len(listeners), len(pairs), len(items))))


def judgement(answer: Answer) -> float:
    """For `condition` against `other`: the score of a ccr, the preference of an ab."""
    if answer.kind == "ab":
        return 0.0 if answer.choice is None else PREFERENCE[answer.choice == answer.condition]
    if answer.score is None:
        raise ValueError(f"{answer.listener}, {answer.trial}: has no score")
    return answer.score


def _pair(answer: Answer) -> tuple[str, str]:
    if answer.other is None:
        raise ValueError(f"{answer.listener}, {answer.trial}: names no other condition")
    return min(answer.condition, answer.other), max(answer.condition, answer.other)


def _names(answers: Sequence[Answer]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(sorted({answer.listener for answer in answers})), tuple(sorted({answer.item for answer in answers}))


def _filled(cells: dict[tuple[int, int, int], list[float]], shape: tuple[int, int, int]) -> np.ndarray:
    values = np.full(shape, np.nan)
    for where, found in cells.items():
        values[where] = np.mean(found)
    return values


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean without the NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis))
