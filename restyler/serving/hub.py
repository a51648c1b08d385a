"""Wakes those who listen to a job when something happened to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator

from restyler.serving.refusals import RefusedError


class Listener:
    """One stream of events, on the event loop where it was made."""

    def __init__(self) -> None:
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()

    def wake(self) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float) -> bool:
        """Whether something happened since the last time, or does within timeout_s."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Hub:
    def __init__(self, most_of_owner: int) -> None:
        self._most = most_of_owner
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._owners: Counter[str] = Counter()

    @contextlib.contextmanager
    def listening(self, owner: str, job: str) -> Iterator[Listener]:
        """Raises RefusedError (429) for one stream too many of an owner."""
        listener = Listener()
        with self._lock:
            if self._owners[owner] >= self._most:
                line = f"{self._most} event streams at once are allowed a key"
                raise RefusedError(429, line, retry_after_s=5, reason="streams")
            self._owners[owner] += 1
            self._listeners[job].add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._owners[owner] -= 1
                self._listeners[job].discard(listener)
                if not self._listeners[job]:
                    del self._listeners[job]
                if not self._owners[owner]:
                    del self._owners[owner]

    def wake(self, job: str) -> None:
        with self._lock:
            for listener in self._listeners.get(job, ()):
                listener.wake()

    def wake_all(self) -> None:
        with self._lock:
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener.wake()
