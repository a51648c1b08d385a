"""Bootstrap intervals by song: the pieces and draws of one song are no independent observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

Statistic = Literal["mean", "median"]


class Interval(NamedTuple):
    """An estimate, and the bounds of its percentile interval."""

    estimate: float
    low: float
    high: float


def bootstrap(
    values: Mapping[str, Sequence[float]],
    statistic: Statistic = "mean",
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean or median of all values of all songs, and its percentile interval (Efron & Tibshirani 1993, chapter 13).

    values: by song; each resample draws as many songs as there are, with replacement, and takes all values of each
    (Davison & Hinkley 1997, section 3.8). The same for the same songs in any order. Raises ValueError for fewer than
    two songs, a song without values, and values that are not finite: what can't be measured is left out by the caller,
    who says so.
    """
    if len(values) < 2:
        raise ValueError(f"an interval by song needs two songs or more, not {len(values)}")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"a level between 0 and 1 and at least one resample, not {level} and {resamples}")
    songs = [np.asarray(values[name], dtype=np.float64) for name in sorted(values)]
    bad = [
        name for name, song in zip(sorted(values), songs, strict=True) if not (song.size and np.isfinite(song).all())
    ]
    if bad:
        raise ValueError(f"every song needs finite values; not so: {', '.join(bad)}")
    counts = _times_drawn(len(songs), resamples, seed)
    found = (_means if statistic == "mean" else _medians)(songs, np.vstack([np.ones_like(counts[:1]), counts]))
    low, high = np.quantile(found[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(found[0]), float(low), float(high))


def paired(
    first: Mapping[str, Sequence[float]],
    second: Mapping[str, Sequence[float]],
    statistic: Statistic = "mean",
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """`bootstrap` of first minus second, value by value: below 0 where `first` is lower.

    Both have the same songs, and of each the same pieces in the same order; a piece's draws are averaged before.
    Raises ValueError where songs or numbers of pieces differ, and as `bootstrap` does.
    """
    if {song: len(first[song]) for song in first} != {song: len(second[song]) for song in second}:
        raise ValueError("paired are rows on the same songs, with as many values of each")
    differences = {song: [a - b for a, b in zip(first[song], second[song], strict=True)] for song in first}
    return bootstrap(differences, statistic, seed=seed, resamples=resamples, level=level)


def _times_drawn(songs: int, resamples: int, seed: int) -> np.ndarray:
    """How often each song was drawn, [resamples songs]."""
    draws = np.random.default_rng(seed).integers(songs, size=(resamples, songs))
    cells = draws + songs * np.arange(resamples)[:, None]
    return np.bincount(cells.ravel(), minlength=resamples * songs).reshape(resamples, songs)


def _means(songs: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Mean of the values, each song counted so often, [resamples]."""
    sums, sizes = np.array([song.sum() for song in songs]), np.array([song.size for song in songs])
    return np.asarray((counts @ sums) / (counts @ sizes))


def _medians(songs: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Median of the values, each song counted so often, [resamples]."""
    values = np.concatenate(songs)
    order = np.argsort(values, kind="stable")
    of_song = np.repeat(np.arange(len(songs)), [song.size for song in songs])[order]
    up_to = np.cumsum(counts[:, of_song], axis=1)
    total = up_to[:, -1:]
    lower, upper = (np.argmax(up_to > middle, axis=1) for middle in ((total - 1) // 2, total // 2))
    return np.asarray((values[order][lower] + values[order][upper]) / 2)
