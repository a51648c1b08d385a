"""Mono signals that are read by slices: arrays, and the proxies of recordings, which stay in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

SAMPLE_BYTES = 4


class Samples(Protocol):
    """What is asked of a signal that may be longer than memory; every array has it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


class Proxy:
    """The file of float32 samples that `audio.inspection.inspect` writes. A slice of it is read anew each time.

    A np.memmap gives the same samples, but each page that was touched counts as the process's memory from then on:
    230 MB an hour and side.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._samples = path.stat().st_size // SAMPLE_BYTES

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._samples,)

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """float32, a copy; slices as of a list, but without steps (ValueError)."""
        start, stop, step = part.indices(self._samples)
        if step != 1:
            raise ValueError(f"a proxy is read in order, not in steps of {step}")
        return np.fromfile(self._path, np.float32, max(0, stop - start), offset=start * SAMPLE_BYTES)
