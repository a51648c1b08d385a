"""What happened to a job, in the order in which its listeners are told."""

from __future__ import annotations

import json
import sqlite3
from typing import Any


def add(connection: sqlite3.Connection, job: str, kind: str, data: Any) -> None:
    """kind: progress, mix or state. Of progress only the newest is kept."""
    (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM events WHERE job = ?", (job,)).fetchone()
    if kind == "progress":
        connection.execute("DELETE FROM events WHERE job = ? AND kind = 'progress'", (job,))
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (job, last + 1, kind, json.dumps(data)))


def after(connection: sqlite3.Connection, job: str, number: int) -> list[tuple[int, str, str]]:
    """(number, kind, JSON) of all later than `number`."""
    query = "SELECT number, kind, data FROM events WHERE job = ? AND number > ? ORDER BY number"
    return [(row[0], row[1], row[2]) for row in connection.execute(query, (job, number))]


def last(connection: sqlite3.Connection, job: str) -> int:
    query = "SELECT coalesce(max(number), 0) FROM events WHERE job = ?"
    return int(connection.execute(query, (job,)).fetchone()[0])
