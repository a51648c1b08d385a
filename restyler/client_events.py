"""Server-sent events, read from the bytes of a stream (WHATWG HTML Living Standard, 9.2.6, «Interpreting an event
stream»)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from audio.errors import InputError

LONGEST_EVENT_BYTES = 8 << 20  # a job with a hundred mixes fills a hundredth of it
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Event:
    """id: to go on from, None where the stream has named none. kind: its name. data: the JSON in it."""

    id: str | None
    kind: str
    data: Any


def parse_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Events in the order of the stream, however its bytes are cut into chunks; one that is not finished is dropped.

    Raises InputError for data that is no JSON, bytes that are no UTF-8, and an event of more than 8 MiB.
    """
    last_id: str | None = None
    kind, data = "", list[str]()
    for line in _lines(chunks):
        if line == "":
            if data:
                yield Event(last_id, kind or "message", _json("\n".join(data)))
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and "\0" not in value:
            last_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
            if sum(map(len, data)) > LONGEST_EVENT_BYTES:
                raise InputError("the server sent an event that never ends")


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines that end by CR LF, LF or CR and by nothing else: `str.splitlines` knows more ends, which JSON may hold."""
    rest, begun, after_return = b"", False, False
    for chunk in chunks:
        rest += chunk
        if not begun:
            if len(rest) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(rest):
                continue
            rest, begun = rest.removeprefix(BYTE_ORDER_MARK), True
        if after_return and rest:
            rest, after_return = rest.removeprefix(b"\n"), False
        ended_by_return = rest.endswith(b"\r")
        *lines, rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        after_return = ended_by_return
        if len(rest) > LONGEST_EVENT_BYTES:
            raise InputError("the server sent an event that never ends")
        for line in lines:
            try:
                yield line.decode()
            except UnicodeDecodeError:
                raise InputError("the server sent an event that is no UTF-8") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError("the server sent an event that is no JSON") from None
