"""DATA/service.sqlite3: takes, jobs, mixes and keys, durable before anything is acknowledged.

The functions of `stored_takes`, `stored_jobs` and `stored_events` take a connection and never commit: `Storage.writing`
does. Times are seconds since 1970 by the service's clock.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from audio.errors import InputError
from restyler.command import shown
from restyler.serving.refusals import RefusedError

DATABASE = "service.sqlite3"
BUSY_S = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (digest TEXT PRIMARY KEY, owner TEXT NOT NULL UNIQUE, created_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS takes (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
    created_s REAL NOT NULL, bytes INTEGER NOT NULL, duration_s REAL NOT NULL, sample_rate_hz INTEGER NOT NULL,
    channels INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS takes_of ON takes (owner, number);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, take TEXT NOT NULL,
    name TEXT NOT NULL, state TEXT NOT NULL, progress REAL NOT NULL DEFAULT 0, losses INTEGER NOT NULL DEFAULT 0,
    created_s REAL NOT NULL, started_s REAL, ended_s REAL, error TEXT, request TEXT NOT NULL,
    variations INTEGER NOT NULL, expected_bytes INTEGER NOT NULL, idempotency_key TEXT,
    UNIQUE (owner, idempotency_key));
CREATE INDEX IF NOT EXISTS jobs_of ON jobs (owner, number);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS uses (job TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (job, kind, id));
CREATE INDEX IF NOT EXISTS used ON uses (kind, id);
CREATE TABLE IF NOT EXISTS mixes (
    job TEXT NOT NULL, number INTEGER NOT NULL, facts TEXT NOT NULL, bytes INTEGER NOT NULL, name TEXT,
    picked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (job, number));
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (job, number));
"""


def fresh_id() -> str:
    """Sixteen characters that nobody guesses: 96 bits."""
    return secrets.token_urlsafe(12)


def iso(time_s: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Storage:
    """The database of one service, made where there is none: write-ahead log, every commit synced to disk.

    Any thread may read and write; writers wait for each other. Raises InputError where it can't be opened.
    """

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.path, self.clock = folder / DATABASE, clock
        self._write_lock = threading.Lock()
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._closed = False
        try:
            with self._connection() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise InputError(f"{shown(self.path)}: cannot be opened: {error}") from error

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One that nobody else uses; never more than are used at once, since a server's threads come and go."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
            connection.execute("PRAGMA synchronous = FULL")
            connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            self._idle.put(connection)
            if self._closed:
                self.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the database. Raises RefusedError (507) where it can't be read."""
        try:
            with self._connection() as connection:
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise RefusedError(507, "the service cannot read what it stored", reason="storage") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on disk when the block has ended, or, where it raises, nothing of it.

        Raises RefusedError (507) where nothing can be stored now, and sqlite3.IntegrityError for what may not be.
        """
        with self._write_lock:
            try:
                with self._connection() as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    try:
                        yield connection
                        connection.execute("COMMIT")
                    except BaseException:
                        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                            connection.execute("ROLLBACK")
                        raise
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:
                raise RefusedError(507, "the service cannot store anything now", reason="storage") from error

    def close(self) -> None:
        """Also what is still in use, as soon as it no longer is."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
