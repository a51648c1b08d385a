"""Records of all rows and pairs → the figures of the report, each with a 95 % interval by song."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from restyler.evaluate.distribution import fad, kad, median_distance, standardised
from restyler.evaluate.diversity import (
    best_of_n,
    best_of_n_chances,
    conditional_vendi,
    pairwise_distance,
    vendi_score,
)
from restyler.evaluate.intervals import bootstrap
from restyler.evaluate.records import Draw, Record, rounded

CHOSEN_BY = "mss_lr"  # the quantity that tells the best of several draws
COMPARED = ("mss_lr", "mss_ms", "mldr")  # with the rows that every system must beat
LEAST_SONGS = 3  # for a distribution
NORMAL_QUANTILE = 1.96  # of a two-sided 95 % interval
ByPair = Mapping[str, float]  # a value for each pair, by its key


@dataclass(frozen=True)
class Line:
    """One line of a table: a row, seen as the mean over its draws («expected») or as its best draw («best of N»).

    draws: how many there were to choose the best from, 1 without choice. values: by quantity and pair.
    """

    row: str
    view: str
    draws: int
    values: Mapping[str, ByPair]

    @property
    def name(self) -> str:
        return f"{self.row}, {self.view}" if self.view else self.row


def lines_of(row: str, records: Sequence[Record]) -> list[Line]:
    """One line for a row of single draws, two for one of several. A quantity that no draw of a pair has is not there.

    The best draw is that of the lowest MSS_lr, in all quantities.
    """
    draws = max(len(record.draws) for record in records)
    if draws == 1:
        return [Line(row, "", 1, _best_of(records, 1))]
    return [Line(row, "expected", 1, _best_of(records, 1)), best_of_line(row, records, draws)]


def best_of_line(row: str, records: Sequence[Record], n: int) -> Line:
    """The best of n draws, as expected over all choices of n. Raises ValueError for more than every pair has."""
    if n > (fewest := min(len(record.draws) for record in records)):
        raise ValueError(f"the best of {n} needs as many draws of every pair, not {fewest}")
    return Line(row, f"best of {n}", n, _best_of(records, n))


def _best_of(records: Sequence[Record], n: int) -> dict[str, dict[str, float]]:
    """By quantity and pair the expectation of the draw that is the nearest of n; of any draw for n = 1."""
    values: dict[str, dict[str, float]] = {}
    for record in records:
        ranked = sorted(record.draws, key=_distance)
        chances = best_of_n_chances(len(ranked))[n - 1]
        merged = [
            (chance, {**draw.fidelity, **draw.content})
            for chance, draw in zip(chances.tolist(), ranked, strict=True)
            if chance > 0
        ]
        for quantity in merged[0][1]:
            found = [(value, chance) for chance, one in merged if (value := one[quantity]) is not None]
            if found:
                values.setdefault(quantity, {})[record.key] = statistics.fmean(*zip(*found, strict=True))
    return values


def estimates(line: Line, song_of: Mapping[str, str], *, seed: int) -> dict[str, dict[str, Any]]:
    """Of every quantity mean and median over pairs, each as [value, low, high]."""
    found: dict[str, dict[str, Any]] = {}
    for quantity, of_pair in line.values.items():
        kept = {key: value for key, value in of_pair.items() if key in song_of}
        if kept:
            found[quantity] = {
                "mean": _bootstrap(kept, song_of, "mean", seed=seed),
                "median": _bootstrap(kept, song_of, "median", seed=seed),
                "pairs": len(kept),
            }
    return found


def differences(line: Line, base: Line, song_of: Mapping[str, str], *, seed: int) -> dict[str, list[float | None]]:
    """Line minus base on the same pairs, mean as [value, low, high]: below zero, the line is nearer to the mix."""
    found = {}
    for quantity in COMPARED:
        ours, theirs = line.values[quantity], base.values[quantity]
        less = {key: ours[key] - theirs[key] for key in ours if key in theirs and key in song_of}
        found[quantity] = _bootstrap(less, song_of, seed=seed)
    return found


def best_of_n_curve(records: Sequence[Record], *, seed: int) -> list[list[float | None]]:
    """Of n = 1 … N draws the expected lowest MSS_lr, mean over pairs as [value, low, high] for each n."""
    draws = min(len(record.draws) for record in records)
    curves = {record.key: best_of_n([_distance(draw) for draw in record.draws]) for record in records}
    song_of = {record.key: record.song for record in records}
    return [
        _bootstrap({key: float(curve[n]) for key, curve in curves.items()}, song_of, seed=seed) for n in range(draws)
    ]


def diversity(records: Sequence[Record], calibration: Sequence[Record], *, seed: int) -> dict[str, Any]:
    """How far the draws of one take lie apart, in effect vectors.

    pairwise_db: mean distance of two draws, mean over pairs. ratio: of that to the calibration's (random presets on the
    same take), geometric mean over pairs, 0 where the draws of one pair are all alike. vendi: of all draws of all
    takes; conditional_vendi: within a take; both with the kernel of `distribution`, None for fewer than three songs.
    [value, low, high] for the first two and the last.
    """
    song_of = {record.key: record.song for record in records}
    distances = {record.key: pairwise_distance(_vectors(record)) for record in records}
    yardsticks = {one.key: pairwise_distance(_vectors(one)) for one in calibration if len(one.draws) > 1}
    ratios = {key: distance / yardsticks[key] for key, distance in distances.items() if yardsticks.get(key)}
    found: dict[str, Any] = {
        "draws": max(len(record.draws) for record in records),
        "pairwise_db": _bootstrap(distances, song_of, seed=seed),
        "ratio": _geometric_mean(ratios, song_of, seed=seed) if ratios else None,
        "vendi": None,
        "conditional_vendi": None,
    }
    if len(set(song_of.values())) >= LEAST_SONGS:
        _, *draws = standardised(_mixes(records), *map(_vectors, records))
        bandwidth = _bandwidth(records)
        within = {record.key: conditional_vendi([one], bandwidth) for record, one in zip(records, draws, strict=True)}
        found["vendi"] = [rounded(vendi_score(np.concatenate(draws), bandwidth))]
        found["conditional_vendi"] = _bootstrap(within, song_of, seed=seed)
    return found


def distribution(records: Sequence[Record]) -> dict[str, Any] | None:
    """KAD and FAD between the effect vectors of all renders and those of the mixes; each [value, low, high].

    In units of the mixes' spread in each dim; KAD over pairs of different songs, since the renders of a song share its
    voice with its mix, and with each other. The intervals are the jackknife's, by song (Efron & Tibshirani 1993,
    chapter 11), with mean and spread as of all mixes: a bootstrap would meet its own copies as neighbours. None for
    fewer than three songs.
    """
    if len({record.song for record in records}) < LEAST_SONGS:
        return None
    mixes, *draws = standardised(_mixes(records), *map(_vectors, records))
    bandwidth = _bandwidth(records)
    songs = [record.song for record in records]

    def kernel_distance(kept: list[int]) -> float:
        of_draws = [songs[number] for number in kept for _ in draws[number]]
        return kad(mixes[kept], drawn(kept), bandwidth, songs=([songs[number] for number in kept], of_draws))

    def drawn(kept: list[int]) -> np.ndarray:
        return np.concatenate([draws[number] for number in kept])

    return {
        "kad": jackknife(kernel_distance, songs),
        "fad": jackknife(lambda kept: fad(mixes[kept], drawn(kept)), songs),
    }


def jackknife(statistic: Callable[[list[int]], float], songs: Sequence[str]) -> list[float | None]:
    """[value, low, high]: the statistic of all items, and its interval from those without one song each.

    statistic: of the items with these numbers. songs: of every item.
    """
    distinct = sorted(set(songs))
    partial = np.array([statistic([at for at, one in enumerate(songs) if one != song]) for song in distinct])
    error = math.sqrt((len(distinct) - 1) * float(np.mean((partial - partial.mean()) ** 2)))
    whole = statistic(list(range(len(songs))))
    return [rounded(whole + side * NORMAL_QUANTILE * error) for side in (0, -1, 1)]


def _geometric_mean(values: ByPair, song_of: Mapping[str, str], *, seed: int) -> list[float | None]:
    if min(values.values()) == 0:
        return [0.0, None, None]
    logs = _bootstrap({key: math.log(value) for key, value in values.items()}, song_of, seed=seed)
    return [None if edge is None else rounded(math.exp(edge)) for edge in logs]


def _mixes(records: Sequence[Record]) -> np.ndarray:
    return np.array([record.mix_effects for record in records])


def _bandwidth(records: Sequence[Record]) -> float:
    """Of the kernel: the median distance of two mixes."""
    return median_distance(standardised(_mixes(records))[0])


def _vectors(record: Record) -> np.ndarray:
    return np.array([draw.effects for draw in record.draws])


def _distance(draw: Draw) -> float:
    """By which the best draw is chosen."""
    value = draw.fidelity[CHOSEN_BY]
    if value is None:
        raise ValueError(f"{CHOSEN_BY} is defined for every render that is not silent")
    return value


def _bootstrap(
    values: ByPair, song_of: Mapping[str, str], statistic: Literal["mean", "median"] = "mean", *, seed: int
) -> list[float | None]:
    """[value, low, high]; the edges are None for a single song, which says nothing about others."""
    by_song: dict[str, list[float]] = {}
    for key in sorted(values):
        by_song.setdefault(song_of[key], []).append(values[key])
    if len(by_song) > 1:
        return [rounded(value) for value in bootstrap(by_song, statistic, seed=seed)]
    return [rounded(getattr(statistics, statistic)(values.values())) if values else None, None, None]
