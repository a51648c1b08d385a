"""The time stamp of Broadcast Wave files: where on a DAW's timeline a recording began, in samples since midnight.

A `bext` chunk as EBU Tech 3285 (version 1, §2.3) describes it. DAWs write it into takes, and move files to it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audio.errors import InputError

# Description, originator, its reference, date, time, time reference (low and high word as one), version, UMID and what
# is reserved.
BEXT = struct.Struct("<256s32s32s10s8sQH64s190s")
HEAD = struct.Struct("<4sI")
WAVES = (b"RIFF", b"RF64", b"BW64")
TIMED_BYTES = 346  # of a bext, up to the end of its time reference
MOST_CHUNKS = 1000  # that are looked through
LONGEST_S = 10 * 86_400  # what claims to be later after midnight is no time
BLOCK_BYTES = 1 << 20
MARKED_64 = 0xFFFFFFFF  # the size of a chunk whose size stands in `ds64`


@dataclass(frozen=True)
class TimeStamp:
    """samples: since midnight, at `sample_rate` (Hz). date, time: of the recording, `2026-11-26`, `21:30:00`; empty
    where the file says none."""

    samples: int
    sample_rate: int
    date: str = ""
    time: str = ""

    def at(self, sample_rate: int) -> TimeStamp:
        """The same moment, to half a sample, at another rate."""
        samples = (2 * self.samples * sample_rate + self.sample_rate) // (2 * self.sample_rate)
        return TimeStamp(samples, sample_rate, self.date, self.time)


def read_time_stamp(path: Path) -> TimeStamp | None:
    """Of a WAV file (RIFF, RF64 or BW64); None for a file of another kind, and for one without a time stamp or with one
    of more than ten days.

    Raises InputError for a file that can't be read. A damaged one has none: whoever reads its audio says so.
    """
    try:
        with path.open("rb") as file:
            return _found(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _found(file: BinaryIO) -> TimeStamp | None:
    whole = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] not in WAVES or start[8:] != b"WAVE":
        return None
    rate, bext, data_bytes = 0, b"", None
    for _ in range(MOST_CHUNKS):
        head = file.read(HEAD.size)
        if len(head) < HEAD.size or (rate and bext):
            break
        name, size = HEAD.unpack(head)
        begins = file.tell()
        if name == b"ds64":
            sizes = file.read(24)
            data_bytes = struct.unpack_from("<Q", sizes, 8)[0] if len(sizes) == 24 else None
        elif name == b"fmt ":
            fields = file.read(min(size, 8))
            rate = struct.unpack_from("<I", fields, 4)[0] if len(fields) == 8 else 0
        elif name == b"bext":
            bext = file.read(min(size, BEXT.size))
        elif name == b"data" and size == MARKED_64:
            if data_bytes is None:
                break
            size = data_bytes
        ends = begins + size + size % 2
        if ends > whole:  # by its own word alone, or cut off: nothing follows
            break
        file.seek(ends)
    if not rate or len(bext) < TIMED_BYTES:
        return None
    told = BEXT.unpack(bext.ljust(BEXT.size, b"\0"))
    date, time = (text.split(b"\0")[0].decode("ascii", errors="replace") for text in told[3:5])
    plain = (text if text.isascii() and text.isprintable() else "" for text in (date, time))
    return TimeStamp(told[5], rate, *plain) if told[5] <= LONGEST_S * rate else None


def insert_time_stamp(file: BinaryIO, stamp: TimeStamp, *, originator: str) -> None:
    """Into a WAV file as libsndfile writes it (RIFF), open for reading and writing: its `bext` comes before the audio,
    which moves. What follows the audio moves with it.

    Raises ValueError for a file of another kind or too long, OSError where it can't be written.
    """
    file.flush()
    whole = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise ValueError("a RIFF WAVE file takes a time stamp")
    chunk = HEAD.pack(b"bext", BEXT.size) + BEXT.pack(
        b"", originator.encode("ascii"), b"", stamp.date.encode(), stamp.time.encode(), stamp.samples, 1, b"", b""
    )
    if whole + len(chunk) - HEAD.size > MARKED_64:
        raise ValueError("longer than a WAV can be")
    for begins in range((whole - 12 - 1) // BLOCK_BYTES * BLOCK_BYTES + 12, 0, -BLOCK_BYTES):  # the last block first
        file.seek(begins)
        block = file.read(min(BLOCK_BYTES, whole - begins))
        file.seek(begins + len(chunk))
        file.write(block)
    file.seek(12)
    file.write(chunk)
    file.seek(4)
    file.write(struct.pack("<I", whole + len(chunk) - HEAD.size))
    file.seek(0, os.SEEK_END)
