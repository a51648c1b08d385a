"""Statistics of choices: closed forms, scipy, statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from scipy.special import expit

from restyler.listen.abx import clopper_pearson, d_prime, discrimination, share_correct
from restyler.listen.answers import Answer
from restyler.listen.pairs_model import pairs_model

TRUTH = {"a": 0.8, "b": 0.3, "c": -0.2, "d": -0.9}


def answer(listener, first, second, choice):
    return Answer(listener=listener, trial="t", kind="ab", item="i", condition=first, other=second, choice=choice)


def drawn(random, listeners, each, tie=None):
    """Each listener judges all pairs so often, by Davidson's model."""
    answers = []
    for listener in range(listeners):
        for first, one in TRUTH.items():
            for second, other in TRUTH.items():
                if first < second:
                    weights = np.exp([one, other, (one + other) / 2 + (tie or 0.0)])
                    weights[2] *= tie is not None
                    for result in random.choice(3, size=each, p=weights / weights.sum()):
                        answers.append(answer(f"L{listener}", first, second, (first, second, None)[result]))
    return answers


def test_exact_binomial_by_the_known_table():
    """16 trials need 12, 24 need 17 for p < 0.05."""
    assert discrimination(12, 16, level=0.95).p < 0.05 < discrimination(11, 16, level=0.95).p
    assert discrimination(17, 24, level=0.95).p < 0.05 < discrimination(16, 24, level=0.95).p
    assert discrimination(3, 3, level=0.95).p == pytest.approx(1 / 8)


@pytest.mark.parametrize(("successes", "trials"), [(0, 9), (4, 9), (9, 9), (130, 200)])
def test_interval_of_a_share_against_scipy_and_its_own_meaning(successes, trials):
    low, high = clopper_pearson(successes, trials, level=0.9)
    expected = scipy.stats.binomtest(successes, trials).proportion_ci(0.9, method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    if successes:
        assert scipy.stats.binom.sf(successes - 1, trials, low) == pytest.approx(0.05)


def test_d_prime_is_the_inverse_of_a_simulated_listener():
    random = np.random.default_rng(1)
    for sensitivity in (0.5, 1.5, 3.0):
        assert d_prime(share_correct(sensitivity)) == pytest.approx(sensitivity)
        # Two intervals are compared, then X is judged; the optimal observer of independent observations.
        ab, x = random.normal(0, 1, (400_000, 2)), random.normal(0, 1, 400_000)
        first_is_a = ab[:, 0] + sensitivity > ab[:, 1]  # A is the louder, by sensitivity
        x_is_a = x + sensitivity > sensitivity / 2
        assert np.mean(first_is_a == x_is_a) == pytest.approx(share_correct(sensitivity), abs=0.003)
    assert d_prime(0.5) == d_prime(0.4) == 0 and d_prime(1.0) is None


def test_two_conditions_have_the_log_odds_for_strengths():
    found = pairs_model([answer("L", "a", "b", what) for what in "aaab"], level=0.95)
    assert found.log_strengths == pytest.approx((np.log(3) / 2, -np.log(3) / 2))
    assert found.deviations[0] == pytest.approx(np.sqrt(1 / 3 + 1) / 2) and found.intervals is None


def test_bradley_terry_against_a_logit_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    answers = drawn(np.random.default_rng(2), listeners=15, each=3)
    found = pairs_model(answers, level=0.95)
    names = list(TRUTH)
    design = np.zeros((len(answers), 3))  # strengths of a, b, c against d
    for row, one in enumerate(answers):
        for name, sign in ((one.condition, 1), (one.other, -1)):
            if name != "d":
                design[row, names.index(name)] = sign
    won = np.array([one.choice == one.condition for one in answers], dtype=float)
    groups = np.unique([one.listener for one in answers], return_inverse=True)[1]
    model = api.GLM(won, design, family=api.families.Binomial())
    # From differences to d to differences from the mean.
    centre = np.vstack([np.eye(3), np.zeros(3)]) - 1 / 4 * np.ones((4, 3))
    plain = model.fit()
    np.testing.assert_allclose(found.log_strengths, centre @ plain.params, atol=1e-6)
    np.testing.assert_allclose(found.deviations, np.sqrt(np.diag(centre @ plain.cov_params() @ centre.T)), rtol=1e-5)
    clustered = model.fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}).cov_params()
    errors = np.sqrt(np.diag(centre @ clustered @ centre.T) * 15 / 14)
    reach = scipy.stats.t.ppf(0.975, 14) * errors
    np.testing.assert_allclose([(one.high - one.low) / 2 for one in found.intervals], reach, rtol=1e-5)


def test_ties_follow_davidson():
    """Against the likelihood written out and climbed by scipy, and against the truth of many answers."""
    answers = drawn(np.random.default_rng(3), listeners=40, each=20, tie=-0.4)
    found = pairs_model(answers, level=0.95)
    index = {name: number for number, name in enumerate(TRUTH)}

    def negative(parameters):
        worth, nu = np.exp([*parameters[:3], -sum(parameters[:3])]), np.exp(parameters[3])
        total = 0.0
        for (first, second, choice), count in counts.items():
            one, other = worth[index[first]], worth[index[second]]
            tie = nu * np.sqrt(one * other)
            total -= count * np.log({first: one, second: other, None: tie}[choice] / (one + other + tie))
        return total

    counts: dict = {}
    for one in answers:
        key = (one.condition, one.other, one.choice)
        counts[key] = counts.get(key, 0) + 1
    best = scipy.optimize.minimize(negative, np.zeros(4), method="BFGS").x
    assert [*found.log_strengths[:3], found.tie] == pytest.approx(best.tolist(), abs=1e-4)
    assert found.tie == pytest.approx(-0.4, abs=0.1)
    for value, truth in zip(
        found.log_strengths, np.array(list(TRUTH.values())) - np.mean(list(TRUTH.values())), strict=True
    ):
        assert value == pytest.approx(truth, abs=0.1)


def test_what_has_no_finite_strengths_is_said():
    always = [answer("L", "a", "b", "a")] * 5 + [answer("L", "b", "c", "b"), answer("L", "b", "c", "c")]
    assert "every answer went the same way" in pairs_model(always, level=0.95)
    apart = [answer("L", one, two, what) for one, two in ("ab", "cd") for what in (one, two)]
    assert "or there was none" in pairs_model(apart, level=0.95)
    one_sided = [answer("L", "a", "b", what) for what in ("a", "a", None)]
    assert "ties on one side" in pairs_model(one_sided, level=0.95)
    assert pairs_model([answer("L", "a", "b", None)], level=0.95) == "every answer is a tie"


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_intervals_hold_the_truth_also_where_listeners_differ(spread):
    """Of 200 tests: 95 % ± 2.5 standard errors."""
    random = np.random.default_rng(4)
    held, naive = [], []
    for _ in range(200):
        answers = []
        for listener in range(20):
            taste = spread * random.normal()
            wins = random.random(8) < expit(0.5 + taste)
            answers += [answer(f"L{listener}", "a", "b", "ab"[int(not won)]) for won in wins]
        found = pairs_model(answers, level=0.95)
        # The strengths of the average listener: what many answers of many listeners would say.
        truth = (
            expit(0.5 + spread * np.polynomial.hermite_e.hermegauss(40)[0]) @ np.polynomial.hermite_e.hermegauss(40)[1]
        )
        target = np.log(1 / (1 - truth / np.sqrt(2 * np.pi)) - 1) / 2
        held.append(found.intervals[0].low <= target <= found.intervals[0].high)
        naive.append(abs(found.log_strengths[0] - target) <= 1.96 * found.deviations[0])
    assert 0.91 <= np.mean(held) <= 0.99
    if spread:
        assert np.mean(naive) < 0.92  # taking every answer for a listener of its own
