"""Intervals: scipy's bootstrap, an exact enumeration, and how often they hold the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from restyler.evaluate.intervals import bootstrap, paired


@pytest.fixture
def random():
    return np.random.default_rng(0)


def by_song(values):
    return {f"song {number}": np.atleast_1d(song).tolist() for number, song in enumerate(values)}


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_one_value_a_song_is_the_ordinary_bootstrap(random, statistic):
    values = random.exponential(size=21)
    found = bootstrap(by_song(values), statistic, seed=1, resamples=20_000, level=0.9)
    function = {"mean": np.mean, "median": np.median}[statistic]
    expected = scipy.stats.bootstrap(
        (values,), function, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.estimate == pytest.approx(function(values))
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.05 * (expected.high - expected.low))


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_songs_come_with_all_of_their_values(statistic):
    """Three songs of unequal size: all 27 resamples, written out."""
    songs = [[1.0, 2.0, 6.0], [3.5], [10.0, 11.0, 4.0, 4.5]]
    function = {"mean": np.mean, "median": np.median}[statistic]
    every = [function(np.concatenate([songs[i] for i in chosen])) for chosen in itertools.product(range(3), repeat=3)]
    found = bootstrap(by_song(songs), statistic, seed=0, resamples=20_000, level=0.8)
    assert found.estimate == pytest.approx(function(np.concatenate(songs)))
    shares = [np.mean(np.array(every) < found.low - 1e-9), np.mean(np.array(every) <= found.low + 1e-9)]
    assert shares[0] <= 0.11 and shares[1] >= 0.09
    shares = [np.mean(np.array(every) > found.high + 1e-9), np.mean(np.array(every) >= found.high - 1e-9)]
    assert shares[0] <= 0.11 and shares[1] >= 0.09


def test_intervals_hold_the_truth_as_often_as_they_say(random):
    """20 songs, five values of each that agree: by song about 92 in 100 hold it (a percentile interval of so few is a
    little narrow), by value, as if they were independent, far fewer."""
    held, naive = [], []
    for repeat in range(300):
        songs = random.normal(size=(20, 1)) + 0.3 * random.normal(size=(20, 5))
        for values, results in ((songs, held), (songs.reshape(-1, 1), naive)):
            interval = bootstrap(by_song(values), seed=repeat, resamples=300)
            results.append(interval.low <= 0 <= interval.high)
    assert 0.88 <= np.mean(held) <= 0.98 and np.mean(naive) < 0.75


def test_the_same_for_the_same_seed_and_songs_in_any_order(random):
    songs = by_song(random.normal(size=(8, 3)))
    backwards = dict(reversed(songs.items()))
    assert bootstrap(songs, seed=3) == bootstrap(backwards, seed=3)
    assert bootstrap(songs, seed=3) != bootstrap(songs, seed=4)


def test_paired_differences_see_what_the_spread_of_songs_hides(random):
    level = 3 * random.normal(size=15)
    first, second = by_song(level - 0.2 + 0.05 * random.normal(size=15)), by_song(level)
    apart = [bootstrap(one, seed=0) for one in (first, second)]
    difference = paired(first, second, seed=0)
    assert apart[0].high > apart[1].low  # they overlap
    assert difference.high < 0 and difference.estimate == pytest.approx(apart[0].estimate - apart[1].estimate)
    assert paired(first, first, "median", seed=0) == (0, 0, 0)


def test_what_gives_no_interval_is_refused():
    good = {"a": [1.0, 2.0], "b": [3.0]}
    for values, message in (
        ({"a": [1.0]}, "two songs"),
        (good | {"c": []}, "finite values; not so: c"),
        (good | {"c": [float("nan")]}, "not so: c"),
    ):
        with pytest.raises(ValueError, match=message):
            bootstrap(values, seed=0)
    with pytest.raises(ValueError, match="level"):
        bootstrap(good, seed=0, level=95)
    for other in ({"a": [1.0, 2.0]}, {"a": [1.0], "b": [3.0]}):
        with pytest.raises(ValueError, match="same songs"):
            paired(good, other, seed=0)
