"""Random numbers as a function of what they are for, never of when, where or in which process they are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(*purpose: int | str) -> torch.Generator:
    """A CPU generator seeded by a hash of `purpose`, for example (seed, "crop", step, example)."""
    digest = hashlib.sha256(repr(purpose).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@contextmanager
def seeded(*purpose: int | str) -> Iterator[None]:
    """Within it, what draws from PyTorch's global state (initial weights do) draws for `purpose`; afterwards that state
    is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(*purpose).get_state())
        yield
