"""How often a caller may ask, and how long a waiting one has to wait."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from restyler.serving.refusals import RefusedError

FIRST_GUESS_S = 30.0  # of a job, before one has been measured
MEMORY = 0.8  # of the mean so far, when another job ends
MOST_OWNERS = 10_000  # whose buckets are remembered


class Rates:
    """A token bucket for each owner: `a_minute` at once, and as many again over every minute."""

    def __init__(self, a_minute: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = a_minute, clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, owner: str) -> None:
        """Raises RefusedError (429) for a request too many."""
        with self._lock:
            now_s = self._clock()
            left, at_s = self._buckets.pop(owner, (float(self._most), now_s))
            left = min(self._most, left + max(0.0, now_s - at_s) * self._most / 60)
            self._buckets[owner] = (left - 1 if left >= 1 else left, now_s)  # the newest last
            if len(self._buckets) > MOST_OWNERS:
                del self._buckets[next(iter(self._buckets))]
        if left < 1:
            wait_s = math.ceil((1 - left) * 60 / self._most)
            line = f"{self._most} requests a minute are allowed a key"
            raise RefusedError(429, line, retry_after_s=max(1, wait_s), reason="rate")


class Pace:
    """Mean seconds of the jobs that ended lately, the newest weighing most."""

    def __init__(self) -> None:
        self.job_s = FIRST_GUESS_S
        self._measured = False

    def add(self, job_s: float) -> None:
        self.job_s = MEMORY * self.job_s + (1 - MEMORY) * job_s if self._measured else job_s
        self._measured = True

    def until_ended_s(self, before: int, slots: int) -> int:
        """Whole seconds, at least 1, until a job will have ended that has so many before it, `slots` at a time."""
        return max(1, math.ceil(self.job_s * (before + 1) / slots))
