"""Train, validation or test: by song and singer together, by hash, so that nothing is ever in two of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from audio.errors import InputError
from restyler.pairs import SPLITS, fraction
from restyler.prepare.matching import Pair


def assign_splits(
    pairs: Sequence[Pair],
    duplicates: Iterable[tuple[str, str]],
    *,
    by: Sequence[str],
    validation: float,
    test: float,
) -> dict[str, str]:
    """The split of every pair, by its key.

    Pairs that share a take, a recording (`duplicates`: keys of two pairs of which a file is the same recording), or
    what `by` names (song, singer) are one group, and a group is in one split: that which its pairs were given, or
    the hash's. The hash is the lowest over the group's singers, or its songs where no singer is known, so a group
    stays where it is when songs of its singers are added.

    Raises InputError where pairs of one group were given different splits.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for pair in pairs:
        for other in _ties(pair, by):
            parent[root(other)] = root(f"pair {pair.key}")
    for one, other in duplicates:
        parent[root(f"pair {one}")] = root(f"pair {other}")
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[root(f"pair {pair.key}")].append(pair)
    return {
        pair.key: split
        for group in groups.values()
        for split in [_split(group, by, validation, test)]
        for pair in group
    }


def _ties(pair: Pair, by: Sequence[str]) -> list[str]:
    ties = [f"take {pair.take}"]
    if "song" in by:
        ties.append(f"song {pair.song}")
    if "singer" in by and pair.singer is not None:
        ties.append(f"singer {pair.singer}")
    return ties


def _split(group: Sequence[Pair], by: Sequence[str], validation: float, test: float) -> str:
    given = {pair.split: pair for pair in group if pair.split is not None}
    if len(given) > 1:
        one, other = (given[split] for split in SPLITS if split in given)
        raise InputError(
            f"«{one.key}» was given to the {one.split} split and «{other.key}» to {other.split}, but they share"
            f" {' or '.join([*by, 'a recording'])}: what is trained on would be scored"
        )
    if given:
        return next(iter(given))
    singers = {f"singer {pair.singer}" for pair in group if pair.singer is not None and "singer" in by}
    names = singers or {f"song {pair.song}" if "song" in by else f"take {pair.take}" for pair in group}
    share = min(map(fraction, names))
    # The lowest of n hashes lies below p with probability 1 − (1 − p)ⁿ; turned back, p is the share of the groups.
    share = 1 - (1 - share) ** len(names)
    return "test" if share < test else "validation" if share < test + validation else "train"
