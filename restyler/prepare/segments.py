"""Where a raw take is worth training on: its active stretches, cut where it is quiet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Span = tuple[float, float]


@dataclass(frozen=True)
class SegmentRules:
    """longest_s: of a segment. shortest_s: of activity in one. gap_s: a longer pause ends a segment. lead_s, tail_s:
    kept before and after the activity, for breaths and reverb."""

    longest_s: float
    shortest_s: float
    gap_s: float
    lead_s: float
    tail_s: float


def active_segments(
    active: np.ndarray, level_db: np.ndarray, step_s: float, *, spans: Sequence[Span], rules: SegmentRules
) -> list[Span]:
    """(start_s, stop_s) of segments, in order, none overlapping.

    active [steps]: whether each step of step_s seconds sounds; level_db [steps]: its level, by which a cut is placed.
    spans: the parts of the take that can be used, e.g. those that a mix covers; no segment leaves them.
    """
    segments: list[Span] = []
    for start, stop in spans:
        first, last = math.ceil(start / step_s), min(math.floor(stop / step_s), len(active))
        for begin, end in _stretches(active[first:last], step_s, rules):
            segments += _cut(first + begin, first + end, active, level_db, step_s, rules)
    return segments


def _stretches(active: np.ndarray, step_s: float, rules: SegmentRules) -> list[tuple[int, int]]:
    """Stretches in steps: runs of activity with lead and tail, joined over short pauses and where they'd overlap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    lead, tail, gap = (round(seconds / step_s) for seconds in (rules.lead_s, rules.tail_s, rules.gap_s))
    joined: list[list[int]] = []
    for begin, end in edges.reshape(-1, 2).tolist():
        if joined and (begin - joined[-1][1] <= gap or begin - lead < joined[-1][1] + tail):
            joined[-1][1] = end
        else:
            joined.append([begin, end])
    return [(max(0, begin - lead), min(len(active), end + tail)) for begin, end in joined]


def _cut(
    begin: int, end: int, active: np.ndarray, level_db: np.ndarray, step_s: float, rules: SegmentRules
) -> list[Span]:
    """A stretch in as few pieces as fit, each cut at the quietest step near where an even division would cut."""
    longest = math.floor(rules.longest_s / step_s)
    edges = [begin]
    while end - edges[-1] > longest:
        left = end - edges[-1]
        even = left / math.ceil(left / longest)  # so that no short rest is left over
        low, high = edges[-1] + max(1, math.ceil(0.75 * even)), edges[-1] + min(longest, math.floor(1.25 * even))
        edges.append(low + int(np.argmin(level_db[low : high + 1])))
    edges.append(end)
    return [
        (one * step_s, other * step_s)
        for one, other in pairwise(edges)
        if active[one:other].sum() * step_s >= rules.shortest_s
    ]
