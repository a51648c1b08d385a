"""Statistics of scores: scipy, statsmodels, pingouin, and what can be counted by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from restyler.listen.anova import anova
from restyler.listen.answers import Answer
from restyler.listen.reliability import agreement, retests, same_choices
from restyler.listen.scores import judged_differences, score_differences, scores
from restyler.listen.screening import ambiguous, outliers, screen
from restyler.listen.summaries import expanded, fewest, interval, multimodality, quartiles, summaries, t_interval
from restyler.listen.tests_of_difference import (
    cohens_dz,
    differences,
    friedman,
    holm,
    rank_biserial,
    sign_flips,
    wilcoxon,
)

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # pingouin's, with new versions of pandas


@pytest.fixture
def random():
    return np.random.default_rng(0)


def answer(listener, trial, condition, score, **more):
    fields = {"kind": "mushra", "item": trial.removesuffix(" again")} | more
    return Answer(listener=listener, trial=trial, condition=condition, score=score, **fields)


def of_array(values):
    """Answers of values [listeners conditions items]; NaN is no answer."""
    return [
        answer(f"L{who:02}", f"t{item}", f"c{what}", float(value))
        for (who, what, item), value in np.ndenumerate(values)
        if not np.isnan(value)
    ]


def test_answers_become_arrays_with_repeats_averaged_and_gaps_kept():
    found = scores(
        [
            answer("a", "song", "x", 10.0),
            answer("a", "song again", "x", 20.0, repeat_of="song"),
            answer("a", "song", "y", 50.0),
            answer("b", "tune", "y", 70.0),
        ]
    )
    assert (found.listeners, found.conditions, found.items) == (("a", "b"), ("x", "y"), ("song", "tune"))
    nan = math.nan
    np.testing.assert_array_equal(found.values, [[[15, nan], [50, nan]], [[nan, nan], [nan, 70]]])
    np.testing.assert_array_equal(score_differences(found, ["y", "x"]).values, [[[35, nan]], [[nan, nan]]])
    np.testing.assert_array_equal(found.asked(), [[True, False], [True, True]])
    np.testing.assert_array_equal(found.complete(), [False, False])


def test_comparisons_are_turned_to_the_order_of_names():
    pair = {"kind": "ccr", "item": "song"}
    found = judged_differences(
        [answer("a", "1", "x", 2.0, other="y", **pair), answer("b", "1", "y", 2.0, other="x", **pair)]
    )
    assert found.pairs == (("x", "y"),) and found.values.ravel().tolist() == [2.0, -2.0]
    chosen = {"kind": "ab", "item": "song", "other": "y"}
    found = judged_differences(
        [answer(who, "1", "x", None, choice=what, **chosen) for who, what in zip("abc", ["x", None, "y"], strict=True)]
    )
    assert found.values.ravel().tolist() == [1.0, 0.0, -1.0]


def test_quartiles_are_medians_of_halves_that_share_the_middle():
    assert quartiles(np.array([5, 1, 4, 2, 3])) == (2, 3, 4)
    assert quartiles(np.array([6, 1, 5, 2, 4, 3])) == (2, 3.5, 5)
    assert quartiles(np.array([7.0])) == (7, 7, 7)


def test_screening_as_the_recommendation_says():
    """Twenty pages: three of twenty are 15 %, which is allowed; four are more."""
    pages = [f"t{number:02}" for number in range(20)]
    rows = {"fine": 3, "low reference": 4, "edge": 0, "other": 0, "more": 0}
    answers = [
        answer(who, page, "reference", 89.0 if number < failed else 90.0, role="reference")
        for who, failed in rows.items()
        for number, page in enumerate(pages)
    ]
    high = {
        "fine": range(2),
        "low reference": range(0),
        "edge": range(4, 8),
        "other": range(19, 20),
        "more": range(18, 20),
    }
    answers += [
        answer(who, page, "anchor70", 91.0 if number in high[who] else 90.0, role="anchor70")
        for who in rows
        for number, page in enumerate(pages)
    ]
    verdicts = {verdict.listener: verdict for verdict in screen(answers)}
    assert {name: verdict.kept for name, verdict in verdicts.items()} == {
        "fine": True, "low reference": False, "edge": False, "other": True, "more": True,
    }  # fmt: skip
    assert "4 of 20" in verdicts["low reference"].reasons[0]
    # Page 19 fooled two of five, more than a quarter: it counts for nobody.
    assert ambiguous(answers) == ["t19"]
    assert {verdict.anchor_judged for verdict in verdicts.values()} == {19}
    assert (verdicts["edge"].anchor_failed, verdicts["more"].anchor_failed) == (4, 1)


@pytest.mark.parametrize(("listeners", "out"), [(1, []), (3, []), (4, ["L0"])])
def test_of_fewer_than_four_listeners_the_mid_anchor_screens_nobody(listeners, out):
    """One of three is more than a quarter, one of four is not."""
    found = [
        answer(f"L{who}", page, "anchor70", 99.0 if who == 0 else 20.0, role="anchor70")
        for who in range(listeners)
        for page in ("t0", "t1")
    ]
    assert [one.listener for one in screen(found) if not one.kept] == out
    assert ambiguous(found) == ([] if out else ["t0", "t1"])


def test_outliers_are_beyond_the_fences_of_their_page():
    answers = of_array(np.array([50, 52, 54, 56, 58, 90.0])[:, None, None])
    (found,) = outliers(answers)  # quartiles 52 and 58: fences 43 and 67
    assert (found.listener, found.score, found.low, found.high) == ("L05", 90, 43, 67)


def test_summaries_take_the_listener_as_the_unit(random):
    values = random.normal(50, 10, (12, 2, 5))
    values[3, 0, 2:] = np.nan
    found = summaries(scores(of_array(values)), seed=0, level=0.95)[0]
    means = np.nanmean(values[:, 0], axis=1)
    known = values[:, 0][~np.isnan(values[:, 0])]
    assert found.mean == pytest.approx(means.mean()) and found.ratings == 57
    assert found.median == pytest.approx(np.median(known))
    reference = scipy.stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert found.t_interval[1:] == pytest.approx((reference.low, reference.high))
    width = found.by_listener.high - found.by_listener.low
    assert width == pytest.approx(reference.high - reference.low, rel=0.1)
    assert found.by_item.estimate == pytest.approx(np.nanmean(values[:, 0], axis=0).mean())


def test_expanded_percentiles_are_as_wide_as_students_interval(random):
    """The bootstrap means of normal scores are nearly normal, with the biased variance."""
    values = scipy.stats.norm.ppf((np.arange(40) + 0.5) / 40)
    found, exact = interval(values[:, None], "mean", seed=1, level=0.95), t_interval(values, level=0.95)
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.04)
    assert expanded(0.95, 100_000) == pytest.approx(0.95, abs=1e-4)
    assert t_interval(np.ones(1), level=0.95) is None


def test_too_few_units_get_no_bootstrap_interval():
    """All that resamples of four values reach holds a normal mean in less than 95 % of samples."""
    assert (fewest(0.95), fewest(0.5), fewest(0.995)) == (5, 2, 19)
    samples = np.random.default_rng(0).normal(size=(4000, 4))
    assert np.mean((samples.min(1) < 0) & (samples.max(1) > 0)) < 0.9
    assert interval(samples[0][:, None], "mean", seed=1, level=0.95) is None
    assert interval(samples[:5, :1], "mean", seed=1, level=0.95) is not None


def test_multimodality_tells_two_camps_from_one(random):
    assert multimodality(random.uniform(size=20_000)) == pytest.approx(5 / 9, abs=0.01)
    assert multimodality(random.normal(size=20_000)) == pytest.approx(1 / 3, abs=0.01)
    assert multimodality(np.concatenate([random.normal(0, 1, 20), random.normal(9, 1, 20)])) > 5 / 9
    assert multimodality(np.ones(9)) is None and multimodality(np.arange(3.0)) is None


def test_sign_flips_are_exact_for_few_and_nearly_so_for_many(random):
    values = random.normal(0.6, 1, 9)
    every = [abs(np.dot(signs, values)) for signs in itertools.product((1, -1), repeat=9)]
    exact = np.mean(np.array(every) >= abs(values.sum()) - 1e-12)
    assert sign_flips(values, random) == exact
    assert sign_flips(values, random, flips=500) == pytest.approx(exact, abs=4 * np.sqrt(exact / 500))
    expected = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert exact == pytest.approx(expected.pvalue)
    assert sign_flips(np.full(40, 3.0), random) == 1 / 10_001  # never 0
    assert sign_flips(np.zeros(5), random) == 1


def test_holm_against_statsmodels(random):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for size in (1, 2, 7, 45):
        p = random.beta(0.3, 2, size)
        np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_effect_sizes_against_pingouin(random):
    pingouin = pytest.importorskip("pingouin")
    first, second = random.integers(40, 70, 30).astype(float), random.integers(45, 75, 30).astype(float)
    table = pingouin.wilcoxon(first, second)
    assert rank_biserial(first - second) == pytest.approx(float(table["RBC"].iloc[0]))
    t = scipy.stats.ttest_rel(first, second).statistic
    assert cohens_dz(first - second) == pytest.approx(t / np.sqrt(30))
    assert cohens_dz(np.full(5, 2.0)) is None and wilcoxon(np.zeros(5)) == 1 and rank_biserial(np.zeros(5)) == 0


def test_signed_ranks_are_exact_with_and_without_ties(random):
    for values in (random.normal(0.4, 1, 8), random.normal(0.3, 1, 45)):
        assert wilcoxon(values) == pytest.approx(scipy.stats.wilcoxon(values, method="exact").pvalue)
    tied = np.array([3, 3, -1, 2, 2, -2, 0, 5, 1, 1.0])
    every = scipy.stats.PermutationMethod(n_resamples=np.inf)
    assert wilcoxon(tied) == pytest.approx(scipy.stats.wilcoxon(tied, method=every).pvalue)
    many = random.integers(-20, 26, 200).astype(float)
    assert wilcoxon(many) == pytest.approx(scipy.stats.wilcoxon(many, method="asymptotic").pvalue, abs=0.003)


def test_differences_average_items_within_listeners(random):
    values = random.normal(50, 5, (8, 3, 4))
    values[2, 1] = np.nan  # one who never judged c1
    table = differences(score_differences(scores(of_array(values)), ["c0", "c1", "c2"]), seed=0, level=0.95)
    assert [(row.first, row.second, row.listeners) for row in table] == [
        ("c0", "c1", 7),
        ("c0", "c2", 8),
        ("c1", "c2", 7),
    ]
    means = (values[:, 0] - values[:, 2]).mean(axis=1)
    assert table[1].mean == pytest.approx(means.mean()) and table[1].cohens_dz == pytest.approx(cohens_dz(means))
    assert [row.holm for row in table] == holm([row.permutation for row in table])
    assert [row.wilcoxon_holm for row in table] == holm([row.wilcoxon for row in table])


def test_friedman_and_kendalls_w():
    table = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3.0]])
    found = friedman(table)
    assert (found.kendalls_w, found.degrees) == (1, 2) and found.p == scipy.stats.friedmanchisquare(*table.T).pvalue
    assert friedman(table[:, :2]) is None and friedman(np.ones((5, 3))) is None


@pytest.mark.parametrize(("listeners", "conditions", "items"), [(12, 4, 3), (9, 2, 4), (20, 5, 1), (5, 4, 3)])
def test_anova_against_statsmodels_and_pingouin(random, listeners, conditions, items):
    pandas = pytest.importorskip("pandas")
    statsmodels = pytest.importorskip("statsmodels.stats.anova")
    pingouin = pytest.importorskip("pingouin")
    values = random.normal(50, 10, (listeners, conditions, items)) + random.normal(0, 8, (listeners, conditions, 1))
    values += np.arange(conditions)[:, None] * 3
    found = anova(values)
    frame = pandas.DataFrame(
        [(a, b, c, v) for (a, b, c), v in np.ndenumerate(values)], columns=["who", "condition", "item", "y"]
    )
    within = ["condition", "item"] if items > 1 else ["condition"]
    table = statsmodels.AnovaRM(frame, "y", "who", within=within).fit().anova_table
    for effect, (_, row) in zip(found.effects, table.iterrows(), strict=True):
        assert (effect.f, effect.degrees, effect.error_degrees) == pytest.approx(
            (row["F Value"], row["Num DF"], row["Den DF"])
        )
        assert effect.p_uncorrected == pytest.approx(row["Pr > F"])
    means = frame.groupby(["who", "condition"], as_index=False)["y"].mean()
    one = found.effects[0]
    if conditions > 2:
        for name, value in (("gg", one.epsilon_gg), ("hf", one.epsilon_hf)):
            assert value == pytest.approx(
                pingouin.epsilon(means, dv="y", within="condition", subject="who", correction=name)
            )
        if listeners - 1 > one.degrees:
            sphericity = pingouin.sphericity(means, dv="y", within="condition", subject="who")
            # Its p has a second term, in which (as R) it counts conditions for degrees of freedom.
            assert one.mauchly == pytest.approx(scipy.stats.chi2.sf(sphericity.chi2, sphericity.dof))
    reference = pingouin.rm_anova(means, dv="y", within="condition", subject="who", effsize="np2", correction=True)
    assert one.eta == pytest.approx(float(reference["np2"].iloc[0]))
    if items > 1:
        assert found.effects[2].corrected == (
            "Huynh–Feldt" if listeners - 1 > found.effects[2].degrees else "Greenhouse–Geisser"
        )


def test_anova_needs_everything_and_some_disagreement(random):
    values = random.normal(size=(5, 3, 2))
    values[1, 1, 1] = np.nan
    with pytest.raises(ValueError, match="every value"):
        anova(values)
    with pytest.raises(ValueError, match="exactly the same"):
        anova(np.tile(np.arange(3.0)[:, None], (4, 1, 2)))


def test_agreement_against_pingouin(random):
    pandas = pytest.importorskip("pandas")
    pingouin = pytest.importorskip("pingouin")
    for noise in (3, 20):
        table = random.normal(50, 10, (15, 1)) + random.normal(0, 5, 8) + random.normal(0, noise, (15, 8))
        frame = pandas.DataFrame([(a, b, v) for (a, b), v in np.ndenumerate(table)], columns=["what", "who", "y"])
        reference = pingouin.intraclass_corr(frame, targets="what", raters="who", ratings="y")
        found = agreement(table, level=0.95)
        column = next(name for name in reference.columns if name.startswith("CI95"))
        for row, value in ((1, found.single), (5, found.mean)):
            assert value.estimate == pytest.approx(float(reference["ICC"].iloc[row]))
            assert value[1:] == pytest.approx(list(reference[column].iloc[row]), abs=0.006)
    assert agreement(np.ones((4, 4)), level=0.95) is None and agreement(table[:1], level=0.95) is None


def test_retest_by_hand_and_against_what_was_simulated(random):
    truth = random.uniform(20, 80, (300, 2))
    answers = [
        answer(who, f"t{number}{again}", "c", float(truth[number, place] + random.normal(0, 5)), repeat_of=of)
        for place, who in enumerate("ab")
        for number in range(300)
        for again, of in (("", None), (" again", f"t{number}"))
    ]
    everyone, first, second = retests(answers)
    assert (everyone.listener, everyone.pairs, first.pairs) == (None, 600, 300)
    assert everyone.within == pytest.approx(5, rel=0.1) and everyone.repeatable == pytest.approx(
        1.96 * 2**0.5 * 5, rel=0.1
    )
    assert everyone.correlation == pytest.approx(300 / (300 + 25), abs=0.03)
    assert everyone.mean_absolute == pytest.approx((first.mean_absolute + second.mean_absolute) / 2)
    assert retests(answers[:1]) == []


def test_choices_made_twice():
    pair = {"kind": "ab", "item": "song", "other": "y"}
    answers = [
        answer(who, trial, "x", None, choice=choice, repeat_of=of, **pair)
        for who, choices in (("a", "xx"), ("b", "xy"))
        for (trial, of), choice in zip((("1", None), ("2", "1")), choices, strict=True)
    ]
    assert [(one.listener, one.pairs, one.same) for one in same_choices(answers)] == [
        (None, 2, 1),
        ("a", 1, 1),
        ("b", 1, 0),
    ]
