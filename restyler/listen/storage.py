"""TEST/answers.sqlite3: what listeners did, durable before it is acknowledged.

The functions that take a connection change or read it inside whatever transaction is open and never commit: the
server's `restyler.listen.writer` does, once for all that waits. Times are seconds since 1970 by the server's clock.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio.errors import InputError
from restyler.listen.answers import Answer
from restyler.listen.plan import ListeningTest

DATABASE = "answers.sqlite3"
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS progress (
    listener INTEGER PRIMARY KEY, arrived_s REAL, consent_s REAL, level_s REAL, finished_s REAL);
CREATE TABLE IF NOT EXISTS checks (
    listener INTEGER, number INTEGER, answer INTEGER NOT NULL, correct INTEGER NOT NULL, at_s REAL NOT NULL,
    PRIMARY KEY (listener, number));
CREATE TABLE IF NOT EXISTS opened (listener INTEGER, page INTEGER, at_s REAL NOT NULL, PRIMARY KEY (listener, page));
CREATE TABLE IF NOT EXISTS heard (
    listener INTEGER, page INTEGER, slot TEXT, at_s REAL NOT NULL, PRIMARY KEY (listener, page, slot));
CREATE TABLE IF NOT EXISTS ratings (
    listener INTEGER, page INTEGER, field TEXT, value TEXT NOT NULL, sequence INTEGER NOT NULL, at_s REAL NOT NULL,
    PRIMARY KEY (listener, page, field));
CREATE TABLE IF NOT EXISTS submitted (
    listener INTEGER, page INTEGER, trial TEXT NOT NULL, training INTEGER NOT NULL, at_s REAL NOT NULL,
    PRIMARY KEY (listener, page));
CREATE TABLE IF NOT EXISTS sessions (uuid TEXT PRIMARY KEY, document TEXT NOT NULL, at_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY, source TEXT NOT NULL, page INTEGER NOT NULL, training INTEGER NOT NULL,
    answer TEXT NOT NULL);
"""


def listener_name(listener: int) -> str:
    """As tables show listener 0, 1, …: L001, L002, …"""
    return f"L{listener + 1:03d}"


def answers(folder: Path) -> list[Answer]:
    """All answers of submitted pages in the order of their submission, without those of training pages.

    Reads only, and what is committed: also while the server runs. Raises InputError where there is no database.
    """
    rows = _read(folder, "SELECT answer FROM answers WHERE training = 0 ORDER BY number")
    return [Answer(**json.loads(document)) for (document,) in rows]


def listeners(folder: Path) -> list[dict[str, Any]]:
    """How far each listener who came is, and what the headphone check said: for the owner, as JSON holds it.

    Raises InputError where there is no database.
    """
    rows = _read(
        folder,
        "SELECT listener, arrived_s, consent_s, level_s, finished_s,"
        " (SELECT count(*) FROM checks WHERE checks.listener = progress.listener),"
        " (SELECT sum(correct) FROM checks WHERE checks.listener = progress.listener),"
        " (SELECT count(*) FROM submitted WHERE submitted.listener = progress.listener)"
        " FROM progress ORDER BY listener",
    )
    names = ("arrived_s", "consent_s", "level_s", "finished_s", "checks", "checks_correct", "pages_submitted")
    return [{"listener": listener_name(row[0]), **dict(zip(names, row[1:], strict=True))} for row in rows]


def _read(folder: Path, query: str) -> list[tuple[Any, ...]]:
    path = folder / DATABASE
    if not path.is_file():
        raise InputError(f"{folder}: has no answers: {DATABASE} is missing; `restyler listen serve` makes it")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def connect(folder: Path, plan: ListeningTest) -> sqlite3.Connection:
    """The database of a test for its server, made where there is none: write-ahead log, every commit synced to disk.

    Raises InputError where it cannot be opened, or holds the answers to another plan than this one.
    """
    path = folder / DATABASE
    # Without defaults: a version with one field more must go on with a test that is under way.
    digest = hashlib.sha256(plan.model_dump_json(exclude_defaults=True).encode()).hexdigest()
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(SCHEMA)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('plan', ?)", (digest,))
        ((kept,),) = connection.execute("SELECT value FROM meta WHERE key = 'plan'")
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be opened: {error}") from error
    if kept != digest:
        connection.close()
        raise InputError(f"{path}: holds answers to another plan; test.json must stay as it was when they were given")
    return connection


def secret(connection: sqlite3.Connection, fresh: str) -> str:
    """The key that this test's sound addresses are made with: `fresh`, the first time."""
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (fresh,))
    ((value,),) = connection.execute("SELECT value FROM meta WHERE key = 'secret'")
    return str(value)


def note_step(connection: sqlite3.Connection, listener: int, step: str, at_s: float) -> None:
    """Keeps when a listener first passed a step: "arrived", "consent", "level" or "finished"."""
    column = {"arrived": "arrived_s", "consent": "consent_s", "level": "level_s", "finished": "finished_s"}[step]
    row = connection.execute(f"SELECT {column} FROM progress WHERE listener = ?", (listener,)).fetchone()
    if row is None:
        connection.execute(f"INSERT INTO progress (listener, {column}) VALUES (?, ?)", (listener, at_s))
    elif row[0] is None:
        connection.execute(f"UPDATE progress SET {column} = ? WHERE listener = ?", (at_s, listener))


def note_check(
    connection: sqlite3.Connection, listener: int, number: int, answer: int, correct: bool, at_s: float
) -> None:
    """Keeps the first answer to a question of the headphone check."""
    connection.execute(
        "INSERT OR IGNORE INTO checks VALUES (?, ?, ?, ?, ?)", (listener, number, answer, int(correct), at_s)
    )


def note_opened(connection: sqlite3.Connection, listener: int, page: int, at_s: float) -> None:
    """Keeps when a page was first shown."""
    if not connection.execute("SELECT 1 FROM opened WHERE listener = ? AND page = ?", (listener, page)).fetchone():
        connection.execute("INSERT INTO opened VALUES (?, ?, ?)", (listener, page, at_s))


def note_heard(connection: sqlite3.Connection, listener: int, page: int, slot: str, at_s: float) -> None:
    """Keeps that a sound was heard."""
    connection.execute("INSERT OR IGNORE INTO heard VALUES (?, ?, ?, ?)", (listener, page, slot, at_s))


def note_rating(
    connection: sqlite3.Connection, listener: int, page: int, field: str, value: Any, sequence: int, at_s: float
) -> bool:
    """Keeps a value unless one with the same or a higher sequence number is there; whether it was kept."""
    cursor = connection.execute(
        "INSERT INTO ratings VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (listener, page, field) DO UPDATE SET"
        " value = excluded.value, sequence = excluded.sequence, at_s = excluded.at_s"
        " WHERE excluded.sequence > ratings.sequence",
        (listener, page, field, json.dumps(value), sequence, at_s),
    )
    return cursor.rowcount == 1


def note_submitted(
    connection: sqlite3.Connection,
    listener: int,
    page: int,
    *,
    trial: str,
    training: bool,
    rows: Sequence[Answer],
    at_s: float,
) -> None:
    """Closes a page with the answers that its values stand for."""
    connection.execute("INSERT INTO submitted VALUES (?, ?, ?, ?, ?)", (listener, page, trial, int(training), at_s))
    _add_answers(connection, listener_name(listener), page, training, rows)


def add_session(
    connection: sqlite3.Connection,
    uuid: str,
    document: str,
    pages: Sequence[tuple[bool, Sequence[Answer]]],
    at_s: float,
) -> bool:
    """Keeps a session of webMUSHRA, whole and resolved: for each page, whether it is training, and its answers.

    False, and nothing kept, where another session has that uuid; the same one again is kept once.
    """
    known = connection.execute("SELECT document FROM sessions WHERE uuid = ?", (uuid,)).fetchone()
    if known:
        return bool(known[0] == document)
    connection.execute("INSERT INTO sessions VALUES (?, ?, ?)", (uuid, document, at_s))
    for number, (training, rows) in enumerate(pages):
        _add_answers(connection, uuid, number, training, rows)
    return True


def _add_answers(
    connection: sqlite3.Connection, source: str, page: int, training: bool, rows: Sequence[Answer]
) -> None:
    connection.executemany(
        "INSERT INTO answers (source, page, training, answer) VALUES (?, ?, ?, ?)",
        [(source, page, int(training), json.dumps(dataclasses.asdict(row))) for row in rows],
    )


def steps(connection: sqlite3.Connection, listener: int) -> tuple[bool, bool]:
    """Whether a listener has given consent, and has set the level."""
    row = connection.execute("SELECT consent_s, level_s FROM progress WHERE listener = ?", (listener,)).fetchone()
    return (False, False) if row is None else (row[0] is not None, row[1] is not None)


def checks_done(connection: sqlite3.Connection, listener: int) -> int:
    """How many questions of the headphone check a listener has answered."""
    return int(connection.execute("SELECT count(*) FROM checks WHERE listener = ?", (listener,)).fetchone()[0])


def pages_done(connection: sqlite3.Connection, listener: int) -> int:
    """How many pages a listener has submitted."""
    return int(connection.execute("SELECT count(*) FROM submitted WHERE listener = ?", (listener,)).fetchone()[0])


def opened_s(connection: sqlite3.Connection, listener: int, page: int) -> float | None:
    """When a page was first shown."""
    row = connection.execute("SELECT at_s FROM opened WHERE listener = ? AND page = ?", (listener, page)).fetchone()
    return None if row is None else float(row[0])


def heard(connection: sqlite3.Connection, listener: int, page: int) -> set[str]:
    """The slots of a page that were heard."""
    query = "SELECT slot FROM heard WHERE listener = ? AND page = ?"
    return {slot for (slot,) in connection.execute(query, (listener, page))}


def ratings(connection: sqlite3.Connection, listener: int, page: int) -> Mapping[str, Any]:
    """The present value of each field of a page that has one."""
    query = "SELECT field, value FROM ratings WHERE listener = ? AND page = ?"
    return {field: json.loads(value) for field, value in connection.execute(query, (listener, page))}


def last_sequence(connection: sqlite3.Connection, listener: int) -> int:
    """The highest sequence number of a listener's values; 0 where there is none."""
    query = "SELECT coalesce(max(sequence), 0) FROM ratings WHERE listener = ?"
    return int(connection.execute(query, (listener,)).fetchone()[0])
