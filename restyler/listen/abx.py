"""Whether a difference is heard at all: exact tests of right answers in ABX."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from restyler.evaluate.intervals import Interval

HIGHEST_D = 12.0  # beyond it the share of right answers can't be told from 1


class Discrimination(NamedTuple):
    """share: of right answers, with Clopper & Pearson's interval. p: exact, one-sided. d_prime: 0 at or below chance,
    None where all answers are right."""

    trials: int
    correct: int
    share: Interval
    p: float
    d_prime: float | None


def discrimination(correct: int, trials: int, *, level: float) -> Discrimination:
    """Of `trials` ≥ 1 forced choices between two. Exact only where each answer is its own guess."""
    test = stats.binomtest(correct, trials, 0.5, alternative="greater")
    low, high = clopper_pearson(correct, trials, level=level)
    share = Interval(correct / trials, low, high)
    return Discrimination(trials, correct, share, float(test.pvalue), d_prime(correct / trials))


def clopper_pearson(successes: int, trials: int, *, level: float) -> tuple[float, float]:
    """The exact two-sided interval of a share (Clopper & Pearson 1934), by quantiles of beta distributions."""
    beyond = (1 - level) / 2
    low = stats.beta.ppf(beyond, successes, trials - successes + 1) if successes else 0.0
    high = stats.beta.ppf(1 - beyond, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def share_correct(sensitivity: float) -> float:
    """Share of right answers in ABX for d′, of a listener who judges A, B and X each for itself (Macmillan & Creelman
    2005, equation 9.4: independent observations)."""
    one, two = stats.norm.cdf(sensitivity / np.sqrt(2)), stats.norm.cdf(sensitivity / 2)
    return float(one * two + (1 - one) * (1 - two))


def d_prime(share: float) -> float | None:
    """The d′ of `share_correct`; 0 at or below chance, None for a share of 1, where there is no finite one."""
    if share <= 0.5:
        return 0.0
    if share >= 1:
        return None
    return float(optimize.brentq(lambda value: share_correct(value) - share, 0.0, HIGHEST_D))
