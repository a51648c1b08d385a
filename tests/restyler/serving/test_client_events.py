"""Server-sent events: however the bytes are cut, the same events; only the standard's line ends end a line."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.errors import InputError
from restyler.client_events import LONGEST_EVENT_BYTES, Event, parse_events

texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.lists(st.tuples(st.sampled_from(["mix", "progress", "state"]), texts), max_size=6),
    st.lists(st.integers(0, 400), max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_events_come_back_however_the_stream_is_cut(
    sent: list[tuple[str, str]], cuts: list[int], end: str, marked: bool
) -> None:
    lines = [": heartbeat", ""]
    for number, (kind, text) in enumerate(sent):
        lines += [f"id: {number}", f"event: {kind}", f"data: {json.dumps(text, ensure_ascii=False)}", ""]
    stream = ("\ufeff" if marked else "").encode() + "".join(line + end for line in lines).encode()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert list(parse_events(chunks)) == [Event(str(n), kind, text) for n, (kind, text) in enumerate(sent)]


def test_several_lines_of_data_are_one_event_and_an_unfinished_one_is_none() -> None:
    stream = b'data: {"a":\ndata: 1}\n\nevent: mix\nid: 7\ndata: 2\n'
    assert list(parse_events([stream])) == [Event(None, "message", {"a": 1})]


def test_an_event_without_data_is_none_but_its_id_stays() -> None:
    assert list(parse_events([b"id: 3\nevent: state\n\ndata:4\n\n"])) == [Event("3", "message", 4)]


@pytest.mark.parametrize("stream", [b"data: {\n\n", b"data: \xff\n\n", b"data: " + b"1" * LONGEST_EVENT_BYTES + b"00"])
def test_a_damaged_event_is_one_line(stream: bytes) -> None:
    with pytest.raises(InputError, match=r"^the server sent an event that ") as caught:
        list(parse_events([stream]))
    assert "\n" not in str(caught.value)
