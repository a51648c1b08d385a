"""Power before a test: against statsmodels, against sums written out, and against simulated listeners."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, wilcoxon
from statsmodels.stats.power import TTestPower

from audio.errors import InputError
from restyler.listen.power import (
    Question,
    binomial_power,
    listeners_for,
    paired_t_power,
    power_of,
    power_table,
    powers,
    sign_power,
    significant,
    wilcoxon_power,
)


@pytest.mark.parametrize("listeners", [3, 8, 20, 60])
@pytest.mark.parametrize("effect_d", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_t_test_has_the_power_that_statsmodels_finds(listeners: int, effect_d: float, alpha: float) -> None:
    expected = TTestPower().power(effect_d, listeners, alpha, alternative="two-sided")
    assert paired_t_power(listeners, effect_d, alpha) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("comparisons", [1, 6, 28])
def test_wilcoxon_needs_as_many_listeners_as_statsmodels_and_efficiency_say(comparisons: int) -> None:
    needed = listeners_for(0.8, Question("mushra", "wilcoxon", comparisons), 0.5, 0.05)
    by_t = TTestPower().solve_power(0.5, power=0.8, alpha=0.05 / comparisons, alternative="two-sided")
    assert needed == math.ceil(float(np.squeeze(by_t)) * math.pi / 3)


@pytest.mark.parametrize(("listeners", "effect_d"), [(12, 0.8), (20, 0.5), (30, 0.5)])
def test_simulated_listeners_find_the_effect_as_often_as_said(listeners: int, effect_d: float) -> None:
    differences = np.random.default_rng(5).normal(effect_d, 1.0, (listeners, 3000))
    found = float((wilcoxon(differences, axis=0, method="approx", correction=False).pvalue <= 0.05).mean())
    assert wilcoxon_power(listeners, effect_d, 0.05) == pytest.approx(found, abs=0.035)


def test_too_few_ranks_find_nothing() -> None:
    assert wilcoxon_power(5, 10.0, 0.05) == 0
    assert wilcoxon_power(6, 10.0, 0.05) > 0.9
    assert wilcoxon([1.0, 2, 3, 4, 5]).pvalue > 0.05 >= wilcoxon([1.0, 2, 3, 4, 5, 6]).pvalue


@pytest.mark.parametrize(("count", "right"), [(16, 12), (24, 17), (10, 9), (4, 5), (5, 5)])
def test_so_many_right_answers_are_significant(count: int, right: int) -> None:
    """16 and 24 trials: ITU-R BS.1116 and every table of ABX; 4 trials can't be."""
    assert significant(count, 0.05) == right
    for found in range(count + 1):
        assert (binomtest(found, count, alternative="greater").pvalue <= 0.05) == (found >= right)


@pytest.mark.parametrize("count", [5, 16, 33])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_exact_tests_have_the_power_of_the_sum_over_their_outcomes(count: int, share: float) -> None:
    chance = [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
    one_sided = [binomtest(k, count, alternative="greater").pvalue <= 0.05 for k in range(count + 1)]
    assert binomial_power(count, share, 0.05) == pytest.approx(np.dot(chance, one_sided), abs=1e-12)
    two_sided = [binomtest(k, count).pvalue <= 0.05 for k in range(count + 1)]
    assert sign_power(count, share, 0.05) == pytest.approx(np.dot(chance, two_sided), abs=1e-12)


@pytest.mark.parametrize("question", [Question("abx", "binomtest", 3, 4), Question("ab", "sign test", 6)])
def test_from_the_number_named_on_no_number_of_listeners_falls_short(question: Question) -> None:
    needed = listeners_for(0.8, question, 0.7, 0.05)
    assert power_of(question, needed - 1, 0.7, 0.05) < 0.8
    assert all(power_of(question, count, 0.7, 0.05) >= 0.8 for count in range(needed, 3 * needed))


def test_more_comparisons_need_more_listeners_and_an_effect_too_small_is_refused() -> None:
    one, many = (listeners_for(0.8, Question("ab", "sign test", count), 0.75, 0.05) for count in (1, 10))
    assert one < many
    with pytest.raises(InputError, match="100000"):
        listeners_for(0.8, Question("mushra", "wilcoxon", 1), 0.005, 0.05)


def test_the_table_says_what_the_plan_keeps() -> None:
    questions = [Question("mushra", "wilcoxon", 10), Question("abx", "binomtest", 1, 16)]
    first, second = powers(questions, 20, 0.5, 0.75, 0.05)
    assert (first.effect, first.alpha, second.effect, second.alpha) == (0.5, 0.005, 0.75, 0.05)
    lines = power_table(questions, 20, 0.5, 0.75, 0.05).splitlines()
    assert f"power {first.power:.0%}; 60 listeners for 80%" in lines[1]
    assert f"power {second.power:.0%}" in lines[2]
