"""Random numbers as a function of what they are for, never of when, where or in which process they are drawn."""

from __future__ import annotations

import hashlib

import torch


def generator(*purpose: int | str) -> torch.Generator:
    """A CPU generator seeded by a hash of `purpose`, for example (seed, "crop", step, example)."""
    digest = hashlib.sha256(repr(purpose).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
