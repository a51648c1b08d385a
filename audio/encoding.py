"""How files of sound are encoded: 24 bits, with tags in the comment, block by block."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import numpy as np
import soundfile

MAX_TAG_BYTES = 2000  # libsndfile 1.2 does not read a longer WAV comment back
SUFFIX_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
SOFTWARE = "vocal-restyler"
LONGEST_WAV_BYTES = 0xFFFF0000


def comment_of(tags: Mapping[str, str], name: object) -> str:
    """Tags as one JSON object. Raises ValueError, about the file `name`, for more than fit."""
    comment = json.dumps(tags, separators=(",", ":"))
    if len(comment) > MAX_TAG_BYTES:
        raise ValueError(f"{name}: tags of {len(comment)} bytes; at most {MAX_TAG_BYTES} fit")
    return comment


def encode(
    handle: BinaryIO, blocks: Iterable[np.ndarray], *, sample_rate: int, channels: int, kind: str, comment: str
) -> None:
    """Writes blocks [channels samples], finite and within ±1.0, into an open file. kind: one of SUFFIX_FORMATS.

    Raises OSError where the file takes no more, whatever `blocks` raises, and soundfile.LibsndfileError.
    """
    sink = _Sink(handle)
    with soundfile.SoundFile(sink, "w", sample_rate, channels, "PCM_24", format=kind) as file:
        file.software, file.comment = SOFTWARE, comment
        for block in blocks:
            file.write(block.T)
            sink.require_room()
    sink.require_room()


class _Sink:
    """A file as libsndfile writes it, which forgets to say that a disk is full: what went wrong is kept for later."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._error: OSError | None = None

    def require_room(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, data: bytes) -> int:
        try:
            return self._handle.write(data)
        except OSError as error:
            self._error = self._error or error
            return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._handle.seek(offset, whence)
        except OSError as error:  # what was waiting to be written is written before
            self._error = self._error or error
            return self._handle.tell()

    def tell(self) -> int:
        return self._handle.tell()
