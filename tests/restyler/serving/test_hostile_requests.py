"""Hostile requests against the real service: forged keys, foreign ids, odd JSON, broken HTTP. No 500, no leak."""

from __future__ import annotations

import json
import secrets
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from restyler.serving.limits import Limits

BODY_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def clients(real_service: Any) -> Iterator[list[httpx.Client]]:
    """Of two owners who know nothing of each other."""
    both = [
        httpx.Client(base_url=real_service.url, headers={"Authorization": f"Bearer {key}"}, timeout=60.0, verify=False)
        for key in real_service.keys
    ]
    yield both
    for client in both:
        client.close()


@pytest.fixture(scope="module")
def take(clients: list[httpx.Client], take_bytes: bytes) -> dict[str, Any]:
    """The first owner's."""
    answer = clients[0].post("/v1/takes", params={"name": "mine"}, content=take_bytes)
    assert answer.status_code == 201
    return answer.json()


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (found := client.get(f"/v1/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def refused(answer: httpx.Response) -> str:
    """Its line, after a look at its form."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:500])
    said = answer.json()
    assert said.keys() == {"error", "field"} and said["error"] and said["error"].isprintable()
    return str(said["error"])


FORGED_KEYS = {
    "none": {},
    "empty": {"Authorization": "Bearer"},
    "another scheme": {"Authorization": "Basic bG9jYWw6"},
    "no key of anybody": {"Authorization": "Bearer " + "A" * 43},
    "very long": {"Authorization": "Bearer " + "A" * 30_000},
    "SQL": {"Authorization": "Bearer ' OR 1=1 --"},
    "bytes": {"Authorization": b"Bearer \xff\xfe\x80"},
    "the digest of a key": {"Authorization": "Bearer " + "0" * 64},
    "a wildcard": {"Authorization": "Bearer *"},
}


@pytest.mark.parametrize("what", FORGED_KEYS)
def test_a_forged_key_opens_nothing(what: str, real_service: Any, take: dict[str, Any]) -> None:
    addresses = ["/v1/model", "/v1/takes", f"/v1/takes/{take['id']}", f"/v1/takes/{take['id']}/audio", "/v1/jobs"]
    with httpx.Client(base_url=real_service.url, verify=False) as client:
        for address in addresses:
            answer = client.get(address, headers=FORGED_KEYS[what])
            assert answer.status_code == 401 and refused(answer)
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = client.get(f"/v1/takes/{take['id']}", params={"key": real_service.keys[0]})
        assert answer.status_code == 401, "a key in an address would stand in logs"


def test_a_key_is_no_nearer_the_more_of_it_is_right(real_service: Any) -> None:
    """Keys are found by their digest: how much of one is right can't be told from the time of the answer."""
    right = real_service.keys[0]
    tried = {"nothing": secrets.token_urlsafe(32), "all but the last": right[:-1] + ("A" if right[-1] != "A" else "B")}
    times: dict[str, list[float]] = {name: [] for name in tried}
    with httpx.Client(base_url=real_service.url, verify=False) as client:
        for _ in range(150):
            for name, key in tried.items():
                begun = time.perf_counter()
                assert client.get("/v1/model", headers={"Authorization": f"Bearer {key}"}).status_code == 401
                times[name].append(time.perf_counter() - begun)
    nothing, nearly = (statistics.median(values) for values in times.values())
    assert abs(nothing - nearly) < 0.5 * min(nothing, nearly)


def test_what_is_anothers_is_answered_like_what_never_was(
    clients: list[httpx.Client], take: dict[str, Any], real_service: Any
) -> None:
    mine, other = clients
    job = mine.post("/v1/jobs", json={"take": take["id"], "variations": 1}).json()
    assert ended(mine, job["id"])["state"] == "done"
    never = "A" * 16
    calls = [
        ("GET", "/v1/takes/{take}", None), ("GET", "/v1/takes/{take}/audio", None),
        ("GET", "/v1/takes/{take}/waveform", None), ("DELETE", "/v1/takes/{take}", None),
        ("GET", "/v1/jobs/{job}", None), ("PATCH", "/v1/jobs/{job}", {"name": "stolen"}),
        ("PATCH", "/v1/jobs/{job}/mixes/0", {"picked": True}), ("POST", "/v1/jobs/{job}/cancel", None),
        ("DELETE", "/v1/jobs/{job}", None), ("GET", "/v1/jobs/{job}/events", None),
        ("GET", "/v1/jobs/{job}/mixes/0", None), ("GET", "/v1/jobs/{job}/mixes/0/chain", None),
        ("GET", "/v1/jobs/{job}/archive", None), ("POST", "/v1/jobs", {"take": "{take}"}),
        ("POST", "/v1/jobs", {"take": "{own}", "reference": [{"take": "{take}"}]}),
        ("POST", "/v1/jobs", {"take": "{own}", "like": {"job": "{job}", "mix": 0}}),
        ("GET", "/v1/jobs?before={job}", None),
    ]  # fmt: skip
    own = other.post("/v1/takes", params={"name": "own"}, content=mine.get(f"/v1/takes/{take['id']}/audio").content)
    for method, address, body in calls:
        answers = []
        for names in ({"take": take["id"], "job": job["id"]}, {"take": never, "job": never}):
            names |= {"own": own.json()["id"]}
            text = json.dumps(body)
            for name, value in names.items():
                text = text.replace(f"{{{name}}}", value)
            content = None if body is None else text
            headers = {} if body is None else {"Content-Type": "application/json"}
            answers.append(other.request(method, address.format(**names), content=content, headers=headers))
        theirs, nobodys = answers
        assert theirs.status_code == nobodys.status_code, (method, address)
        assert theirs.text == nobodys.text, (method, address)
        assert theirs.status_code == (422 if "before" in address else 404), (method, address, theirs.text)
    assert other.get("/v1/jobs").json() == {"jobs": []}
    assert [each["id"] for each in other.get("/v1/takes").json()["takes"]] == [own.json()["id"]]
    log = real_service.log.read_text()
    for secret in (*real_service.keys, real_service.key, take["id"], job["id"], "mine"):
        assert secret not in log
    metrics = other.get("/metrics").text
    assert not [secret for secret in (*real_service.keys, "ada", "bob", take["id"], job["id"]) if secret in metrics]


def test_a_cancel_may_be_replayed_and_a_job_asked_for_twice_is_one(
    clients: list[httpx.Client], take: dict[str, Any]
) -> None:
    mine, other = clients
    request, key = {"take": take["id"], "variations": 8, "steps": 400}, {"Idempotency-Key": secrets.token_hex(8)}
    first = mine.post("/v1/jobs", json=request, headers=key)
    again = mine.post("/v1/jobs", json=request, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    refused(mine.post("/v1/jobs", json=request | {"seed": 7}, headers=key))  # the same key for something else
    theirs = other.post("/v1/jobs", json=request, headers=key)
    assert theirs.status_code == 404, "the key of one owner is nothing to another"
    address = f"/v1/jobs/{first.json()['id']}/cancel"
    answers = [mine.post(address) for _ in range(5)]
    assert answers[0].status_code == 200 and {answer.status_code for answer in answers} <= {200, 409}
    assert ended(mine, first.json()["id"])["state"] == "cancelled"
    assert mine.post(address).status_code == 409
    assert len([job for job in mine.get("/v1/jobs").json()["jobs"] if job["request"].get("steps") == 400]) == 1


def deep(levels: int) -> str:
    return '{"take":' + "[" * levels + "]" * levels + "}"


BODIES = {
    "nothing": "",
    "no JSON": "{",
    "a number": "1",
    "a list": "[]",
    "null": "null",
    "NaN": '{"take": "AAAAAAAAAAAAAAAA", "sigma": NaN}',
    "infinity": '{"take": "AAAAAAAAAAAAAAAA", "sigma": 1e999}',
    "minus infinity": '{"take": "AAAAAAAAAAAAAAAA", "controls": {"width_db": -Infinity}}',
    "a huge number": '{"take": "AAAAAAAAAAAAAAAA", "seed": 1' + "0" * 10_000 + "}",
    "as a text": '{"take": "AAAAAAAAAAAAAAAA", "variations": "4"}',
    "true as a number": '{"take": "AAAAAAAAAAAAAAAA", "variations": true}',
    "a half": '{"take": "AAAAAAAAAAAAAAAA", "variations": 2.5}',
    "a number as an id": '{"take": 5}',
    "an object as an id": '{"take": {"$ne": null}}',
    "a path as an id": '{"take": "../../../etc/pas"}',
    "an unknown field": '{"take": "AAAAAAAAAAAAAAAA", "device": "cuda"}',
    "the folder of a model": '{"take": "AAAAAAAAAAAAAAAA", "model": "/etc"}',
    "a way out": '{"take": "AAAAAAAAAAAAAAAA", "out": "/tmp/x"}',
    "an option as a style": '{"take": "AAAAAAAAAAAAAAAA", "style": "--device=cuda"}',
    "NUL": '{"take": "AAAAAAAAAAAAAAAA", "style": "a\\u0000b"}',
    "half a pair": '{"take": "AAAAAAAAAAAAAAAA", "name": "\\ud800"}',
    "a thousand controls": json.dumps({"take": "A" * 16, "controls": {f"c{n}_db": 1 for n in range(1000)}}),
    "a control of two lines": '{"take": "AAAAAAAAAAAAAAAA", "controls": {"width_db\\n": 1}}',
    "a hundred references": json.dumps({"take": "A" * 16, "reference": [{"take": "A" * 16}] * 100}),
    "deep": deep(10_000),
    "deeper": deep(30_000),
    "huge": '{"take": "' + "A" * BODY_BYTES + '"}',
    "no UTF-8": b'{"take": "\xff\xff"}',
    "UTF-16": '{"take": "AAAAAAAAAAAAAAAA"}'.encode("utf-16"),
    "twice the same name": '{"take": "AAAAAAAAAAAAAAAA", "take": "{take}"}',
}


@pytest.mark.parametrize("what", BODIES)
def test_odd_json_is_refused_in_one_line(what: str, clients: list[httpx.Client], take: dict[str, Any]) -> None:
    body = BODIES[what]
    content = body.replace("{take}", take["id"]) if isinstance(body, str) else body
    answer = clients[0].post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert "/" not in refused(answer).replace("application/json", "")
    assert answer.elapsed.total_seconds() < 10


@pytest.mark.parametrize(
    ("value", "statuses"),
    [
        ("bytes=0-0", (206,)),
        ("bytes=-1", (206,)),
        ("bytes=10-5", (200, 400, 416)),
        ("bytes=99999999999-", (416,)),
        ("bytes=0-99999999999999999999999", (206, 400, 416)),
        ("bytes=" + ",".join(f"{n}-" for n in range(1000)), (200, 206, 400, 416)),
        ("bytes=a-b", (200, 400, 416)),
        ("lines=1-2", (200, 400, 416)),
        ("bytes=--5", (200, 400, 416)),
        ("bytes=", (200, 400, 416)),
    ],
)
def test_ranges_give_parts_of_the_file_and_no_more(
    value: str, statuses: tuple[int, ...], clients: list[httpx.Client], take: dict[str, Any]
) -> None:
    answer = clients[0].get(f"/v1/takes/{take['id']}/audio", headers={"Range": value})
    assert answer.status_code in statuses, answer.status_code
    assert len(answer.content) <= 2 * take["bytes"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "", "127.0.0.1:1", "x y"]
)
def test_under_another_host_name_nothing_is_answered(host: str, real_service: Any) -> None:
    port = real_service.address[1]
    head = f"GET /v1/model HTTP/1.1\r\nHost: {host.format(port=port)}\r\nAuthorization: Bearer {real_service.key}\r\n"
    said = real_service.raw(f"{head}Connection: close\r\n\r\n".encode())
    assert said.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400")) and b"styles" not in said


BROKEN = {
    "no host": "GET /v1/model HTTP/1.1\r\nAuthorization: Bearer {key}\r\n\r\n",
    "two hosts": "GET /v1/model HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\nAuthorization: Bearer {key}\r\n\r\n",
    "two lengths": "POST /v1/takes?name=a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
    "Content-Length: 4\r\nContent-Length: 40\r\n\r\nRIFF",
    "a length and chunks": "POST /v1/takes?name=a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": "POST /v1/takes?name=a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
    "Content-Length: -4\r\n\r\nRIFF",
    "a length beyond numbers": "POST /v1/takes?name=a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
    "Content-Length: 99999999999999999999999999\r\n\r\nRIFF",
    "a chunk of odd size": "POST /v1/takes?name=a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
    "Transfer-Encoding: chunked\r\n\r\nXYZ\r\nRIFF\r\n",
    "a way up": "GET /page/../../../../etc/passwd HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
    "an escaped way": "GET /page/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
    "another's address": "GET http://evil.example/v1/model HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
    "an unknown method": "BREW /v1/takes HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
    "a very long head": "GET / HTTP/1.1\r\nHost: {host}\r\nX: " + "a" * 200_000 + "\r\n\r\n",
    "no HTTP": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an old one": "GET / HTTP/0.9\r\n\r\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_http_is_refused_and_the_service_goes_on(what: str, real_service: Any) -> None:
    host = "{}:{}".format(*real_service.address)
    text = BROKEN[what].replace("{host}", host).replace("{key}", real_service.key)
    said = real_service.raw(text.encode("latin-1"), timeout_s=5.0)
    assert not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 505")), said[:200]
    assert b"root:" not in said and b"Traceback" not in said
    assert httpx.get(f"{real_service.url}/healthz", verify=False).status_code == 200


def test_a_body_that_is_shorter_than_it_says_leaves_nothing(real_service: Any) -> None:
    host = "{}:{}".format(*real_service.address)
    head = f"POST /v1/takes?name=a HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {real_service.key}\r\n"
    real_service.raw(f"{head}Content-Length: 100000\r\n\r\nRIFF".encode(), timeout_s=0.5)
    deadline = time.monotonic() + 10
    while list((real_service.data / "uploads").iterdir()):
        assert time.monotonic() < deadline, "the beginning of a body that broke off stays"
        time.sleep(0.05)


def test_chunks_without_end_are_cut_off_at_the_limit(real_service: Any) -> None:
    """Sent as fast as the service takes them; nothing of them stays, on disk or in memory."""
    sent, before = 0, real_service.rss_bytes()

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 4 * Limits().bytes:
            sent += 1 << 20
            yield bytes(1 << 20)

    headers = {"Authorization": f"Bearer {real_service.key}"}
    try:
        answer = httpx.post(f"{real_service.url}/v1/takes?name=a", content=endless(), headers=headers, timeout=60)
        assert answer.status_code == 413
    except httpx.WriteError:
        pass  # it closed the connection before its answer was read
    assert sent <= Limits().bytes + (64 << 20)
    assert not list((real_service.data / "uploads").iterdir())
    assert real_service.rss_bytes() - before < 100 << 20
