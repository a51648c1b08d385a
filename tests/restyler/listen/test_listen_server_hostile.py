"""What a listening server refuses, and that nothing tells the sounds of a page apart but listening."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import uvicorn
from scipy.stats import friedmanchisquare
from uvicorn.server import ServerState

from restyler.listen import balance, storage
from restyler.listen.connections import PromptProtocol
from restyler.listen.flow import Flow
from restyler.listen.server import application, listener_of
from restyler.listen.sessions import RefusedError
from restyler.listen.writer import Writer

FETCHES = 40


@pytest.fixture(scope="module")
def server(make_test: Callable, serve: Callable) -> Any:
    return serve(make_test("mushra", "ab", listeners=12))


def one_line(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, (answer.status_code, answer.text)
    told = answer.json()
    assert list(told) == ["error"] and "\n" not in told["error"] and "Traceback" not in told["error"]
    return str(told["error"])


@pytest.mark.parametrize(
    "path",
    [
        "/", "/docs", "/openapi.json", "/test.json", "/answers.sqlite3", "/links.txt", "/l/", "/page/", "/owner",
        "/page/..%2fserver.py", "/page/%2e%2e/plan.py", "/page/index.html", "/l/..%2f..%2ftest.json",
        "/stimuli/mushra-0-1.wav", "/l/token-of-listener-0/sound/..%2f..%2ftest.json",
        "/l/token-of-listener-0/sound/mushra-0-1.wav", "/l/forged", "/l/forged/state", "/l/%00/state", "/l/%ff/state",
        "/l/" + hashlib.sha256(b"token-of-listener-0").hexdigest(), "//l//token-of-listener-0",
    ],
)  # fmt: skip
def test_unknown_addresses_tricks_and_forged_tokens_find_nothing(server: Any, path: str, http: httpx.Client) -> None:
    answer = http.get(server.url + path)
    assert one_line(answer, 404) in ("not found",)
    assert "python" not in str(answer.headers).lower() and "server" not in answer.headers


@pytest.mark.parametrize("token", ["forged", "token-of-listener-0"])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_results_are_the_owners_alone(server: Any, token: str, form: str, http: httpx.Client) -> None:
    address = f"{server.url}/owner/results.{form}"
    for headers in ({"Authorization": f"Bearer {token}"}, {"Authorization": "Basic the-owner's-token"}, {}):
        one_line(http.get(address, headers=headers), 401)
    one_line(http.get(address, params={"token": "the-owner's-token"}), 401)


BAD = [
    ("rating", {"page": 0, "field": "A", "value": value, "sequence": 1})
    for value in (-1, 100.001, "50", True, None, [1], {"a": 1}, 10**400, "x" * 3000)
]
BAD += [
    ("rating", {"page": 0, "field": "comment", "value": 5, "sequence": 1}),
    ("rating", {"page": 0, "field": "comment", "value": "x" * 2001, "sequence": 1}),
    ("rating", {"page": 0, "field": "Z", "value": 5, "sequence": 1}),
    ("rating", {"page": 0, "field": "R", "value": 5, "sequence": 1}),
    ("rating", {"page": 0, "field": "A", "value": 5, "sequence": 0}),
    ("rating", {"page": 0, "field": "A", "value": 5, "sequence": 2**60}),
    ("rating", {"page": 0, "field": "A", "value": 5}),
    ("rating", {"page": 0, "field": "A", "value": 5, "sequence": 1, "listener": 1}),
    ("rating", {"page": -1, "field": "A", "value": 5, "sequence": 1}),
    ("rating", {"page": 0.5, "field": "A", "value": 5, "sequence": 1}),
    ("heard", {"page": 0, "slot": "Q"}),
    ("heard", {"page": 0, "slot": 1}),
    ("heard", {}),
    ("check", {"number": 0, "answer": 4}),
    ("submit", {"page": "0"}),
    ("consent", {"agree": "yes"}),
]


def test_wrong_values_are_refused_and_change_nothing(server: Any, client_of: Callable) -> None:
    client = client_of(server, 0)
    state = client.begin()
    while state["kind"] != "mushra":
        client.hear_all(state)
        client.rate(state["page"], "choice", "A")
        client.post("submit", page=state["page"])
        state = client.state()
    for action, body in BAD:
        if body.get("page") == 0:
            body = body | {"page": state["page"]}
        one_line(client.post(action, **body), 422)
    numbers = [
        f'{{"page": {state["page"]}, "field": "A", "value": {number}, "sequence": 1}}'
        for number in ("NaN", "Infinity", "-Infinity", "1e999")
    ]
    lone = '"\ud800"'.encode("utf-8", "surrogatepass")
    json_type = {"Content-Type": "application/json"}
    for text in ("", "{", "[]", "null", '{"page": 0', lone, b"\xff", "[" * 60_000, *numbers):
        one_line(client.http.post(f"{client.base}/rating", content=text, headers=json_type), 422)
    one_line(client.http.post(f"{client.base}/rating", data={"page": 0}), 415)
    one_line(client.http.post(f"{client.base}/unknown", json={}), 404)
    one_line(client.http.put(f"{client.base}/rating", json={}), 405)
    assert client.state() == state


def test_a_listener_reaches_neither_anothers_page_nor_later_sounds(server: Any, client_of: Callable) -> None:
    mine, other = client_of(server, 1), client_of(server, 2)
    theirs = other.begin()["sounds"]
    own = mine.begin()
    assert not {sound["sound"] for sound in own["sounds"]} & {sound["sound"] for sound in theirs}
    for sound in theirs:
        one_line(mine.http.get(f"{mine.base}/sound/{sound['sound']}"), 404)
    mine.hear_all(own)
    for sound in own["sounds"]:
        if sound["slot"] != "R":
            mine.rate(0, sound["slot"] if own["kind"] == "mushra" else "choice", 5 if own["kind"] == "mushra" else "A")
    assert mine.post("submit", page=0).status_code == 200
    one_line(mine.http.get(f"{mine.base}/sound/{own['sounds'][0]['sound']}"), 404)  # of a page that is over


def test_oversized_bodies_are_cut_off(server: Any, http: httpx.Client) -> None:
    base = f"{server.url}/l/token-of-listener-3/rating"
    json_type = {"Content-Type": "application/json"}
    one_line(http.post(base, content=b"x" * 65_537, headers=json_type), 413)

    def raw(head: str, *pieces: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), 5) as line:
            line.sendall(f"POST /l/token-of-listener-3/rating HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
            try:
                for piece in pieces:
                    line.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass
            line.settimeout(15)
            return line.recv(65_536)

    promised = "Content-Type: application/json\r\nContent-Length: 999999999999"
    started = time.monotonic()
    assert raw(promised).startswith(b"HTTP/1.1 413")  # before a byte of it has come
    assert time.monotonic() - started < 2
    chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked"
    assert raw(chunked, *[b"4000\r\n" + b"x" * 0x4000 + b"\r\n"] * 8).startswith(b"HTTP/1.1 413")
    assert raw("Content-Length: -5").startswith(b"HTTP/1.1 400")
    assert http.get(f"{server.url}/l/token-of-listener-3").status_code == 200


def test_slow_bodies_are_cut_off(make_test: Callable) -> None:
    made = make_test("acr")

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"agree": '
        await asyncio.sleep(0.5)
        yield b"true}"

    async def asked(body_s: float) -> httpx.Response:
        writer = Writer(storage.connect(made.folder, made.plan))
        app = application(made.folder, made.plan, Flow(made.plan, "secret", time.time), writer, body_s=body_s)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.post(
                "/l/token-of-listener-0/consent", content=slowly(), headers={"Content-Type": "application/json"}
            )
        writer.close()
        return answer

    assert "0.1 s" in one_line(asyncio.run(asked(0.1)), 408)
    assert asyncio.run(asked(20)).status_code == 200


def test_a_body_that_breaks_off_is_no_error_of_the_servers(make_test: Callable) -> None:
    """A phone that loses its network must not fill the log with tracebacks."""
    made = make_test("acr")
    answered: list[dict[str, Any]] = []
    came = iter([{"type": "http.request", "body": b'{"agree"', "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(came)

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    writer = Writer(storage.connect(made.folder, made.plan))
    app = application(made.folder, made.plan, Flow(made.plan, "secret", time.time), writer)
    scope = {"type": "http", "method": "POST", "path": "/l/token-of-listener-0/consent", "query_string": b""}
    asyncio.run(app({**scope, "headers": [(b"content-type", b"application/json")]}, receive, send))
    writer.close()
    assert answered[0]["status"] == 400


def test_without_being_asked_to_the_server_takes_nothing_from_anybody(server: Any, http: httpx.Client) -> None:
    one_line(http.post(f"{server.url}/service/write.php", data={"sessionJSON": "{}"}), 404)


def test_connections_on_which_no_request_comes_are_closed() -> None:
    class Hasty(PromptProtocol):
        head_s = 0.3

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.6)  # an answer may take its time
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def connected(port: int, *pieces: bytes) -> tuple[bytes, float]:
        """Sends the pieces, 0.1 s between them, and reads until the server closes; what came, and how long it took."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        started = time.monotonic()
        reading = asyncio.create_task(reader.read())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.1)
        received = await asyncio.wait_for(reading, 5)
        writer.close()
        return received, time.monotonic() - started

    async def all_of_them() -> list[tuple[bytes, float]]:
        config = uvicorn.Config(answer, http=Hasty, timeout_keep_alive=60)
        state = ServerState()

        def protocol() -> Hasty:
            return Hasty(config, state, {})

        listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            drops = [b"GET / HTTP/1.1\r\nHost: x\r\nA: ", *[b"a"] * 8]
            whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
            return await asyncio.gather(
                connected(port), connected(port, *drops), connected(port, whole, *[b""] * 8, b"G")
            )

    nothing, drop_by_drop, second = asyncio.run(all_of_them())
    assert nothing[0] == drop_by_drop[0] == b"" and max(nothing[1], drop_by_drop[1]) < 2
    assert second[0].startswith(b"HTTP/1.1 204") and second[1] > 0.6


def test_every_answer_carries_a_strict_policy_and_is_kept_by_nobody(server: Any, http: httpx.Client) -> None:
    for path in (
        "/l/token-of-listener-4",
        "/page/app.js",
        "/l/token-of-listener-4/state",
        "/nothing",
        "/owner/results.csv",
    ):
        headers = http.get(server.url + path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "unsafe" not in policy and "http" not in policy
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    page = http.get(f"{server.url}/l/token-of-listener-4").text
    assert "http:" not in page and "https:" not in page and "style=" not in page and "onclick" not in page
    assert page.count("<script") == 1 and 'src="/page/app.js"' in page


def test_a_token_is_found_by_comparing_with_every_listeners(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared: list[str] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(other) or compare(one, other))
    plan = server.made.plan
    for token, listener in (("token-of-listener-0", 0), ("token-of-listener-11", 11), ("forged", None)):
        compared.clear()
        if listener is None:
            with pytest.raises(RefusedError):
                listener_of(plan, token)
        else:
            assert listener_of(plan, token) == listener
        assert compared == list(plan.listener_tokens_sha256)


def mushra_sounds(server: Any, client: Any) -> dict[str, str]:
    """Addresses by slot of a mushra page, where the listener is brought."""
    state = client.begin()
    if state["kind"] != "mushra":
        client.hear_all(state)
        client.rate(0, "choice", "A")
        client.post("submit", page=0)
        state = client.state()
    return {sound["slot"]: f"{client.base}/sound/{sound['sound']}" for sound in state["sounds"]}


def test_equal_sounds_have_nothing_equal_but_what_is_heard(server: Any, client_of: Callable) -> None:
    """The open reference and the hidden one, from two listeners: headers, sizes, bytes, statistics of the last bits."""
    seen: dict[str, list[bytes]] = {}
    forms = set()
    for listener in (5, 6):
        client = client_of(server, listener)
        addresses = mushra_sounds(server, client)
        shown = next(p for p in balance.pages(server.made.plan, listener) if p.trial.kind == "mushra")
        conditions = {"R": "open"} | {
            slot: shown.trial.stimuli[index].condition for slot, index in zip("ABC", shown.slots, strict=True)
        }
        for slot, address in addresses.items():
            answers = [client.http.get(address) for _ in range(2)]
            assert answers[0].content == answers[1].content  # an average over fetches removes nothing
            seen.setdefault(conditions[slot], []).append(answers[0].content)
            forms.add(tuple((name, value) for name, value in answers[0].headers.items() if name != "date"))
    assert len(forms) == 1  # no header differs: no length, no etag, no date of a file
    every = [content for contents in seen.values() for content in contents]
    assert len({hashlib.sha256(content).hexdigest() for content in every}) == len(every) == 8
    assert len({len(content) for content in every}) == 1 and len({content[:44] for content in every}) == 1
    samples = {name: [soundfile.read(io.BytesIO(c), dtype="int32")[0] >> 8 for c in cs] for name, cs in seen.items()}
    source = soundfile.read(server.made.folder / "stimuli" / "mushra-0-1.wav", dtype="int32")[0] >> 8
    noises = [copy - source for name in ("open", "reference") for copy in samples[name]]
    for noise in noises:
        assert set(np.unique(noise)) == {-1, 0, 1}
        assert abs(np.mean(noise != 0) - 0.5) < 5 * 0.5 / np.sqrt(noise.size)
        assert abs(noise.mean()) < 5 * np.sqrt(0.5 / noise.size)
    for first in range(4):
        for second in range(first):  # independent noises, so no pair of copies shares more than another
            correlation = np.corrcoef(noises[first].ravel(), noises[second].ravel())[0, 1]
            assert abs(correlation) < 5 / np.sqrt(source.size)
    sizes = {name: [len(zlib.compress(content, 6)) for content in contents] for name, contents in seen.items()}
    for name in ("open", "reference"):  # how far they pack tells the sound, as its bytes do, but not the copy
        assert max(sizes[name]) / min(sizes[name]) < 1.01


def test_the_time_of_an_answer_does_not_tell_the_sound(server: Any, client_of: Callable) -> None:
    client = client_of(server, 7)
    addresses = mushra_sounds(server, client)
    times: dict[str, list[float]] = {slot: [] for slot in addresses}
    random = np.random.default_rng(3)
    for _ in range(FETCHES):
        for slot in random.permutation(list(addresses)):
            started = time.perf_counter()
            client.http.get(addresses[slot])
            times[slot].append(time.perf_counter() - started)
    assert friedmanchisquare(*times.values()).pvalue > 1e-4
    first, *others = times.values()
    assert friedmanchisquare([2 * time_s for time_s in first], *others).pvalue < 1e-4  # as a cache would make it


def test_comments_come_back_as_the_text_they_are(server: Any, client_of: Callable, tmp_path: Path) -> None:
    client = client_of(server, 8)
    state = client.begin()
    text = '<script>alert("x")</script>\n=HYPERLINK("http://x")\x00 ünï'
    assert client.rate(state["page"], "comment", text).status_code == 200
    assert client.state()["values"] == {"comment": text}
    assert json.loads(client.http.get(f"{client.base}/state").text)["values"]["comment"] == text
