"""How far a long call is: work counted against a total that is known from the start, and a bar that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[int, int], None]


class Work:
    """Counts pieces of work, and tells `progress` (done, in all) at the start and at every change."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self.add(0)

    def add(self, pieces: int) -> None:
        self._done += pieces
        if self._progress is not None:
            self._progress(self._done, self._total)


class Beside:
    """Work of two kinds under one count: one that tells a `Progress`, which is `others`, and pieces of another, as many
    as are known from the start, of which `add` says that one is done."""

    def __init__(self, pieces: int, progress: Progress | None) -> None:
        self._pieces, self._progress = pieces, progress
        self._done, self._others = 0, (0, 0)

    def others(self, done: int, total: int) -> None:
        self._others = (done, total)
        self._tell()

    def add(self) -> None:
        self._done += 1
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._others[0] + self._done, self._others[1] + self._pieces)


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress bar on stderr, where that is a terminal; what it yields is told (work done, in all)."""
    with tqdm(desc=what, disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
            bar.update(done - bar.n)

        yield show
