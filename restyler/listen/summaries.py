"""What listeners said of each condition: medians and quartiles, means, and intervals that hold for other listeners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from restyler.evaluate.intervals import Interval, Statistic, bootstrap
from restyler.listen.scores import Scores

MULTIMODAL = 5 / 9  # b of a uniform distribution
RESAMPLES = 2000


class Summary(NamedTuple):
    """Of one condition.

    ratings: judgements, items' repeats averaged. median, quartiles: over all of them. mean: over listeners, of each
    one's mean over items. by_listener: its bootstrap interval, listeners drawn anew; by_item: items drawn anew; None
    for too few. t_interval: Student's, over listeners. multimodality: b of the listeners' means, None for
    fewer than four listeners or no spread.
    """

    condition: str
    listeners: int
    ratings: int
    median: float
    lower_quartile: float
    upper_quartile: float
    median_by_listener: Interval | None
    mean: float
    by_listener: Interval | None
    by_item: Interval | None
    t_interval: Interval | None
    multimodality: float | None


def summaries(found: Scores, *, seed: int, level: float) -> list[Summary]:
    """One for each condition, in order."""
    return [_summary(found, number, seed, level) for number in range(len(found.conditions))]


def _summary(found: Scores, number: int, seed: int, level: float) -> Summary:
    of_condition = found.values[:, number]
    rated = [row[~np.isnan(row)] for row in of_condition]
    rated = [row for row in rated if row.size]
    ratings = np.concatenate(rated)
    means = np.array([row.mean() for row in rated])
    lower, median, upper = quartiles(ratings)
    item_means = found.by_item()[:, number]
    return Summary(
        condition=found.conditions[number],
        listeners=len(rated),
        ratings=len(ratings),
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        median_by_listener=interval(rated, "median", seed=seed, level=level),
        mean=float(means.mean()),
        by_listener=interval(means[:, None], "mean", seed=seed, level=level),
        by_item=interval(item_means[~np.isnan(item_means)][:, None], "mean", seed=seed, level=level),
        t_interval=t_interval(means, level=level),
        multimodality=multimodality(means),
    )


def quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of one value or more: medians of the halves.

    For an odd number the median belongs to both halves (BS.1534-3, section 9.1; Tukey's hinges).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    half = (len(ordered) + 1) // 2
    return float(np.median(ordered[:half])), float(np.median(ordered)), float(np.median(ordered[-half:]))


def interval(
    units: Sequence[np.ndarray] | np.ndarray, statistic: Statistic, *, seed: int, level: float
) -> Interval | None:
    """Bootstrap interval over units (listeners or items), each drawn with all its values; None for too few (`fewest`).

    The percentiles are widened for small numbers of units, so that of normal values the interval is as wide as
    Student's (the expanded percentile interval: Hesterberg 2015, «What teachers should know about the bootstrap»,
    section 4.6).
    """
    if len(units) < fewest(level):
        return None
    named = {f"{number:06}": np.asarray(unit).tolist() for number, unit in enumerate(units)}
    return bootstrap(named, statistic, seed=seed, resamples=RESAMPLES, level=expanded(level, len(units)))


def expanded(level: float, units: int) -> float:
    """The level at which percentiles of the bootstrap distribution of `units` ≥ 2 units reach `level`."""
    beyond = stats.norm.cdf(-np.sqrt(units / (units - 1)) * stats.t.ppf((1 + level) / 2, units - 1))
    return float(1 - 2 * beyond)


def fewest(level: float) -> int:
    """Units that an interval needs: of fewer, the percentiles that reach the level lie beyond all resamples.

    Five for 95 %, nineteen for 99.5 %; beyond 99.8 % no number is enough.
    """
    return next(count for count in range(2, 10_000) if (1 - expanded(level, count)) / 2 >= 1 / RESAMPLES)


def t_interval(values: np.ndarray, *, level: float) -> Interval | None:
    """Student's interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    reach = stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return Interval(mean, float(mean - reach), float(mean + reach))


def multimodality(values: np.ndarray) -> float | None:
    """Sarle's coefficient b with the small-sample moments of BS.1534-3, section 9: above 5/9 opinions may be split.

    b = (g₁² + 1) / (g₂ + 3(n − 1)² / ((n − 2)(n − 3))), g₁ and g₂ the unbiased skewness and excess kurtosis. None for
    fewer than four values, or values without spread.
    """
    count = len(values)
    if count < 4 or np.ptp(values) == 0:
        return None
    skewness, kurtosis = stats.skew(values, bias=False), stats.kurtosis(values, bias=False)
    return float((skewness**2 + 1) / (kurtosis + 3 * (count - 1) ** 2 / ((count - 2) * (count - 3))))
