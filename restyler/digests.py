"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from audio.errors import InputError
from restyler.command import shown


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex. Raises InputError where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from error
