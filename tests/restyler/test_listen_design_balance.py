"""Who meets which page and which sound where: counted over listeners."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from restyler.listen.balance import Page, pages, williams
from restyler.listen.plan import Kind, ListeningTest, Stimulus, Trial


def stimulus(condition: str) -> Stimulus:
    return Stimulus(
        condition=condition, role="system", file=f"{condition}.wav", source="s", gain_db=0.0, loudness_lufs=-23.0
    )


def trial(number: int, kind: Kind = "rating", conditions: str = "abcd", **further: object) -> Trial:
    fields = {"id": f"{kind}-{number}", "kind": kind, "item": f"song{number}", "question": f"{kind}?", "start_s": 0.0}
    return Trial.model_validate(fields | {"stimuli": tuple(stimulus(name) for name in conditions)} | further)


def plan(*trials: Trial, seed: int = 3) -> ListeningTest:
    return ListeningTest(
        format=1, name="t", seed=seed, consent="", instructions="", finish="", headphone_check=False,
        sample_rate_hz=48000, duration_s=1.0, listeners=1, owner_token_sha256="", listener_tokens_sha256=(), power=(),
        trials=trials,
    )  # fmt: skip


def by_id(listed: tuple[Page, ...]) -> dict[str, Page]:
    return {page.trial.id: page for page in listed}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 9, 12])
def test_williams_rows_balance_places_and_neighbours(count: int) -> None:
    rows = williams(count)
    per_place = len(rows) // count
    places = Counter((item, place) for row in rows for place, item in enumerate(row))
    assert places == {(item, place): per_place for item in range(count) for place in range(count)}
    neighbours = Counter(pair for row in rows for pair in pairwise(row))
    assert neighbours == {(a, b): per_place for a in range(count) for b in range(count) if a != b}


def test_the_order_depends_on_seed_and_listener_alone() -> None:
    trials = [trial(number) for number in range(8)]
    first = pages(plan(*trials), 5)
    assert first == pages(plan(*trials), 5)
    orders = {tuple(page.trial.id for page in pages(plan(*trials), listener)) for listener in range(16)}
    assert len(orders) == 16
    assert first != pages(plan(*trials, seed=4), 5)
    with pytest.raises(ValueError, match="-1"):
        pages(plan(*trials), -1)


@pytest.mark.parametrize("count", [5, 6])
def test_trials_of_a_full_set_of_listeners_are_balanced_in_place_and_neighbours(count: int) -> None:
    trials = [trial(number) for number in range(count)]
    listeners = len(williams(count))
    orders = [[page.trial.id for page in pages(plan(*trials), listener)] for listener in range(listeners)]
    places = Counter((name, place) for order in orders for place, name in enumerate(order))
    assert set(places.values()) == {listeners // count}
    assert len(places) == count * count
    assert set(Counter(pair for order in orders for pair in pairwise(order)).values()) == {listeners // count}


@pytest.mark.parametrize("conditions", ["ab", "abc", "abcd", "abcdefgh", "abcdefghijkl"])
@pytest.mark.parametrize("listeners", [4, 13, 24, 50])
def test_every_stimulus_stands_in_every_slot_equally_often(conditions: str, listeners: int) -> None:
    trials = [trial(number, conditions=conditions) for number in range(3)]
    counts: Counter[tuple[str, int, int]] = Counter()
    for listener in range(listeners):
        for page in pages(plan(*trials), listener):
            assert sorted(page.slots) == list(range(len(conditions)))
            counts.update((page.trial.id, slot, index) for slot, index in enumerate(page.slots))
    size = len(conditions)
    every = [counts[one.id, slot, index] for one in trials for slot in range(size) for index in range(size)]
    assert max(every) - min(every) <= 1


def test_slots_of_one_page_do_not_tell_those_of_the_next() -> None:
    """Who has recognised a sound on one page must not know where it stands on another."""
    trials = [trial(number) for number in range(2)]
    seen = Counter()
    for listener in range(400):
        found = by_id(pages(plan(*trials), listener))
        seen[found["rating-0"].slots.index(0), found["rating-1"].slots.index(0)] += 1
    assert len(seen) == 16
    assert max(seen.values()) < 25 + 5 * 5  # five standard deviations of a count of 25


@pytest.mark.parametrize("kind", ["ab", "ccr"])
def test_pairs_are_heard_both_ways_round(kind: Kind) -> None:
    trials = [trial(number, kind, "ab" if number % 2 else "ba") for number in range(7)]
    for listener in range(0, 20, 2):
        first, second = (by_id(pages(plan(*trials), number)) for number in (listener, listener + 1))
        for one in trials:
            assert first[one.id].slots == second[one.id].slots[::-1]
        of_a = sum(one.stimuli[first[one.id].slots[0]].condition == "a" for one in trials)
        assert of_a in (3, 4)


def test_abx_meets_its_four_forms_and_x_is_no_balanced_series() -> None:
    trials = [trial(number, "abx", "ab") for number in range(6)]
    sums = Counter()
    for first in range(0, 80, 4):
        four = [by_id(pages(plan(*trials), listener)) for listener in range(first, first + 4)]
        for one in trials:
            assert {found[one.id].slots for found in four} == {(0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)}
        sums.update(sum(page.slots[2] == page.slots[0] for page in found.values()) for found in four)
    assert len(sums) >= 5  # of 80 series of 6 the numbers of «X is A» are spread as a binomial's
    variance = sum(count * (value - 3) ** 2 for value, count in sums.items()) / 80
    assert 0.7 < variance < 2.6  # 6/4 with five standard errors; a balanced series has 0


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_a_repeat_stands_apart_from_its_original(count: int) -> None:
    trials = [trial(number) for number in range(count)]
    again = [
        one.model_copy(update={"id": f"{one.id}-again", "repeat_of": one.id}) for one in trials[: max(1, count // 2)]
    ]
    for listener in range(4 * count):
        order = [page.trial.id for page in pages(plan(*trials, *again), listener)]
        assert sorted(order) == sorted(one.id for one in (*trials, *again))
        for repeat in again:
            apart = abs(order.index(repeat.id) - order.index(str(repeat.repeat_of)))
            assert apart > 1
            assert apart >= count // 2


def test_training_comes_first_and_blocks_stay_together() -> None:
    trials = [trial(9, training=True), *(trial(n) for n in range(4)), *(trial(n, "ab", "ab") for n in range(4))]
    firsts = set()
    for listener in range(6):
        found = pages(plan(*trials), listener)
        assert [page.trial.training for page in found] == [True] + 8 * [False]
        kinds = [page.trial.kind for page in found[1:]]
        assert sum(a != b for a, b in pairwise(kinds)) == 1
        firsts.add(kinds[0])
    assert firsts == {"rating", "ab"}
