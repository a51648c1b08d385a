"""Callers who take their time on purpose: they are cut off, and meanwhile everybody else is served."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

MANY = 200


def dripped(service: Any, text: bytes, *, first: int, longest_s: float) -> tuple[float, bytes]:
    """Sends the first bytes at once and one more a second: when the other side ended it, and what it said."""
    begun, said = time.monotonic(), b""
    with socket.create_connection(service.address, timeout=1.0) as connection:
        connection.sendall(text[:first])
        for byte in text[first:]:
            if time.monotonic() - begun > longest_s:
                break
            try:
                connection.sendall(bytes([byte]))
                if not (piece := connection.recv(4096)):
                    break
                said += piece
            except TimeoutError:
                continue
            except OSError:
                break
    return time.monotonic() - begun, said


@pytest.mark.slow
@pytest.mark.parametrize(("what", "longest_s"), [("head", 120.0), ("body", 40.0), ("json", 40.0)])
def test_many_slow_callers_are_cut_off_and_hold_up_nobody(what: str, longest_s: float, real_service: Any) -> None:
    host = "{}:{}".format(*real_service.address)
    head = f"Host: {host}\r\nAuthorization: Bearer {real_service.key}\r\n"
    texts = {
        "head": f"GET /v1/model HTTP/1.1\r\n{head}X-Slow: {'a' * 4000}",
        "body": f"POST /v1/takes?name=a HTTP/1.1\r\n{head}Content-Length: 9000\r\n\r\n{'R' * 9000}",
        "json": f"POST /v1/jobs HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
        + "{" * 9000,
    }
    text = texts[what].encode()
    first = text.find(b"\r\n\r\n") + 4 if what != "head" else len(text) - 4000
    ends = list[tuple[float, bytes]]()
    before = real_service.rss_bytes()

    def one() -> None:
        ends.append(dripped(real_service, text, first=first, longest_s=longest_s))

    threads = [threading.Thread(target=one) for _ in range(MANY)]
    for thread in threads:
        thread.start()
    waits = []
    while any(thread.is_alive() for thread in threads):
        begun = time.monotonic()
        assert httpx.get(f"{real_service.url}/healthz", timeout=20, verify=False).status_code == 200
        waits.append(time.monotonic() - begun)
        time.sleep(0.5)
    assert len(ends) == MANY and max(end for end, _ in ends) < longest_s, "somebody was never cut off"
    if what != "head":
        assert all(said.startswith(b"HTTP/1.1 408") or not said for _, said in ends)
    assert max(waits) < 10
    assert real_service.rss_bytes() - before < 100 << 20
    assert not list((real_service.data / "uploads").iterdir())


@pytest.mark.slow
def test_a_listener_that_never_reads_holds_up_nobody(real_service: Any, vocal_file: Callable[..., Path]) -> None:
    """Fifty who ask for a download and read nothing of it."""
    headers = {"Authorization": f"Bearer {real_service.key}"}
    content = vocal_file("long.wav", 60.0).read_bytes()
    answer = httpx.post(f"{real_service.url}/v1/takes?name=long", content=content, headers=headers, timeout=60)
    address = f"/v1/takes/{answer.json()['id']}/audio"
    head = "Host: {}:{}\r\n".format(*real_service.address) + f"Authorization: Bearer {real_service.key}\r\n\r\n"
    before = real_service.rss_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(socket.create_connection(real_service.address))
            connection.sendall(f"GET {address} HTTP/1.1\r\n{head}".encode())
        time.sleep(1.0)
        assert httpx.get(f"{real_service.url}{address}", headers=headers, timeout=20, verify=False).content == content
        assert real_service.rss_bytes() - before < 60 << 20, "the file is kept in memory for each of them"
