"""Splits that can't leak and stay where they are; segments that hold the activity and leave the pauses."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.errors import InputError
from restyler.prepare.matching import Pair
from restyler.prepare.segments import SegmentRules, active_segments
from restyler.prepare.splits import assign_splits

BY = ("song", "singer")


def pair(number: int, song: str, singer: str | None = None, split: str | None = None) -> Pair:
    return Pair(f"k{number}", f"t{number}", Path(f"r{number}"), Path(f"m{number}"), song, singer, split=split)


@st.composite
def sets(draw: st.DrawFn) -> tuple[list[Pair], list[tuple[str, str]]]:
    rows = draw(
        st.lists(st.tuples(st.integers(0, 6), st.one_of(st.none(), st.integers(0, 4))), min_size=1, max_size=20)
    )
    pairs = [pair(i, f"s{song}", None if singer is None else f"v{singer}") for i, (song, singer) in enumerate(rows)]
    ties = st.tuples(st.sampled_from(pairs), st.sampled_from(pairs)).map(lambda two: (two[0].key, two[1].key))
    return pairs, draw(st.lists(ties, max_size=4))


@given(sets())
@settings(max_examples=200, deadline=None)
def test_no_song_singer_or_recording_is_in_two_splits(made: tuple[list[Pair], list[tuple[str, str]]]) -> None:
    pairs, duplicates = made
    splits = assign_splits(pairs, duplicates, by=BY, validation=0.3, test=0.3)
    for one, other in itertools.combinations(pairs, 2):
        shared = one.song == other.song or (one.singer is not None and one.singer == other.singer)
        if shared or (one.key, other.key) in duplicates or (other.key, one.key) in duplicates:
            assert splits[one.key] == splits[other.key]


@given(sets(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_splits_do_not_depend_on_the_order(made: tuple[list[Pair], list[tuple[str, str]]], random: object) -> None:
    pairs, duplicates = made
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    both = [assign_splits(p, duplicates, by=BY, validation=0.3, test=0.3) for p in (pairs, shuffled)]
    assert both[0] == both[1]


def test_songs_added_to_known_and_new_singers_move_nothing() -> None:
    before = [pair(i, f"s{i}", f"v{i % 40}") for i in range(200)]
    after = before + [pair(i, f"s{i}", f"v{i % 60}") for i in range(200, 500)]
    old, new = (assign_splits(pairs, (), by=BY, validation=0.2, test=0.2) for pairs in (before, after))
    assert {key: new[key] for key in old} == old


def test_the_shares_are_those_that_were_asked_for() -> None:
    alone = [pair(i, f"s{i}", f"v{i}") for i in range(4000)]
    crowded = [pair(i, f"s{i // 3}", None) for i in range(12000)]
    for pairs in (alone, crowded):
        splits = list(assign_splits(pairs, (), by=BY, validation=0.1, test=0.05).values())
        assert splits.count("validation") / len(splits) == pytest.approx(0.1, abs=0.02)
        assert splits.count("test") / len(splits) == pytest.approx(0.05, abs=0.015)


def test_groups_of_several_singers_get_their_share_too() -> None:
    duets = [pair(3 * i + j, f"s{i}", f"v{3 * i + j}") for i in range(3000) for j in range(3)]
    splits = list(assign_splits(duets, (), by=BY, validation=0.1, test=0.1).values())
    assert splits.count("test") / len(splits) == pytest.approx(0.1, abs=0.02)


def test_what_splits_go_by_is_a_choice() -> None:
    pairs = [pair(i, f"s{i}", "v") for i in range(300)]
    assert len(set(assign_splits(pairs, (), by=BY, validation=0.2, test=0.2).values())) == 1
    assert len(set(assign_splits(pairs, (), by=("song",), validation=0.2, test=0.2).values())) == 3


def test_given_splits_hold_for_the_group_and_may_not_disagree() -> None:
    pairs = [pair(0, "a", "v", split="test"), pair(1, "b", "v"), pair(2, "c")]
    splits = assign_splits(pairs, [("k1", "k2")], by=BY, validation=0, test=0)
    assert set(splits.values()) == {"test"}
    with pytest.raises(InputError, match=r"«k2».*train.*«k0».*test"):
        assign_splits([*pairs[:2], pair(2, "c", split="train")], [("k1", "k2")], by=BY, validation=0, test=0)


RULES = SegmentRules(longest_s=6.0, shortest_s=0.5, gap_s=1.0, lead_s=0.2, tail_s=0.5)
STEP_S = 0.05


def segments(active: np.ndarray, spans: list[tuple[float, float]] | None = None, rules: SegmentRules = RULES) -> list:
    level = np.where(active, -20.0, -80.0) + np.linspace(0, 0.01, len(active))
    return active_segments(active, level, STEP_S, spans=spans or [(0.0, len(active) * STEP_S)], rules=rules)


def steps(*parts: tuple[bool, float]) -> np.ndarray:
    return np.concatenate([np.full(round(seconds / STEP_S), on) for on, seconds in parts])


def test_a_long_pause_parts_two_segments_and_a_short_one_does_not() -> None:
    found = segments(
        steps((False, 1.0), (True, 2.0), (False, 0.6), (True, 1.0), (False, 3.0), (True, 2.0), (False, 1.0))
    )
    np.testing.assert_allclose(found, [(0.8, 5.1), (7.4, 10.1)])


def test_blips_are_no_segments_and_silence_has_none() -> None:
    assert segments(steps((False, 5.0), (True, 0.2), (False, 5.0))) == []
    assert segments(steps((False, 5.0))) == []


def test_long_activity_is_cut_where_it_is_quiet() -> None:
    active = steps((True, 20.0))
    level = np.full(len(active), -20.0)
    quiet = [98, 201, 299]
    level[quiet] = -30.0
    found = active_segments(active, level, STEP_S, spans=[(0, 20.0)], rules=RULES)
    assert [round(start / STEP_S) for start, _ in found[1:]] == quiet
    assert all(stop - start <= RULES.longest_s + 1e-9 for start, stop in found)


@given(st.lists(st.booleans(), min_size=1, max_size=600), st.integers(0, 300), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_segments_keep_to_the_rules(pattern: list[bool], first: int, length: int) -> None:
    active = np.array(pattern)
    span = (first * STEP_S, (first + length) * STEP_S)
    found = segments(active, [span])
    for start, stop in found:
        assert span[0] - 1e-9 <= start < stop <= min(span[1], len(active) * STEP_S) + 1e-9
        assert stop - start <= RULES.longest_s + 1e-9
        assert active[round(start / STEP_S) : round(stop / STEP_S)].sum() * STEP_S >= RULES.shortest_s - 1e-9
    assert all(one[1] <= other[0] + 1e-9 for one, other in itertools.pairwise(found))
    covered = sum(active[round(start / STEP_S) : round(stop / STEP_S)].sum() for start, stop in found)
    runs = [len(list(group)) for on, group in itertools.groupby(active[first : first + length]) if on]
    lost = sum(run for run in runs) - covered  # only what lies in stretches or pieces of little activity
    assert lost * STEP_S < RULES.shortest_s * (len(runs) + len(found) + 1)
