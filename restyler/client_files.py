"""Files that are streamed to a server or from it: never whole in memory, and never half under their name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from audio.errors import InputError
from audio.io import replacing
from restyler.command import shown
from restyler.progress import Progress

BLOCK_BYTES = 1 << 16


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file for reading and its size in bytes. Raises InputError for what is no file or can't be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise InputError(f"{shown(path)}: not a file; an audio file is needed")
        handle = path.open("rb")
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    with handle:
        yield handle, os.fstat(handle.fileno()).st_size


def sent(handle: BinaryIO, size: int, path: Path, progress: Progress | None) -> Iterator[bytes]:
    """The `size` bytes of an open file in blocks. Raises InputError where it turns out to be shorter."""
    done = 0
    while done < size:
        try:
            block = handle.read(min(BLOCK_BYTES, size - done))
        except OSError as error:
            raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from error
        if not block:
            raise InputError(f"{shown(path)}: became shorter while it was sent")
        yield block
        done += len(block)
        if progress is not None:
            progress(done, size)


def received(blocks: Iterable[bytes], path: Path) -> None:
    """Blocks into a file that is at every moment the old one, the new one, or absent.

    Raises InputError where it can't be written; what else goes wrong with the blocks leaves nothing behind.
    """
    with replacing(path) as handle:
        for block in blocks:
            handle.write(block)
