"""The one thread that has the database: what waits is committed together and acknowledged only then.

A commit that is synced to disk costs milliseconds however much is in it; with one for each rating, two hundred
listeners at once would wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
MOST_TOGETHER = 256


class StorageError(Exception):
    """Nothing of what was asked is stored: the disk is full or fails."""


class _Job:
    def __init__(self, work: Callable[[sqlite3.Connection], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.future: asyncio.Future[Any] = loop.create_future()
        self._loop = loop

    def tell(self, result: Any, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(self._finish, result, error)

    def _finish(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():  # the listener has gone
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Writer:
    """Runs functions of the connection in turn; `await run(work)` returns after what it did is on disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, its changes committed. What it raises undoes its own changes alone.

        Raises StorageError where the changes cannot be stored.
        """
        job = _Job(work, asyncio.get_running_loop())
        self._jobs.put(job)
        return await job.future

    def close(self) -> None:
        """Ends after what waits is done, and closes the connection."""
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while True:
            first = self._jobs.get()
            batch = [first]
            while batch[-1] is not None and len(batch) < MOST_TOGETHER:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            jobs = [job for job in batch if job is not None]
            if not self._try(jobs):
                for job in jobs:  # one by one: what only reads, or is small, may still pass
                    if not self._try([job]):
                        job.tell(None, StorageError("cannot be stored"))
            if batch[-1] is None:
                return

    def _try(self, jobs: list[_Job]) -> bool:
        """Does the jobs in one transaction and tells each its outcome; False, and nothing told, where storing fails."""
        outcomes: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._connection.execute("SAVEPOINT job")
                try:
                    outcomes.append((job, job.work(self._connection), None))
                except sqlite3.OperationalError:
                    raise
                except Exception as raised:
                    self._connection.execute("ROLLBACK TO job")
                    outcomes.append((job, None, raised))
                self._connection.execute("RELEASE job")
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._connection.execute("ROLLBACK")
            return False
        for job, result, error in outcomes:
            job.tell(result, error)
        return True
