"""What a file or plugin of a chain is, wherever it lies: its name with a hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from audio.errors import InputError
from audio.parts import Step
from restyler.command import is_utf8, shown


def content_digest(path: Path) -> str:
    """32 hexadecimal digits of SHA-256: of a file's bytes, or of the names and bytes of all files in a folder.

    Raises InputError for what can't be read.
    """
    try:
        if not path.is_dir():
            return _file_digest(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        told = [(file.relative_to(path).as_posix(), _file_digest(file)) for file in files]
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def identity(path: Path) -> str:
    """`room.wav 0123…`: equal for equal files in different folders. Raises InputError where `content_digest` does."""
    return f"{path.name} {content_digest(path)}"


def identified(steps: Sequence[Step], files: Mapping[str, str]) -> list[Step]:
    """The steps with each path that `files` knows replaced by what it stands for there."""
    return [
        replace(
            step,
            values={n: files.get(v, v) if isinstance(v, str) else v for n, v in step.values.items()},
            path=None if step.path is None else files.get(step.path, step.path),
        )
        for step in steps
    ]


def require_utf8(path: Path, name: str) -> None:
    """Raises InputError for a name that tables and settings, which are UTF-8, can't hold."""
    if not is_utf8(name):
        raise InputError(f"{shown(path)}: a name that is not UTF-8; rename it")
