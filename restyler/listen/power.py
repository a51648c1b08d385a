"""What a design can show, before anybody has listened: power of its tests for an effect, and listeners for a power.

The unit is the listener: of each one the mean over the items enters. Every test is made for several pairs of
conditions and corrected after Holm; its first step, alpha over the number of pairs, is the strictest, and the power
given here is that of this step, so the least that any of the effects has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binom, nct, t

from audio.errors import InputError
from restyler.listen.plan import Power

WANTED = 0.8
MOST_LISTENERS = 100_000
EFFICIENCY = 3 / math.pi  # of Wilcoxon's test to Student's, for normal differences (Hodges & Lehmann 1956)

Test = Literal["wilcoxon", "sign test", "binomtest"]


@dataclass(frozen=True)
class Question:
    """One block of a test.

    name: as the table shows it. comparisons: pairs of conditions that are tested. trials: of one pair by one listener
    (abx).
    """

    name: str
    test: Test
    comparisons: int
    trials: int = 1


def paired_t_power(listeners: float, effect_d: float, alpha: float) -> float:
    """Of the two-sided paired t test. effect_d: mean of the differences over their standard deviation.

    Source: noncentral t with n − 1 degrees of freedom and noncentrality d√n (Cohen 1988, 2.3).
    """
    freedom = listeners - 1
    if freedom <= 0:
        return 0.0
    bound = float(t.isf(alpha / 2, freedom))
    shift = effect_d * math.sqrt(listeners)
    # The lower tail by its mirror image: far out scipy's nct.cdf gives NaN.
    return float(nct.sf(bound, freedom, shift) + nct.sf(bound, freedom, -shift))


def wilcoxon_power(listeners: int, effect_d: float, alpha: float) -> float:
    """Of the two-sided signed-rank test for normal differences: that of the t test with 3/π as many listeners, or 0
    where so few ranks can't reach alpha at all (the least p of n listeners is 2 · 2⁻ⁿ)."""
    if 2.0 ** (1 - listeners) > alpha:
        return 0.0
    return paired_t_power(EFFICIENCY * listeners, effect_d, alpha)


def binomial_power(count: int, share: float, alpha: float) -> float:
    """Of the one-sided exact test of `count` answers against guessing (one half), where `share` are right.

    Answers count as independent. Exact: a sum over all outcomes from the least significant number on.
    """
    return float(binom.sf(significant(count, alpha) - 1, count, share))


def sign_power(listeners: int, share: float, alpha: float) -> float:
    """Of the two-sided exact sign test, where `share` of the listeners prefer the same condition; no ties."""
    least = significant(listeners, alpha / 2)
    return float(binom.sf(least - 1, listeners, share) + binom.cdf(listeners - least, listeners, share))


def significant(count: int, alpha: float) -> int:
    """The least number of right answers of `count` with a one-sided p of at most alpha; count + 1 if there is none."""
    found = int(binom.isf(alpha, count, 0.5))
    while found > 0 and binom.sf(found - 2, count, 0.5) <= alpha:
        found -= 1
    while binom.sf(found - 1, count, 0.5) > alpha:
        found += 1
    return min(found, count + 1)


def power_of(question: Question, listeners: int, effect: float, alpha: float) -> float:
    """With alpha divided by the comparisons. effect: d, or the share (sign test, binomtest)."""
    strictest = alpha / question.comparisons
    match question.test:
        case "wilcoxon":
            return wilcoxon_power(listeners, effect, strictest)
        case "sign test":
            return sign_power(listeners, effect, strictest)
        case "binomtest":
            return binomial_power(listeners * question.trials, effect, strictest)


def listeners_for(power: float, question: Question, effect: float, alpha: float) -> int:
    """The least number of listeners from which on the power is reached, however many more there are.

    Exact tests are not monotonic: with one listener more the power may sink a little. Raises InputError beyond 100 000.
    """

    def reached(count: int) -> bool:
        return power_of(question, count, effect, alpha) >= power

    return _first(reached, jagged=question.test in ("sign test", "binomtest"))


def _first(reached: Callable[[int], bool], *, jagged: bool) -> int:
    top = 1
    while not reached(top):
        top *= 2
        if top > MOST_LISTENERS:
            raise InputError(f"power: no number of listeners up to {MOST_LISTENERS} finds so small an effect")
    low, high = top // 2, top
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    if not jagged:
        return high
    # The teeth are a few answers wide, and a fifth more listeners outweighs them.
    tried = range(max(low, 1), high + high // 5 + 40)
    return 1 + max((count for count in tried if not reached(count)), default=0)


def powers(questions: Sequence[Question], listeners: int, effect_d: float, share: float, alpha: float) -> list[Power]:
    """One entry for each block, as the plan keeps them. alpha: before Holm's correction."""
    found = []
    for question in questions:
        effect = share if question.test in ("sign test", "binomtest") else effect_d
        strictest = alpha / question.comparisons
        value = min(power_of(question, listeners, effect, alpha), 1.0)  # of two tails the sum may round over it
        found.append(Power(test=question.test, effect=effect, alpha=strictest, power=value, listeners=listeners))
    return found


def power_table(questions: Sequence[Question], listeners: int, effect_d: float, share: float, alpha: float) -> str:
    """Lines for a terminal: of each block the test, its alpha, its power and the listeners needed for 80 %."""
    lines = [f"power to find d = {effect_d:g} (or {share:.0%} of answers) with {listeners} listeners, alpha {alpha:g}"]
    for question, power in zip(questions, powers(questions, listeners, effect_d, share, alpha), strict=True):
        needed = listeners_for(WANTED, question, power.effect, alpha)
        lines.append(
            f"  {question.name:<7}{question.test:<10}{question.comparisons:>3} comparisons,"
            f" Holm's first alpha {power.alpha:.2g}: power {power.power:.0%}; {needed} listeners for {WANTED:.0%}"
        )
    return "\n".join(lines)
