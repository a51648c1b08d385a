"""Files of a data set by name and byte range, from a folder or any URL that fsspec knows (s3, gs, https, zip …)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fsspec.core import url_to_fs

from audio.errors import InputError


@dataclass(frozen=True)
class Range:
    """Bytes start … stop − 1 of a file."""

    name: str
    start: int
    stop: int


class Storage:
    """A folder, local or remote, read by name.

    It is handed to worker processes, where a connection of the parent must not be used: each process opens its own.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_opened": None}

    def read(self, name: str) -> bytes:
        """A whole file. Raises InputError where it can't be read."""
        files, root = self._files()
        try:
            return bytes(files.cat_file(f"{root}{name}"))
        except Exception as error:  # every protocol has exceptions of its own
            raise InputError(f"{self.url}/{name}: {_reason(error)}") from None

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Bytes of every file, None where the protocol doesn't tell. Raises InputError for one that is not there."""
        files, root = self._files()
        try:
            return list(files.sizes([f"{root}{name}" for name in names]))
        except Exception:  # which one it was is not told: look for it
            return [self._size(name) for name in names]

    def _size(self, name: str) -> int | None:
        files, root = self._files()
        try:
            return files.size(f"{root}{name}")
        except Exception as error:
            raise InputError(f"{self.url}/{name}: {_reason(error)}") from None

    def ranges(self, wanted: Sequence[Range]) -> list[bytes]:
        """The bytes of every range, asked for at once where the protocol can.

        Raises InputError that names the file for what can't be read or ends early.
        """
        files, root = self._files()
        try:
            found = files.cat_ranges(
                [f"{root}{part.name}" for part in wanted],
                [part.start for part in wanted],
                [part.stop for part in wanted],
                on_error="return",
            )
        except Exception as error:
            raise InputError(f"{self.url}: {_reason(error)}") from None
        for part, data in zip(wanted, found, strict=True):
            if isinstance(data, BaseException):
                raise InputError(f"{self.url}/{part.name}: {_reason(data)}")
            if len(data) != part.stop - part.start:
                raise InputError(
                    f"{self.url}/{part.name}: truncated: of the bytes {part.start} to {part.stop} only"
                    f" {len(data)} are there"
                )
        return [bytes(data) for data in found]

    def _files(self) -> tuple[Any, str]:
        """fsspec's file system of this process, and what stands before names there."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                files, root = url_to_fs(self.url)
            except Exception as error:
                raise InputError(f"{self.url}: {_reason(error)}") from None
            self._opened = (os.getpid(), files, root.rstrip("/") + "/" if root else "")
        return self._opened[1:]


def _reason(error: BaseException) -> str:
    """One line; what FileNotFoundError says is often no more than the path again."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"can't be read: {error.strerror}"
    return f"can't be read: {' '.join(str(error).split()) or type(error).__name__}"
