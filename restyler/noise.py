"""The noise that a mix starts from: that of a seed, or one that lies a part of the way to other seeds' noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from audio import on_disk
from audio.errors import InputError

MOST_TURNS = 8  # what stands in a file's comment has to fit into it
HIGHEST_SEED = 2**63 - 1
FRAMES_AT_ONCE = 1024
NUMBERS_AT_ONCE = 1 << 18  # a multiple of sixteen, see `_drawn`
TRIES_APART = 10**9  # of seeds tried in place of one: far from those that anybody counts to, and still readable


@dataclass(frozen=True)
class Walk:
    """The noise of `seed`, then for each (other seed, part) a part of the way, strictly between 0 and 1, to that one's.

    As text, for instance `3 7@0.25 12@0.5`.
    """

    seed: int
    turns: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        return " ".join([str(self.seed), *(f"{seed}@{part!r}" for seed, part in self.turns)])


Seed: TypeAlias = int | Walk
"""What decides a mix beside what it is told."""


def toward(seed: Seed, other: int, part: float) -> Seed:
    """A part of the way from one to the other: 0 is `seed` itself, 1 is `other`.

    Raises InputError for a walk of more than MOST_TURNS turns.
    """
    if part == 0 or seed == other:
        return seed
    if part == 1:
        return other
    walk = seed if isinstance(seed, Walk) else Walk(seed, ())
    if len(walk.turns) == MOST_TURNS:
        raise InputError(f"a mix that came by {MOST_TURNS} steps from one mix to the next: no further step is kept")
    return Walk(walk.seed, (*walk.turns, (other, part)))


def another(seed: Seed, number: int) -> Seed:
    """The seed to try in place of one whose mix is no good. number: of the try, from 1 on; each gives another seed.

    Of a walk, the last seed that it turned to is replaced: it stays as near to where it came from.
    """
    if isinstance(seed, int):
        return seed + number * TRIES_APART
    *kept, (last, part) = seed.turns
    return Walk(seed.seed, (*kept, (last + number * TRIES_APART, part)))


def start_of(seed: Seed) -> int:
    """The plain seed, or the one that a walk starts at."""
    return seed.seed if isinstance(seed, Walk) else seed


def parse_seed(text: str) -> Seed:
    """What `str` made of a seed or a walk. Raises ValueError for any other text."""
    first, *rest = text.split(" ")
    turns = []
    for turn in rest:
        seed, _, part = turn.partition("@")
        turns.append((int(seed), float(part)))
    if len(turns) > MOST_TURNS or not all(0 < part < 1 for _, part in turns):
        raise ValueError(f"no walk: {text}")
    if not all(0 <= seed <= HIGHEST_SEED for seed in (int(first), *(seed for seed, _ in turns))):
        raise ValueError(f"no seeds: {text}")
    return Walk(int(first), tuple(turns)) if turns else int(first)


def noise(seed: Seed, shape: Sequence[int], tail_frames: int = 0) -> torch.Tensor:
    """The standard normal field of a seed, from a CPU generator of its own, or what a walk leads to.

    shape: [… frames]. The last `tail_frames` are drawn after all the others, which are what they are without a tail.
    """
    if not isinstance(seed, Walk):
        *rows, frames = shape
        generator = torch.Generator().manual_seed(seed)
        field = _drawn((*rows, frames - tail_frames), generator)
        if not tail_frames:
            return field
        whole = on_disk.empty(*shape)
        _copy(field, whole[..., : frames - tail_frames])
        whole[..., frames - tail_frames :] = torch.randn(*rows, tail_frames, generator=generator)
        return whole
    field = noise(seed.seed, shape, tail_frames)
    for other, part in seed.turns:
        field = slerp(field, noise(other, shape, tail_frames), part)
    return field


def _drawn(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """What `torch.randn` gives, drawn a part at a time: PyTorch draws sixteen numbers from sixteen, and the last ones
    of a field that is no multiple of these anew."""
    field = on_disk.empty(*shape)
    flat, start = field.view(-1), 0
    while start < len(flat):
        stop = start + NUMBERS_AT_ONCE if len(flat) - start >= 2 * NUMBERS_AT_ONCE else len(flat)
        flat[start:stop] = torch.randn(stop - start, generator=generator)
        on_disk.let_go(field)
        start = stop
    return field


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    for part in on_disk.parts(source, target, size=FRAMES_AT_ONCE):
        target[..., part] = source[..., part]


def noise_fields(seeds: Sequence[Seed], shape: Sequence[int], tail_frames: int = 0) -> torch.Tensor:
    """`noise` of each seed, [seeds, *shape]."""
    if len(seeds) == 1:
        return noise(seeds[0], shape, tail_frames)[None]
    fields = on_disk.empty(len(seeds), *shape)
    for field, seed in zip(fields, seeds, strict=True):
        _copy(noise(seed, shape, tail_frames), field)
    return fields


def slerp(one: torch.Tensor, other: torch.Tensor, part: float) -> torch.Tensor:
    """On the great circle from `one` to `other` (Shoemake 1985, «Animating rotation with quaternion curves», eq. 4.1):
    independent normal noise stays as strong as noise on the whole way, where a straight line loses 3 dB in its middle.

    part: 0 … 1. Raises ValueError for fields that point the same or the opposite way, between which no circle is the
    one.
    """
    products = torch.zeros(3, dtype=torch.float64)
    for part_of_both in on_disk.parts(one, other, size=FRAMES_AT_ONCE):
        a, b = (field[..., part_of_both].double().flatten() for field in (one, other))
        products += torch.stack([a @ b, a @ a, b @ b])
    cosine = float(products[0] / products[1:].sqrt().prod())
    if not abs(cosine) < 1 - 1e-9:
        raise ValueError("two fields that point the same or the opposite way")
    angle = math.acos(cosine)
    weights = (math.sin((1 - part) * angle) / math.sin(angle), math.sin(part * angle) / math.sin(angle))
    field = on_disk.empty(*one.shape, like=one)
    for part_of_both in on_disk.parts(field, one, other, size=FRAMES_AT_ONCE):
        field[..., part_of_both] = weights[0] * one[..., part_of_both] + weights[1] * other[..., part_of_both]
    return field
