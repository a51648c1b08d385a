"""What is around every answer: who asks before what is asked, the form of refusals, headers whatever happens."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from restyler.serving import Limits
from restyler.serving.standalone import HEADERS


@pytest.fixture(scope="module")
def service(
    serve_live: Callable[..., AbstractContextManager[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    with serve_live(tmp_path_factory.mktemp("rim") / "data", works=False) as found:
        yield found


@pytest.fixture(scope="module")
def client(service: Any) -> httpx.Client:
    return service.client()


@pytest.fixture
def take(client: httpx.Client, take_bytes: bytes) -> str:
    return str(client.post("/v1/takes", params={"name": "x"}, content=take_bytes).raise_for_status().json()["id"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/jobs"), ("PATCH", "/v1/jobs/0123456789abcdef"), ("PATCH", "/v1/jobs/0123456789abcdef/mixes/0")],
)
def test_a_stranger_is_refused_before_a_byte_of_the_body_is_read(service: Any, method: str, path: str) -> None:
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=20) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 60000\r\n"
        asked_s = time.monotonic()
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
        assert b" 401 " in connection.recv(65536).splitlines()[0]
        assert time.monotonic() - asked_s < 5
    for body in (b"{", b" " * 70_000):
        answer = httpx.request(
            method, service.url + path, content=body, headers={"Content-Type": "text/plain"}, verify=False
        )
        assert answer.status_code == 401


def test_an_error_of_the_service_is_told_like_every_refusal_and_bears_every_header(
    service: Any, client: httpx.Client, take: str
) -> None:
    service.service.places.overview(take).write_text("not what was written")
    told, watch, log = list[logging.LogRecord](), logging.Handler(), logging.getLogger("uvicorn.error")
    watch.emit = told.append  # type: ignore[method-assign]
    log.addHandler(watch)
    answer = client.get(f"/v1/takes/{take}/waveform")
    assert answer.status_code == 500 and set(answer.json()) == {"error", "field"}
    assert "\n" not in answer.json()["error"] and take not in answer.text
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    until = time.monotonic() + 20
    while not any(record.exc_info and record.exc_info[0] is json.JSONDecodeError for record in told):
        assert time.monotonic() < until, "the log says no more"
        time.sleep(0.02)
    log.removeHandler(watch)
    assert client.get(f"/v1/takes/{take}").status_code == 200


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nowhere", "/page/nowhere", "/v1/takes/%2e%2e%2f", "/v1/model"])
def test_what_is_nowhere_is_refused_in_the_same_form(client: httpx.Client, path: str) -> None:
    answer = client.request("GET" if path != "/v1/model" else "PUT", path)
    assert answer.status_code in (404, 405, 422) and set(answer.json()) == {"error", "field"}
    assert set(HEADERS.items()) <= {(name, answer.headers.get(name)) for name in HEADERS}


@pytest.mark.parametrize(("asked", "status"), [("bytes=99999999-", 416), ("bytes=b-a", 400), ("bytes=9-1", 400)])
def test_ranges_that_are_none_are_refused_in_the_same_form(
    client: httpx.Client, take: str, take_bytes: bytes, asked: str, status: int
) -> None:
    answer = client.get(f"/v1/takes/{take}/audio", headers={"Range": asked})
    assert answer.status_code == status and set(answer.json()) == {"error", "field"}, answer.text
    assert answer.json()["field"] == "Range"
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(take_bytes)}"


def test_what_was_deleted_while_it_was_asked_for_is_not_an_error_of_the_service(
    service: Any, client: httpx.Client, take: str
) -> None:
    service.service.places.throw_away(service.service.places.take(take))
    for path in ("audio", "waveform", "audio?format=wav"):
        answer = client.get(f"/v1/takes/{take}/{path}")
        assert answer.status_code == 404 and set(answer.json()) == {"error", "field"}, (path, answer.text)


def test_a_disk_that_takes_nothing_is_said_to_be_so(
    service: Any, client: httpx.Client, take_bytes: bytes, take: str
) -> None:
    uploads = service.service.places.data / "uploads"
    uploads.rmdir()
    uploads.write_text("in the way")
    try:
        answer = client.post("/v1/takes", params={"name": "x"}, content=take_bytes)
        assert answer.status_code == 507 and "store" in answer.json()["error"], answer.text
        assert str(uploads) not in answer.text
    finally:
        uploads.unlink()
        uploads.mkdir()


def test_takes_that_come_in_count_before_they_are_there(
    serve_live: Callable[..., AbstractContextManager[Any]], take_bytes: bytes, tmp_path: Any
) -> None:
    size = len(take_bytes)
    limits = Limits(bytes=2 * size, stored_bytes=3 * size, uploads=2)
    with serve_live(tmp_path / "data", limits, works=False) as service:
        address, client = urlsplit(service.url), service.client()

        @contextmanager
        def coming(length: str) -> Iterator[socket.socket]:
            before = set(uploads.iterdir())
            with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=20) as connection:
                head = f"POST /v1/takes?name=x HTTP/1.1\r\nHost: {address.netloc}\r\n{length}\r\n"
                connection.sendall(f"{head}Authorization: Bearer {service.keys['local']}\r\n\r\n".encode())
                until = time.monotonic() + 20
                while not set(uploads.iterdir()) - before:
                    assert time.monotonic() < until
                    time.sleep(0.02)
                yield connection

        uploads = service.service.places.data / "uploads"

        def post() -> httpx.Response:
            return client.post("/v1/takes", params={"name": "x"}, content=take_bytes)

        def nothing_arrives() -> None:
            until = time.monotonic() + 20
            while service.service.takes._arriving:
                assert time.monotonic() < until
                time.sleep(0.02)

        with coming(f"Content-Length: {2 * size}"):
            assert post().status_code == 201
            answer = post()
            assert answer.status_code == 507 and f"{3 * size} more are needed" in answer.json()["error"], answer.text
        nothing_arrives()  # until the service has seen that the connection is gone, its bytes count
        with coming("Content-Length: 100"), coming("Content-Length: 100"):
            answer = post()
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1, answer.text
            other = service.client("ada").post("/v1/takes", params={"name": "x"}, content=take_bytes)
            assert other.status_code == 201
        nothing_arrives()
        assert post().status_code == 201
