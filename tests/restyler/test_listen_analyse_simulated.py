"""Listeners with known effects: what was put in is found again, as often as it is promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from restyler.listen.achieved_power import smallest_d, smallest_share
from restyler.listen.analysis import analyse, screened
from restyler.listen.blocks import Settings
from restyler.listen.figures import drawings
from restyler.listen.plan import ListeningTest, Stimulus, Trial
from restyler.listen.scores import scores
from restyler.listen.simulate import Truth, simulate
from restyler.listen.summaries import interval, summaries, t_interval
from restyler.listen.tests_of_difference import holm, sign_flips, wilcoxon

ROLES = {"reference", "anchor35", "anchor70", "raw", "mix"}
MEANS = {"reference": 97.0, "anchor35": 20.0, "anchor70": 45.0, "ours": 65.0, "theirs": 55.0}


def stimulus(condition):
    role = condition if condition in ROLES else "system"
    return Stimulus(
        condition=condition, role=role, file=f"{condition}.wav", source="s", gain_db=0.0, loudness_lufs=-23.0
    )


def plan(kind, conditions, *, items=5, repeats=0, ties=False, each=1):
    pages = [(f"{kind}-{item}-{turn}", item, None) for item in range(items) for turn in range(each)]
    pages += [(f"{kind}-{item}-0 again", item, f"{kind}-{item}-0") for item in range(repeats)]
    trials = tuple(
        Trial(
            id=name, kind=kind, item=f"song {item}", repeat_of=of, question="How good?", ties=ties, start_s=0.0,
            reference=stimulus("reference") if kind == "mushra" else None, stimuli=tuple(map(stimulus, conditions)),
        )
        for name, item, of in pages
    )  # fmt: skip
    return ListeningTest(
        format=1, name="simulated", seed=0, consent="c", instructions="i", finish="f", headphone_check=False,
        sample_rate_hz=48_000, duration_s=9.0, listeners=20, owner_token_sha256="0", listener_tokens_sha256=(),
        power=(), trials=trials,
    )  # fmt: skip


def test_means_of_many_listeners_are_the_truth():
    truth = Truth(means=MEANS, bias_sd=2, taste_sd=2, noise_sd=5)
    answers = simulate(plan("rating", [*MEANS][1:], items=4), 150, truth, np.random.default_rng(0))
    for one in summaries(scores(answers), seed=0, level=0.95):
        assert one.mean == pytest.approx(MEANS[one.condition], abs=1.0)
    graded = simulate(
        plan("acr", ["a", "b"]), 150, Truth(means={"a": 3, "b": 2.6}, noise_sd=0.7), np.random.default_rng(0)
    )
    a, b = summaries(scores(graded), seed=0, level=0.95)
    assert (a.mean, b.mean) == pytest.approx((3, 2.6), abs=0.1)


@pytest.mark.parametrize(
    ("tests", "low", "high"), [(400, 0.92, 0.98), pytest.param(4000, 0.93, 0.97, marks=pytest.mark.slow)]
)
def test_intervals_hold_the_truth_in_95_of_100_tests(tests, low, high):
    """Of 15 listeners, who differ more than their answers: the mean, by bootstrap and by Student, and a difference."""
    random = np.random.default_rng(1)
    design = plan("rating", ["a", "b"], items=2)
    truth = Truth(means={"a": 55, "b": 50}, bias_sd=6, taste_sd=4, noise_sd=8)
    held = []
    for _ in range(tests):
        means = scores(simulate(design, 15, truth, random)).by_listener()
        intervals = (
            (interval(means[:, :1], "mean", seed=0, level=0.95), 55),
            (t_interval(means[:, 0], level=0.95), 55),
            (interval(means[:, :1] - means[:, 1:], "mean", seed=0, level=0.95), 5),
        )
        held.append([one.low <= value <= one.high for one, value in intervals])
    assert (np.mean(held, axis=0) >= low).all() and (np.mean(held, axis=0) <= high).all()


def test_tests_of_no_difference_err_as_often_as_alpha():
    """2000 tests of 12 listeners without any difference, of scores that are not normal."""
    random = np.random.default_rng(2)
    flips, ranks = [], []
    for _ in range(2000):
        values = np.round(random.laplace(0, 10, 12))
        flips.append(sign_flips(values, random, flips=400))
        ranks.append(wilcoxon(values))
    assert np.mean(np.array(flips) <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 2000))
    assert np.mean(np.array(ranks) <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 2000) + 0.005)


def test_holm_keeps_the_whole_family_at_alpha():
    """Ten pairs of five conditions that don't differ, in 1500 tests: one false find anywhere in at most 5 %."""
    random = np.random.default_rng(3)
    alone, family = [], []
    for _ in range(1500):
        table = random.normal(size=(10, 5))
        p = [sign_flips(table[:, i] - table[:, j], random, flips=1100) for i in range(5) for j in range(i)]
        alone.append(min(p) <= 0.05)
        family.append(min(holm(p)) <= 0.05)
    assert np.mean(family) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 1500)
    assert np.mean(alone) > 0.15  # without it


@pytest.mark.parametrize("listeners", [12, 25])
def test_what_the_test_could_have_shown_is_shown_in_four_of_five(listeners):
    effect = smallest_d(listeners, 0.05)
    random = np.random.default_rng(4)
    found = [wilcoxon(random.normal(effect, 1, listeners)) <= 0.05 for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_smallest_effects_against_statsmodels_and_exact_sums():
    power = pytest.importorskip("statsmodels.stats.power")
    for listeners in (8, 20, 60):
        t_test = power.TTestPower().solve_power(nobs=listeners * 3 / np.pi, alpha=0.01, power=0.8)
        assert smallest_d(listeners, 0.01) == pytest.approx(t_test, rel=1e-4)
    assert smallest_d(5, 0.05) is None  # 2 · 2⁻⁵ is above it
    share = smallest_share(16, 0.05)  # needs 12 of 16
    assert np.sum(np.random.default_rng(5).random((200_000, 16)) < share, axis=1).__ge__(12).mean() == pytest.approx(
        0.8, abs=0.005
    )
    assert smallest_share(4, 0.05) is None


def test_careless_listeners_are_screened_and_careful_ones_kept():
    truth = Truth(means=MEANS, bias_sd=1, taste_sd=1, noise_sd=2, careless=frozenset({3, 7}))
    design = plan("mushra", MEANS, items=10)
    answers = simulate(design, 20, truth, np.random.default_rng(6))
    verdicts = screened(answers, None)
    assert [one.listener for one in verdicts if not one.kept] == ["listener 4", "listener 8"]
    content = analyse(design, answers, Settings(seed=0, alpha=0.05)).content
    (block,) = content["blocks"]
    assert (content["listeners"], block["answered_by"], block["listeners"]) == (20, 20, 18)
    # Reference and anchors are for the scale.
    assert [(one["first"], one["second"]) for one in block["differences"]] == [("ours", "theirs")]
    # With one system, what can be asked is whether it is told from the reference.
    design = plan("mushra", ["reference", "ours", "anchor35"], items=5)
    answers = simulate(design, 10, Truth(means=MEANS, noise_sd=2), np.random.default_rng(6))
    (block,) = analyse(design, answers, Settings(seed=0, alpha=0.05)).content["blocks"]
    assert [(one["first"], one["second"]) for one in block["differences"]] == [("ours", "reference")]


def test_repeats_can_screen_where_there_is_no_reference():
    design = plan("rating", ["a", "b", "c"], items=6, repeats=6)
    truth = Truth(means={"a": 40, "b": 50, "c": 60}, noise_sd=4, careless=frozenset({0}))
    answers = simulate(design, 8, truth, np.random.default_rng(7))
    assert all(one.kept for one in screened(answers, None))
    assert [one.listener for one in screened(answers, 15.0) if not one.kept] == ["listener 1"]
    (block,) = analyse(design, answers, Settings(seed=0, alpha=0.05, retest_limit=15.0)).content["blocks"]
    assert block["retests"][0]["within"] == pytest.approx(4, rel=0.15)


def test_choices_are_analysed_as_they_were_made():
    random = np.random.default_rng(8)
    conditions = {"a": 0.9, "b": 0.0}
    design = plan("ab", list(conditions), items=6)
    answers = simulate(design, 60, Truth(log_strengths=conditions), random)
    (block,) = analyse(design, answers, Settings(seed=0, alpha=0.05)).content["blocks"]
    (pair,) = block["differences"]
    assert pair["mean"] == pytest.approx(2 * expit(0.9) - 1, abs=0.1) and pair["holm"] < 0.001
    (count,) = block["counts"]
    assert count["preferred_first"] + count["preferred_second"] == 360 and count["ties"] == 0
    assert block["strengths"]["log_strengths"][0] == pytest.approx(0.45, abs=0.12)

    design = plan("abx", ["a", "b"], items=8)
    (block,) = analyse(
        design, simulate(design, 12, Truth(share_correct=0.8), random), Settings(seed=0, alpha=0.05)
    ).content["blocks"]
    (pair,) = block["pairs"]
    assert pair["all"]["trials"] == 96 and pair["all"]["share"]["estimate"] == pytest.approx(0.8, abs=0.1)
    assert pair["all"]["p"] < 0.001 and len(pair["each"]) == 12

    design = plan("ccr", ["a", "b"], items=6)
    answers = simulate(design, 20, Truth(means={"a": 0.6, "b": 0.0}, noise_sd=0.8), random)
    (block,) = analyse(design, answers, Settings(seed=0, alpha=0.05)).content["blocks"]
    (told,) = block["t_intervals"]
    assert told["mean"]["low"] < 0.6 < told["mean"]["high"] and block["differences"][0]["permutation"] < 0.001


def test_assumptions_choose_the_overall_test():
    design = plan("rating", ["a", "b", "c"], items=4)
    settings = Settings(seed=0, alpha=0.05)
    normal = simulate(
        design, 25, Truth(means={"a": 40, "b": 50, "c": 60}, noise_sd=8, bias_sd=5), np.random.default_rng(9)
    )
    (block,) = analyse(design, normal, settings).content["blocks"]
    assert block["overall"]["anova"]["effects"][0]["p"] < 0.001 and "friedman" not in block["overall"]
    # One listener in five has it the other way round, and how: no longer normal.
    odd = [one for one in normal if int(one.listener.split()[1]) % 5]
    odd += simulate(design, 5, Truth(means={"a": 99, "b": 0, "c": 0}), np.random.default_rng(9))
    odd = [one for one in odd if one.listener != "listener 2"] + [
        one for one in normal if one.listener == "listener 2"
    ][:2]
    seen = {(one.listener, one.trial, one.condition): one for one in odd}
    (block,) = analyse(design, list(seen.values()), settings).content["blocks"]
    assert block["overall"]["friedman"]["degrees"] == 2 and "anova" not in block["overall"]
    assert block["overall"]["incomplete"] == ["listener 2"]
    assert any("not normal" in reason for reason in block["not_computed"])


def test_conditions_that_not_every_item_has():
    """Differences and agreement use what there is; one test of all conditions is said to be impossible."""
    design = plan("rating", ["a", "b", "c"], items=4)
    trials = tuple(
        one.model_copy(update={"stimuli": one.stimuli[:2]}) if one.item == "song 0" else one for one in design.trials
    )
    design = design.model_copy(update={"trials": trials})
    answers = simulate(design, 12, Truth(means={"a": 40, "b": 50, "c": 60}, noise_sd=5), np.random.default_rng(11))
    (block,) = analyse(design, answers, Settings(seed=0, alpha=0.05)).content["blocks"]
    assert block["listeners_complete"] == 12 and block["agreement"]["judged"] == 11
    assert any("not every condition was heard on every item" in reason for reason in block["not_computed"])
    assert [one["listeners"] for one in block["differences"]] == [12, 12, 12]


def test_a_reference_among_ratings_is_a_condition_as_any_other():
    """As power counts the pairs before the test: it holds no scale there, and screens nobody."""
    design = plan("rating", ["reference", "ours", "theirs"], items=2)
    (block,) = analyse(
        design, simulate(design, 6, Truth(means=MEANS, noise_sd=2), np.random.default_rng(0)), Settings(0, 0.05)
    ).content["blocks"]
    assert {(one["first"], one["second"]) for one in block["differences"]} == {
        ("ours", "reference"), ("ours", "theirs"), ("reference", "theirs"),
    }  # fmt: skip


def test_listeners_who_all_say_the_same_tell_nothing_of_what_could_have_been_shown():
    design = plan("rating", ["ours", "theirs"], items=2)
    answers = simulate(design, 8, Truth(means=MEANS), np.random.default_rng(0))
    (block,) = analyse(design, answers, Settings(0, 0.05)).content["blocks"]
    assert block["power"]["smallest_dz"] > 0 and block["power"]["smallest_points"] is None


def test_blocks_are_numbered_by_the_plan_also_before_all_are_answered():
    both = plan("rating", ["ours", "theirs"], items=1)
    both = both.model_copy(update={"trials": (*both.trials, *plan("ab", ["ours", "theirs"], items=1).trials)})
    truth = Truth(means=MEANS, log_strengths={"ours": 0.0, "theirs": 0.0})
    answers = [one for one in simulate(both, 3, truth, np.random.default_rng(0)) if one.kind == "ab"]
    assert [one.name for one in analyse(both, answers, Settings(0, 0.05)).blocks] == ["02-ab"]


@pytest.mark.filterwarnings("error")
def test_a_figure_of_a_hundred_items_has_room_for_their_names():
    pytest.importorskip("matplotlib")
    design = plan("rating", ["ours", "theirs"], items=100)
    answers = simulate(design, 2, Truth(means=MEANS, noise_sd=9), np.random.default_rng(0))
    (block,) = analyse(design, answers, Settings(0, 0.05)).blocks
    drawn = {one.name: one.svg.decode() for one in drawings(block, 0.95)}
    assert "song 99" in drawn["01-rating-items"]


def test_the_same_answers_in_any_order_give_the_same_report():
    design = plan("rating", ["a", "b"], items=3)
    answers = simulate(design, 15, Truth(means={"a": 50, "b": 52}, noise_sd=5), np.random.default_rng(10))
    first, again = (analyse(design, given, Settings(seed=3, alpha=0.05)).content for given in (answers, answers[::-1]))
    assert first == again
    other = analyse(design, answers, Settings(seed=4, alpha=0.05)).content
    assert first["blocks"][0]["differences"][0]["permutation"] != other["blocks"][0]["differences"][0]["permutation"]
