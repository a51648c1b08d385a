"""Does a file hold all the bytes that its own header promises?

libsndfile shortens a cut WAV, RF64, W64, AIFF, AU, CAF, MP3 or Ogg file to what is there and reports no error, so half
a take would pass for a whole one. FLAC and HTK need no check here: libsndfile notices. Formats that do not say how
long they are, or in ways that are not simple (IRCAM, PAF, MAT5 and the like), are read as they come. Damage inside a
file shows only where the format has checksums that libsndfile looks at.

Sizes that mean «not known when the header was written» are legitimate, since programs that stream cannot go back
and fill them in: 0xFFFFFFFF (FFmpeg) and everything from 0x7FFFF000 up (SoX, arecord) in a WAV, all ones in an AU,
−1 in a CAF, 0 in AIFF and W64. Such files are read to their end. The price: a WAV or CAF cut short from more than
2 GiB is not noticed.

Sources: the RIFF and RF64 layouts of EBU Tech 3306, Apple's AIFF 1.3 and Core Audio Format, Sony's Wave64, RFC 3533
(Ogg pages), the Xing header as LAME writes it, NIST's SPHERE header; for AVR and VOC, libsndfile's own readers.
"""

from __future__ import annotations

import math
import os
import re
import struct
from io import FileIO

SMALLEST_UNKNOWN_SIZE = 0x7FFFF000
SMALLEST_UNKNOWN_W64_SIZE = 1 << 62
UNKNOWN_AU_SIZE = 0xFFFFFFFF
OGG_TAIL_BYTES = 1 << 17  # a page has at most 65307 bytes, so the last page starts within this
AVR_HEADER_BYTES = 128
NIST_HEADER_BYTES = 1024
NIST_SIZES = (b"sample_count", b"channel_count", b"sample_n_bytes")
MP3_HEAD_BYTES = 4096
MP3_SLACK = 0.01  # encoders disagree whether the first frame and trailing tags count


def missing_audio(handle: FileIO) -> str | None:
    """What is missing from a cut audio file, as the end of an error line; None where nothing is known to be.

    handle: an open, seekable binary file; its position is moved.
    """
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    head = handle.read(32)
    if head.startswith(b"OggS"):
        return _missing_ogg_end(handle, size)
    promised = _promised_bytes(handle, head)
    if promised is None or promised <= size:
        return None
    return f"its header promises {promised} bytes, {size} are there"


def _promised_bytes(handle: FileIO, head: bytes) -> int | None:
    """The smallest file size in bytes that agrees with the header; None where the header does not say."""
    magic = head[:4]
    if magic in (b"RIFF", b"RIFX"):
        return _end_of_data_chunk(handle, 12, "<4sI" if magic == b"RIFF" else ">4sI", even=True)
    if magic == b"caff":
        return _end_of_data_chunk(handle, 8, ">4sq", even=False)
    if magic == b"RF64" and head[12:16] == b"ds64" and len(head) >= 28:
        return 8 + struct.unpack_from("<Q", head, 20)[0]
    if magic == b"riff" and len(head) >= 24:  # Sony Wave64: the size follows a 16-byte identifier
        size = struct.unpack_from("<Q", head, 16)[0]
        return size if size < SMALLEST_UNKNOWN_W64_SIZE else None
    if magic == b"FORM" and len(head) >= 8:
        return 8 + struct.unpack_from(">I", head, 4)[0]
    if magic in (b".snd", b"dns.") and len(head) >= 12:
        start, size = struct.unpack_from(">II" if magic == b".snd" else "<II", head, 4)
        return start + size if size != UNKNOWN_AU_SIZE else None
    if magic == b"2BIT" and len(head) >= 30:
        stereo, bits = struct.unpack_from(">HH", head, 12)
        return AVR_HEADER_BYTES + struct.unpack_from(">I", head, 26)[0] * (2 if stereo else 1) * bits // 8
    if magic == b"NIST":
        return _end_of_nist(handle)
    if head.startswith(b"Creative Voice File") and len(head) >= 22:
        return _end_of_voc_blocks(handle, struct.unpack_from("<H", head, 20)[0])
    return _end_of_xing_mp3(handle, head)


def _end_of_data_chunk(handle: FileIO, start: int, header: str, *, even: bool) -> int | None:
    """Where the samples of a chunked file end, whose first chunk is at `start`; None for an unknown size.

    header: struct format of a chunk's name and size; even: chunks of odd size are followed by one more byte. The
    outer size of a WAV is not used, because editors often leave that one wrong.
    """
    handle.seek(start)
    while len(chunk := handle.read(struct.calcsize(header))) == struct.calcsize(header):
        name, size = struct.unpack(header, chunk)
        if name == b"data":
            return handle.tell() + size if 0 <= size < SMALLEST_UNKNOWN_SIZE else None
        if size < 0:
            return None
        handle.seek(size + size % 2 * even, os.SEEK_CUR)
    return None


def _end_of_nist(handle: FileIO) -> int | None:
    """Where the samples end: after a header in text, whose own size stands in its second line."""
    handle.seek(0)
    header = handle.read(NIST_HEADER_BYTES)
    size = re.match(rb"NIST_1A\n *(\d+)\n", header)
    fields = [re.search(rb"\n%s -i (\d+)" % name, header) for name in NIST_SIZES]
    if size is None or None in fields:
        return None
    return int(size[1]) + math.prod(int(field[1]) for field in fields if field)


def _end_of_voc_blocks(handle: FileIO, start: int) -> int:
    """Where the last block ends; each has a byte for its type, 0 for the end, and three for its size."""
    end = start
    while handle.seek(end) == end and len(block := handle.read(4)) == 4 and block[0]:
        end += 4 + int.from_bytes(block[1:], "little")
    return end


def _end_of_xing_mp3(handle: FileIO, head: bytes) -> int | None:
    """Where the last frame of an MP3 ends, if its first frame is a Xing or Info header that states the bytes."""
    start = 0
    if head.startswith(b"ID3") and len(head) >= 10:
        a, b, c, d = head[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    handle.seek(start)
    frame = handle.read(MP3_HEAD_BYTES)
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return None
    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at < 0 or len(frame) < at + 16:
        return None
    flags, *fields = struct.unpack_from(">3I", frame, at + 4)
    if not flags & 2:
        return None
    stated = fields[1] if flags & 1 else fields[0]
    return start + int(stated * (1 - MP3_SLACK))


def _missing_ogg_end(handle: FileIO, size: int) -> str | None:
    """An Ogg stream ends with a whole page whose end-of-stream bit is set."""
    handle.seek(max(0, size - OGG_TAIL_BYTES))
    tail = handle.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    complete = len(page) > 26 and len(segments) == page[26] and len(page) >= 27 + page[26] + sum(segments)
    if complete and page[5] & 4:
        return None
    return "its last page is not the end of the stream"
