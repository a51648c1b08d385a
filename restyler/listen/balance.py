"""In which order each listener meets the pages and the sounds on them: counterbalanced, from the plan and a number.

Orders are rows of Williams' design (1949): over a whole set of rows every item stands in every place equally often,
and follows every other item equally often. n items have n rows where n is even, else 2n (each row and its reverse).
Listeners take the rows one after another; who comes after the last row starts a new set, with items drawn anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from restyler.listen.plan import ListeningTest, Trial

SAME_OR_OTHER = 4  # ABX: A and B either way round, X either of them


@dataclass(frozen=True)
class Page:
    """One page as one listener meets it.

    slots: which of trial.stimuli stands in slot A, B, C …: every stimulus once. Of abx (i, j, k): stimuli i and j are A
    and B, and k, one of the two, is X. Of ccr the order of play.
    """

    trial: Trial
    slots: tuple[int, ...]


def pages(plan: ListeningTest, listener: int) -> tuple[Page, ...]:
    """The pages of a listener (0, 1, …) in order: training as the plan has it, then the trials.

    Trials with the same kind and question stay together; the blocks, and the trials in each, are ordered by Williams'
    design. A repeat stands about half its block away from what it repeats, before or after. Of every trial, each
    stimulus stands in each slot equally often, over any number of listeners to ±1. In pairs (ab, ccr) two listeners in
    a row hear the two orders, and over one listener's trials of the same two conditions the orders are even to ±1. In
    abx four listeners in a row meet the four forms of a trial, but X is independent from trial to trial: were it even
    over a listener's trials, the number of correct answers would not be binomial.

    Raises ValueError for a negative number.
    """
    if listener < 0:
        raise ValueError(f"listeners are numbered from 0, not {listener}")
    training = [trial for trial in plan.trials if trial.training]
    order = [*training, *_ordered([trial for trial in plan.trials if not trial.training], plan.seed, listener)]
    flips = _flips(plan, listener)
    return tuple(Page(trial, _slots(trial, plan.seed, listener, flips.get(trial.id, False))) for trial in order)


def williams(count: int) -> list[tuple[int, ...]]:
    """The rows of Williams' design for `count` items: as many where that is even (or 1), else twice as many.

    Source: E. J. Williams, Aust. J. Sci. Res. A 2 (1949) 149–168: the row 0, 1, n−1, 2, n−2 … and its cyclic shifts.
    """
    first = [(step + 1) // 2 if step % 2 else -(step // 2) for step in range(count)]
    rows = [tuple((item + shift) % count for item in first) for shift in range(count)]
    return rows if count % 2 == 0 or count == 1 else rows + [row[::-1] for row in rows]


def _row(count: int, listener: int, *purpose: int | str) -> tuple[int, ...]:
    """A listener's row, the items and the order of the rows drawn anew for every set of listeners.

    With odd `count` the first half of the rows is a Latin square, and so is the second: both are shuffled by
    themselves, so that every `count` listeners are balanced in place.
    """
    rows = williams(count)
    turn, place = divmod(listener, len(rows))
    rng = _generator(*purpose, turn)
    names = rng.permutation(count)
    half, within = divmod(place, count)
    row = rows[half * count + int(rng.permutation(count)[within])]
    return tuple(int(names[item]) for item in row)


def _ordered(trials: Sequence[Trial], seed: int, listener: int) -> list[Trial]:
    blocks: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        blocks.setdefault((trial.kind, trial.question), []).append(trial)
    if not blocks:
        return []
    named = list(blocks.values())
    order = _row(len(named), listener, seed, "blocks")
    return [trial for place in order for trial in _block(named[place], listener, seed, f"block {place}")]


def _block(trials: Sequence[Trial], listener: int, seed: int, name: str) -> list[Trial]:
    """The originals in Williams' order, each repeat half a block after its original, or before it where that is later
    than the end."""
    known = {trial.id for trial in trials}
    originals = [trial for trial in trials if trial.repeat_of not in known]
    count = len(originals)
    keys = {originals[item].id: float(place) for place, item in enumerate(_row(count, listener, seed, "order", name))}
    for trial in trials:
        if trial.repeat_of in keys and trial.id not in keys:
            place = keys[trial.repeat_of] + count // 2
            keys[trial.id] = place + 0.5 if place < count else place - count - 0.5
    return sorted(trials, key=lambda trial: keys[trial.id])


def _flips(plan: ListeningTest, listener: int) -> dict[str, bool]:
    """Of each trial of two, whether the listener hears the second condition by name first."""
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for trial in plan.trials:
        if trial.kind in ("ab", "ccr"):
            conditions = sorted(stimulus.condition for stimulus in trial.stimuli)
            groups.setdefault((str(trial.training), trial.kind, trial.question, *conditions), []).append(trial)
    found = {}
    turn, other = divmod(listener, 2)
    for name, trials in groups.items():
        rng = _generator(plan.seed, "flips", repr(name), turn)
        even = (np.arange(len(trials)) + rng.integers(2)) % 2
        for trial, flip in zip(trials, rng.permutation(even), strict=True):
            found[trial.id] = bool(flip) != bool(other)
    return found


def _slots(trial: Trial, seed: int, listener: int, flip: bool) -> tuple[int, ...]:
    if trial.kind in ("ab", "ccr"):
        by_name = sorted(range(2), key=lambda index: (trial.stimuli[index].condition, index))
        return (by_name[1], by_name[0]) if flip else (by_name[0], by_name[1])
    if trial.kind == "abx":
        turn, place = divmod(listener, SAME_OR_OTHER)
        form = int(_generator(seed, "abx", trial.id, turn).permutation(SAME_OR_OTHER)[place])
        first, x = divmod(form, 2)
        return (first, 1 - first, x)
    return _row(len(trial.stimuli), listener, seed, "slots", trial.id)


def _generator(*purpose: int | str) -> np.random.Generator:
    digest = hashlib.sha256(repr(purpose).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
