"""Where the time of a call goes: seconds by share, each moment counted once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CODEC, DENOISER, RENDERING, GUARDS, LEVELS, FILES = "codec", "denoiser", "rendering", "guards", "levels", "files"
REST = "the rest"


class Stopwatch:
    """Seconds by share. clock: seconds that only go on. settle: waits until what was asked of a device is done, or its
    work would be counted where the answer is read."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, settle: Callable[[], object] = lambda: None
    ) -> None:
        self._clock, self._settle = clock, settle
        self._seconds: dict[str, float] = {}
        self._inner: list[float] = []
        self._started = clock()

    @contextmanager
    def of(self, share: str) -> Iterator[None]:
        """Counts what happens within; what happens within a share that is opened inside counts for that one alone."""
        begun = self._now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = self._now() - begun
            self._seconds[share] = self._seconds.get(share, 0.0) + whole - self._inner.pop()
            if self._inner:
                self._inner[-1] += whole

    def seconds(self) -> dict[str, float]:
        """By share, and what is left of the time since this watch was made under REST."""
        whole = self._now() - self._started
        return self._seconds | {REST: whole - sum(self._seconds.values())}

    def lines(self, audio_s: float) -> list[str]:
        """For a terminal. audio_s: duration of all mixes that were made in this time."""
        found = self.seconds()
        whole = sum(found.values())
        shares = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in found.items())
        speed = audio_s / whole
        return [f"{audio_s:.0f} s of mixes in {whole:.1f} s, {speed:.2f} times real time: {shares}"]

    def _now(self) -> float:
        self._settle()
        return self._clock()
