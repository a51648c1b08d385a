"""Jobs and their mixes in the database: the truth about what was accepted, what runs and what was made."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from restyler.serving.refusals import RefusedError, not_found
from restyler.serving.storage import iso

OPEN = ("queued", "running")
ENDED = ("done", "failed", "cancelled")


def add(
    connection: sqlite3.Connection,
    *,
    identity: str,
    owner: str,
    take: str,
    name: str,
    request: Mapping[str, Any],
    variations: int,
    expected_bytes: int,
    uses: Iterable[tuple[str, str]],
    idempotency_key: str | None,
    at_s: float,
) -> None:
    """A new job at the end of the queue. uses: ("take" or "job", id) of what it needs while it waits and runs."""
    connection.execute(
        "INSERT INTO jobs (id, owner, take, name, state, created_s, request, variations, expected_bytes,"
        " idempotency_key) VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)",
        (identity, owner, take, name, at_s, json.dumps(request), variations, expected_bytes, idempotency_key),
    )
    connection.executemany("INSERT OR IGNORE INTO uses VALUES (?, ?, ?)", [(identity, *use) for use in uses])


def row_of(connection: sqlite3.Connection, owner: str, identity: str) -> sqlite3.Row:
    """Raises RefusedError (404) for what this owner has not."""
    query = "SELECT * FROM jobs WHERE id = ? AND owner = ?"
    row: sqlite3.Row | None = connection.execute(query, (identity, owner)).fetchone()
    if row is None:
        raise not_found("job")
    return row


def row_by_key(connection: sqlite3.Connection, owner: str, idempotency_key: str) -> sqlite3.Row | None:
    query = "SELECT * FROM jobs WHERE owner = ? AND idempotency_key = ?"
    row: sqlite3.Row | None = connection.execute(query, (owner, idempotency_key)).fetchone()
    return row


def row_inside(connection: sqlite3.Connection, identity: str) -> sqlite3.Row | None:
    """Whoever's it is, for the service itself; None where it has gone."""
    row: sqlite3.Row | None = connection.execute("SELECT * FROM jobs WHERE id = ?", (identity,)).fetchone()
    return row


def answer(connection: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """A job as JSON tells it to its owner."""
    position = None
    if row["state"] == "queued":
        query = "SELECT count(*) FROM jobs WHERE state = 'queued' AND number < ?"
        (position,) = connection.execute(query, (row["number"],)).fetchone()
    times = {name: row[f"{name}_s"] for name in ("created", "started", "ended")}
    kept = {name: row[name] for name in ("id", "name", "take", "state", "progress", "variations", "error")}
    return (
        kept
        | {"position": position, "request": json.loads(row["request"]), "mixes": mixes(connection, row["id"])}
        | {name: None if time_s is None else iso(time_s) for name, time_s in times.items()}
    )


def page(
    connection: sqlite3.Connection, owner: str, *, state: str | None, limit: int, before: str | None
) -> list[dict[str, Any]]:
    """Newest first. before: only those older than this job. Raises RefusedError (422) where that is none of theirs."""
    query, values = "SELECT * FROM jobs WHERE owner = ?", [owner]
    if state is not None:
        query, values = f"{query} AND state = ?", [*values, state]
    if before is not None:
        try:
            number = row_of(connection, owner, before)["number"]
        except RefusedError:
            raise RefusedError(422, "before: no such job", field="before") from None
        query, values = f"{query} AND number < ?", [*values, number]
    rows = connection.execute(f"{query} ORDER BY number DESC LIMIT ?", (*values, limit)).fetchall()
    return [answer(connection, row) for row in rows]


def mixes(connection: sqlite3.Connection, job: str) -> list[dict[str, Any]]:
    """The mixes of a job so far, as JSON tells them."""
    query = "SELECT number, facts, name, picked FROM mixes WHERE job = ? ORDER BY number"
    return [
        {"number": number} | json.loads(facts) | {"name": name, "picked": bool(picked)}
        for number, facts, name, picked in connection.execute(query, (job,))
    ]


def mix(connection: sqlite3.Connection, job: str, number: int) -> dict[str, Any]:
    """Raises RefusedError (404) where it is not made."""
    found = next((one for one in mixes(connection, job) if one["number"] == number), None)
    if found is None:
        raise not_found("mix")
    return found


def add_mix(connection: sqlite3.Connection, job: str, number: int, facts: Mapping[str, Any], size: int) -> bool:
    """Whether it is new."""
    query = "INSERT OR IGNORE INTO mixes (job, number, facts, bytes) VALUES (?, ?, ?, ?)"
    return connection.execute(query, (job, number, json.dumps(facts), size)).rowcount == 1


def change(connection: sqlite3.Connection, job: str, **values: Any) -> None:
    """Sets columns of a job."""
    columns = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE jobs SET {columns} WHERE id = ?", (*values.values(), job))


def change_mix(connection: sqlite3.Connection, job: str, number: int, **values: Any) -> None:
    """Sets columns of a mix."""
    columns = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE mixes SET {columns} WHERE job = ? AND number = ?", (*values.values(), job, number))


def next_queued(connection: sqlite3.Connection) -> sqlite3.Row | None:
    query = "SELECT * FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
    row: sqlite3.Row | None = connection.execute(query).fetchone()
    return row


def running(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    return connection.execute("SELECT * FROM jobs WHERE state = 'running' ORDER BY number").fetchall()


def count(connection: sqlite3.Connection, states: Iterable[str], owner: str | None = None) -> int:
    """Jobs in any of these states, of one owner or, for None, of all."""
    wanted = list(states)
    query = f"SELECT count(*) FROM jobs WHERE state IN ({', '.join('?' * len(wanted))})"
    values = wanted if owner is None else [*wanted, owner]
    return int(connection.execute(query + ("" if owner is None else " AND owner = ?"), values).fetchone()[0])


def before_first(connection: sqlite3.Connection, owner: str) -> int:
    """How many waiting or running jobs were accepted before the first such one of an owner."""
    query = (
        "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') AND number <"
        " (SELECT min(number) FROM jobs WHERE state IN ('queued', 'running') AND owner = ?)"
    )
    return int(connection.execute(query, (owner,)).fetchone()[0])


def by_state(connection: sqlite3.Connection) -> dict[str, int]:
    found = dict.fromkeys((*OPEN, *ENDED), 0)
    return found | dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())


def remove(connection: sqlite3.Connection, job: str) -> None:
    """With its mixes and events."""
    for table, column in (("jobs", "id"), ("mixes", "job"), ("events", "job"), ("uses", "job")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (job,))


def older_than(connection: sqlite3.Connection, time_s: float) -> list[str]:
    """Ids of jobs that ended before."""
    query = "SELECT id FROM jobs WHERE ended_s < ? AND state IN ('done', 'failed', 'cancelled')"
    return [row[0] for row in connection.execute(query, (time_s,))]
