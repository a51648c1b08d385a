"""Who may ask: keys as SHA-256 alone; a key's name owns what is made with it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from audio.errors import InputError
from restyler.serving.refusals import RefusedError
from restyler.serving.storage import Storage, iso

LOCAL = "local"  # the owner of what is made with the page that `restyler serve` prints the link of
LONGEST_OWNER = 100
BEARER = HTTPBearer(auto_error=False, description="a key of `restyler keys`, or that of the page's link")


def fresh_key() -> str:
    """256 bits."""
    return secrets.token_urlsafe(32)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def add(storage: Storage, owner: str) -> str:
    """A new key, which nobody can find out again. Raises InputError for a name that is taken or can't be one."""
    if not (owner.strip() and owner.isprintable() and len(owner) <= LONGEST_OWNER):
        raise InputError(f"{owner!r}: a key's name is printable text of up to {LONGEST_OWNER} characters")
    if owner == LOCAL:
        raise InputError(f"{owner}: is the owner of the local page; choose another name")
    key = fresh_key()
    try:
        with storage.writing() as connection:
            connection.execute("INSERT INTO keys VALUES (?, ?, ?)", (digest(key), owner, storage.clock()))
    except sqlite3.IntegrityError:
        raise InputError(f"{owner}: has a key already; revoke it first") from None
    return key


def every(storage: Storage) -> list[tuple[str, str]]:
    """Names, and since when they have a key."""
    with storage.reading() as connection:
        rows = connection.execute("SELECT owner, created_s FROM keys ORDER BY owner").fetchall()
    return [(row[0], iso(row[1])) for row in rows]


def revoke(storage: Storage, owner: str) -> None:
    """From the next request on; takes and jobs stay. Raises InputError where nobody has that name."""
    with storage.writing() as connection:
        if connection.execute("DELETE FROM keys WHERE owner = ?", (owner,)).rowcount == 0:
            raise InputError(f"{owner}: no key has that name")


def by_key(storage: Storage, local_key: str | None) -> Callable[..., str]:
    """A FastAPI dependency: the owner of the key that a request bears. local_key: that of the local page.

    It raises RefusedError (401) for no key and for any other.
    """
    local = None if local_key is None else digest(local_key)

    def owner(bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> str:
        if bearer is None:
            raise RefusedError(401, "a key is needed: Authorization: Bearer KEY", reason="no_key")
        given = digest(bearer.credentials)
        if local is not None and hmac.compare_digest(given, local):
            return LOCAL
        with storage.reading() as connection:
            row = connection.execute("SELECT digest, owner FROM keys WHERE digest = ?", (given,)).fetchone()
        if row is None or not hmac.compare_digest(given, row[0]):
            raise RefusedError(401, "this key is not known here", reason="unknown_key")
        return str(row[1])

    return owner
