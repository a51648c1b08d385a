"""Whether conditions differ: the listener is the unit, each with the mean of his differences over items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from restyler.evaluate.intervals import Interval
from restyler.listen.scores import Differences
from restyler.listen.summaries import interval

FLIPS = 10_000
FEWEST = 2  # listeners of a test: one has no spread


class Difference(NamedTuple):
    """first minus second. spread: standard deviation over listeners, in the points of the scale.

    holm: p of the permutation test, held against all pairs of the table; wilcoxon_holm likewise. cohens_dz: None
    where all listeners differ by the same amount.
    """

    first: str
    second: str
    listeners: int
    mean: float
    spread: float
    by_listener: Interval | None
    by_item: Interval | None
    permutation: float
    holm: float
    wilcoxon: float
    wilcoxon_holm: float
    rank_biserial: float
    cohens_dz: float | None


def differences(found: Differences, *, seed: int, level: float) -> list[Difference]:
    """One for each pair that two or more listeners judged, Holm over all of these."""
    kept: list[tuple[tuple[str, str], np.ndarray, np.ndarray]] = []
    for number, pair in enumerate(found.pairs):
        cells = found.values[:, number]
        known = ~np.isnan(cells)
        means = np.array([row[told].mean() for row, told in zip(cells, known, strict=True) if told.any()])
        items = np.array([row[told].mean() for row, told in zip(cells.T, known.T, strict=True) if told.any()])
        if len(means) >= FEWEST:
            kept.append((pair, means, items))
    permutation = [sign_flips(means, np.random.default_rng(seed)) for _, means, _ in kept]
    ranks = [wilcoxon(means) for _, means, _ in kept]
    table = []
    for (pair, means, items), p, adjusted, rank_p, rank_adjusted in zip(
        kept, permutation, holm(permutation), ranks, holm(ranks), strict=True
    ):
        table.append(
            Difference(
                *pair,
                listeners=len(means),
                mean=float(means.mean()),
                spread=float(means.std(ddof=1)),
                by_listener=interval(means[:, None], "mean", seed=seed, level=level),
                by_item=interval(items[:, None], "mean", seed=seed, level=level),
                permutation=p,
                holm=adjusted,
                wilcoxon=rank_p,
                wilcoxon_holm=rank_adjusted,
                rank_biserial=rank_biserial(means),
                cohens_dz=cohens_dz(means),
            )
        )
    return table


def sign_flips(values: np.ndarray, generator: np.random.Generator, flips: int = FLIPS) -> float:
    """Two-sided p of the mean being 0, by flipping signs of paired differences (BS.1534-3, attachment 3).

    All 2ⁿ flips where these are no more than `flips`; else so many at random, the observed one counted among them
    (Phipson & Smyth 2010): such a p is never 0.
    """
    count = len(values)
    if 2**count <= flips:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        found = np.abs((1 - 2 * bits) @ values)
        return float(np.mean(found >= _threshold(values)))
    signs = generator.integers(2, size=(flips, count)) * 2 - 1
    beyond = int(np.sum(np.abs(signs @ values) >= _threshold(values)))
    return (beyond + 1) / (flips + 1)


def _threshold(values: np.ndarray) -> float:
    """The observed sum, less what rounding may take from an equal one."""
    return float(abs(values.sum()) - 1e-9 * np.abs(values).sum())


def wilcoxon(values: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed ranks, zeros left out; 1 where all are zero.

    Exact for any number and with ties, whose ranks are averaged: the sum's distribution over all signs, put together
    rank by rank (Lehmann 1975, section 3.3; scipy turns to an approximation or to minutes of counting there).
    """
    told = values[values != 0]
    doubled = np.rint(2 * stats.rankdata(np.abs(told))).astype(int)  # averaged ranks are halves at the finest
    chances = np.ones(1)
    for rank in doubled:
        chances = 0.5 * (np.append(chances, np.zeros(rank)) + np.append(np.zeros(rank), chances))
    positive = int(doubled[told > 0].sum())
    return float(min(1.0, 2 * min(chances[: positive + 1].sum(), chances[positive:].sum())))


def holm(p_values: Sequence[float]) -> list[float]:
    """p held against the whole family: no error among them with more than alpha (Holm 1979), in the same order."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def rank_biserial(values: np.ndarray) -> float:
    """Share of the rank sum that favours the first, less that against it (Kerby 2014); 0 where all are zero."""
    told = values[values != 0]
    if not told.size:
        return 0.0
    ranks = stats.rankdata(np.abs(told))
    return float((ranks[told > 0].sum() - ranks[told < 0].sum()) / ranks.sum())


def cohens_dz(values: np.ndarray) -> float | None:
    """Mean over standard deviation of the paired differences (Cohen 1988, section 2.3.5); None without spread."""
    spread = float(np.std(values, ddof=1))
    return float(np.mean(values)) / spread if spread > 1e-12 * float(np.abs(values).max(initial=0.0)) else None


class Friedman(NamedTuple):
    """kendalls_w: agreement of the listeners' orders, 0 to 1."""

    listeners: int
    statistic: float
    degrees: int
    p: float
    kendalls_w: float


def friedman(table: np.ndarray) -> Friedman | None:
    """Of table [listeners conditions], complete; None for fewer than three conditions, two listeners, or all ties."""
    listeners, conditions = table.shape
    if conditions < 3 or listeners < FEWEST or np.all(table == table[:, :1]):
        return None
    statistic, p = stats.friedmanchisquare(*table.T)
    return Friedman(
        listeners, float(statistic), conditions - 1, float(p), float(statistic / (listeners * (conditions - 1)))
    )
