"""Takes in the database, and how much of the disk an owner has."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from restyler.serving.refusals import not_found
from restyler.serving.storage import iso


@dataclass(frozen=True)
class StoredTake:
    id: str
    owner: str
    name: str
    created_s: float
    bytes: int
    duration_s: float
    sample_rate_hz: int
    channels: int

    def answer(self) -> dict[str, Any]:
        """As JSON tells it to its owner."""
        names = ("id", "name", "duration_s", "sample_rate_hz", "channels", "bytes")
        return {name: getattr(self, name) for name in names} | {"created": iso(self.created_s)}


COLUMNS = "id, owner, name, created_s, bytes, duration_s, sample_rate_hz, channels"


def add(connection: sqlite3.Connection, take: StoredTake) -> None:
    values = tuple(getattr(take, name) for name in COLUMNS.split(", "))
    connection.execute(f"INSERT INTO takes ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def one(connection: sqlite3.Connection, owner: str, identity: str) -> StoredTake:
    """Raises RefusedError (404) for what this owner has not."""
    query = f"SELECT {COLUMNS} FROM takes WHERE id = ? AND owner = ?"
    row = connection.execute(query, (identity, owner)).fetchone()
    if row is None:
        raise not_found("take")
    return StoredTake(*row)


def every(connection: sqlite3.Connection, owner: str) -> list[StoredTake]:
    """Newest first."""
    query = f"SELECT {COLUMNS} FROM takes WHERE owner = ? ORDER BY number DESC"
    return [StoredTake(*row) for row in connection.execute(query, (owner,))]


def in_use(connection: sqlite3.Connection, kind: str, identity: str) -> bool:
    """Whether a job that waits or runs needs this take ("take") or the mixes of this job ("job")."""
    query = (
        "SELECT 1 FROM uses JOIN jobs ON jobs.id = uses.job"
        " WHERE uses.kind = ? AND uses.id = ? AND jobs.state IN ('queued', 'running') LIMIT 1"
    )
    return connection.execute(query, (kind, identity)).fetchone() is not None


def remove(connection: sqlite3.Connection, identity: str) -> None:
    connection.execute("DELETE FROM takes WHERE id = ?", (identity,))


def older_than(connection: sqlite3.Connection, time_s: float) -> list[str]:
    """Ids of takes that no waiting or running job needs."""
    query = "SELECT id FROM takes WHERE created_s < ?"
    return [row[0] for row in connection.execute(query, (time_s,)) if not in_use(connection, "take", row[0])]


def bytes_of(connection: sqlite3.Connection, owner: str | None = None) -> int:
    """What one owner's takes and mixes, those that waiting and running jobs will make included, take of the disk; of
    all owners for None."""
    whose, values = ("", ()) if owner is None else ("WHERE owner = ?", (owner,))
    (takes,) = connection.execute(f"SELECT coalesce(sum(bytes), 0) FROM takes {whose}", values).fetchone()
    made = "(SELECT coalesce(sum(bytes), 0) FROM mixes WHERE mixes.job = jobs.id)"
    of_job = f"CASE WHEN state IN ('queued', 'running') THEN max(expected_bytes, {made}) ELSE {made} END"
    (jobs,) = connection.execute(f"SELECT coalesce(sum({of_job}), 0) FROM jobs {whose}", values).fetchone()
    return int(takes) + int(jobs)
