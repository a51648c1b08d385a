"""What the service refuses: callers without a key, others' things, too much of anything, what is no take."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile

from restyler.serving import Limits, keys
from restyler.serving.rates import Rates
from restyler.serving.refusals import RefusedError

NOBODY = "0123456789abcdef"


def uploaded(client: httpx.Client, data: bytes) -> str:
    answer = client.post("/v1/takes", params={"name": "take"}, content=data)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def wav(samples: np.ndarray, rate: int = 48_000, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def refused(answer: httpx.Response, status: int, *words: str, field: str | None = None) -> httpx.Response:
    assert answer.status_code == status, (answer.status_code, answer.text)
    said = answer.json()
    assert set(said) == {"error", "field"} and said["field"] == field, said
    assert all(word in said["error"] for word in words) and "\n" not in said["error"], said
    assert "/data/" not in said["error"] and ".audio" not in said["error"], said
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    return answer


def every_request(take: str, job: str) -> list[tuple[str, str, Any]]:
    return [
        ("GET", f"/v1/takes/{take}", None),
        ("GET", f"/v1/takes/{take}/audio", None),
        ("GET", f"/v1/takes/{take}/waveform", None),
        ("DELETE", f"/v1/takes/{take}", None),
        ("POST", "/v1/jobs", {"take": take}),
        ("GET", f"/v1/jobs/{job}", None),
        ("PATCH", f"/v1/jobs/{job}", {"name": "mine"}),
        ("PATCH", f"/v1/jobs/{job}/mixes/0", {"picked": True}),
        ("POST", f"/v1/jobs/{job}/cancel", None),
        ("GET", f"/v1/jobs/{job}/events", None),
        ("GET", f"/v1/jobs/{job}/mixes/0", None),
        ("GET", f"/v1/jobs/{job}/mixes/0/chain", None),
        ("GET", f"/v1/jobs/{job}/archive", None),
        ("DELETE", f"/v1/jobs/{job}", None),
    ]


def test_without_a_known_key_nothing_is_told(queueing: Any, take_bytes: bytes) -> None:
    client = queueing.client()
    take = uploaded(client, take_bytes)
    job = client.post("/v1/jobs", json={"take": take}).json()["id"]
    asked = [
        *every_request(take, job),
        ("GET", "/v1/model", None),
        ("GET", "/v1/takes", None),
        ("GET", "/v1/jobs", None),
    ]
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {queueing.keys['local']}"}):
        with httpx.Client(base_url=queueing.url, headers=headers, verify=False) as stranger:
            for method, path, body in [*asked, ("POST", "/v1/takes?name=x", None)]:
                answer = refused(stranger.request(method, path, json=body), 401, "key")
                assert answer.headers["www-authenticate"] == "Bearer"


def test_anothers_things_are_as_if_they_never_were(queueing: Any, take_bytes: bytes) -> None:
    ours, theirs = queueing.client("ada"), queueing.client("bob")
    take = uploaded(ours, take_bytes)
    job = ours.post("/v1/jobs", json={"take": take}).json()["id"]
    own = uploaded(theirs, take_bytes)
    for (method, path, body), (_, never, nobody) in zip(
        every_request(take, job), every_request(NOBODY, NOBODY), strict=True
    ):
        found, none = theirs.request(method, path, json=body), theirs.request(method, never, json=nobody)
        refused(found, 404)
        assert found.content == none.content, path
    for fields in ({"like": {"job": job, "mix": 0}}, {"reference": [{"take": take}]}):
        refused(theirs.post("/v1/jobs", json={"take": own, **fields}), 404)
    refused(theirs.get("/v1/jobs", params={"before": job}), 422, field="before")
    assert theirs.get("/v1/jobs").json() == {"jobs": []}
    assert [one["id"] for one in theirs.get("/v1/takes").json()["takes"]] == [own]
    assert ours.get(f"/v1/jobs/{job}").json()["state"] == "queued"


def test_a_revoked_key_opens_nothing(queueing: Any) -> None:
    client = queueing.client("ada")
    assert client.get("/v1/takes").status_code == 200
    keys.revoke(queueing.service.storage, "ada")
    refused(client.get("/v1/takes"), 401, "not known")


def test_keys_are_kept_as_digests_alone(queueing: Any) -> None:
    key = queueing.client("ada").headers["authorization"].removeprefix("Bearer ").encode()
    for path in queueing.service.places.data.rglob("*"):
        assert not path.is_file() or key not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"style": "tape"}, "style", ["unknown style", "dry booth"]),
        ({"style": "any", "guidance": 99}, "guidance", ["0 to 20"]),
        ({"guidance": 3, "style": "none", "spread": 0}, "guidance", ["needs something to follow"]),
        ({"sigma": 99}, "sigma", ["is possible for this model"]),
        ({"steps": 1001}, "steps", ["1 to 1000"]),
        ({"brightness": 3}, "controls", ["unknown control"]),
        ({"width": 3, "controls": {"width_db": 2}}, "controls", ["once"]),
        ({"between": [1, 1, 3]}, "between", ["different seeds"]),
        ({"between": [1, 2, 3], "variations": 2}, "between", ["exclude each other"]),
        ({"between": [1, 2, 17]}, "between", ["up to 16 mixes"]),
        ({"variations": 17}, "variations", ["up to 16 mixes"]),
        ({"around": 0.5}, "around", ["like"]),
        ({"variations": 101}, "variations", ["100"]),
        ({"out": "/tmp"}, "out", ["not permitted"]),
        ({"seed": "1"}, "seed", ["integer"]),
    ],
)
def test_a_job_that_the_command_line_refuses(
    waiting: Any, take_id: str, fields: dict[str, Any], field: str, words: list[str]
) -> None:
    refused(waiting.client().post("/v1/jobs", json={"take": take_id, **fields}), 422, *words, field=field)
    assert waiting.client().get("/v1/jobs").json() == {"jobs": []}


@pytest.fixture(scope="module")
def waiting(serve_live: Callable[..., AbstractContextManager[Any]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve_live(tmp_path_factory.mktemp("waiting") / "data", works=False) as service:
        yield service


@pytest.fixture(scope="module")
def take_id(waiting: Any, take_bytes: bytes) -> str:
    return uploaded(waiting.client(), take_bytes)


def test_bodies_that_are_no_jobs(waiting: Any, take_id: str) -> None:
    client, head = waiting.client(), {"Content-Type": "application/json"}
    refused(client.post("/v1/jobs", content=b"{", headers=head), 422, "not JSON")
    refused(client.post("/v1/jobs", content=b"\xff\xfe", headers=head), 422)
    refused(client.post("/v1/jobs", content=b"{}", headers={"Content-Type": "text/plain"}), 415, "application/json")
    refused(client.post("/v1/jobs", content=b" " * 70_000, headers=head), 413, "65536 bytes")
    refused(client.post("/v1/jobs", content=(b" " * 9000 for _ in range(10)), headers=head), 413, "65536 bytes")
    nested = b'{"take":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    refused(client.post("/v1/jobs", content=nested, headers=head), 422)
    twice = b'{"take": "%s", "seed": 1, "seed": 2}' % take_id.encode()
    refused(client.post("/v1/jobs", content=twice, headers=head), 422, "twice", field="seed")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["empty"]),
        (b"hello " * 100, ["not audio"]),
        (wav(np.zeros(48_000)), ["silent"]),
        (wav(6e-4 * np.sin(np.arange(48_000))), ["too quiet"]),
        (wav(np.ones((4800, 3))), ["3 channels"]),
        (wav(np.sin(np.arange(100))), ["at least 0.1 s"]),
        (wav(np.sin(np.arange(48_000)), 4000), ["4000 Hz"]),
        (wav(np.sin(np.arange(48_000)))[:-1000], ["truncated"]),
        (wav(np.full(4800, np.nan), subtype="FLOAT"), ["NaN"]),
    ],
)
def test_what_is_no_take(waiting: Any, data: bytes, words: list[str]) -> None:
    client, before = waiting.client(), len(waiting.client().get("/v1/takes").json()["takes"])
    refused(client.post("/v1/takes", params={"name": "x"}, content=data), 422, *words)
    assert len(client.get("/v1/takes").json()["takes"]) == before
    assert not list((waiting.service.places.data / "uploads").iterdir())


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201, "\x00", "\u202e"])
def test_names_that_are_none(waiting: Any, take_bytes: bytes, name: str) -> None:
    refused(waiting.client().post("/v1/takes", params={"name": name}, content=take_bytes), 422, field="name")


def test_limits_of_takes(
    serve_live: Callable[..., AbstractContextManager[Any]], take_bytes: bytes, tmp_path: Path
) -> None:
    size = len(take_bytes)
    limits = Limits(bytes=size, duration_s=1.0, samples=60_000, stored_bytes=2 * size)
    with serve_live(tmp_path / "data", limits, works=False) as service:
        client = service.client()

        def post(content: Any) -> httpx.Response:
            return client.post("/v1/takes", params={"name": "x"}, content=content)

        assert post(take_bytes).status_code == 201
        refused(post(take_bytes + b"x"), 413, str(size))
        refused(post(part for part in (take_bytes, b"x")), 413, str(size))
        tone = np.sin(np.arange(96_000))
        refused(post(wav(tone[:48_001], form="FLAC")), 422, "up to 1 s")
        refused(post(wav(tone[:60_001], 96_000, form="FLAC")), 422, "up to 60000")
        assert post(take_bytes).status_code == 201
        refused(post(take_bytes), 507, "are used")
        refused(post(part for part in (take_bytes[:100], take_bytes[100:])), 507, "are used")
        take = client.get("/v1/takes").json()["takes"][0]["id"]
        refused(client.post("/v1/jobs", json={"take": take, "variations": 1}), 507, "are used")
        assert client.delete(f"/v1/takes/{take}").status_code == 204
        assert post(take_bytes).status_code == 201
        assert service.client("other").post("/v1/takes", params={"name": "x"}, content=take_bytes).status_code == 201


def test_the_queue_is_bounded_for_one_and_for_all(
    serve_live: Callable[..., AbstractContextManager[Any]], take_bytes: bytes, tmp_path: Path
) -> None:
    with serve_live(tmp_path / "data", Limits(queue=3, in_flight=2), works=False) as service:
        clients = [service.client(name) for name in ("ada", "bob")]
        takes = [uploaded(client, take_bytes) for client in clients]
        made = []
        for _ in range(2):
            made.append(clients[0].post("/v1/jobs", json={"take": takes[0]}).json())
        refused(clients[0].post("/v1/jobs", json={"take": takes[0]}), 429, "2 jobs of a key")
        made.append(clients[1].post("/v1/jobs", json={"take": takes[1]}).json())
        refused(clients[1].post("/v1/jobs", json={"take": takes[1]}), 429, "3 jobs wait")
        assert [job["position"] for job in made] == [0, 1, 2]
        refused(clients[0].delete(f"/v1/takes/{takes[0]}"), 409, "needs this take")
        refused(clients[0].delete(f"/v1/jobs/{made[0]['id']}"), 409, "cancel it first")
        assert clients[0].post(f"/v1/jobs/{made[0]['id']}/cancel").json()["state"] == "cancelled"
        refused(clients[0].post(f"/v1/jobs/{made[0]['id']}/cancel"), 409, "ended")
        assert clients[0].get(f"/v1/jobs/{made[1]['id']}").json()["position"] == 0
        assert clients[1].post("/v1/jobs", json={"take": takes[1]}).status_code == 202


def test_the_same_idempotency_key_gives_the_same_job(waiting: Any, take_bytes: bytes) -> None:
    client, other = waiting.client("ada"), waiting.client("bob")
    take, head = uploaded(client, take_bytes), {"Idempotency-Key": "once"}
    first = client.post("/v1/jobs", json={"take": take, "seed": 1}, headers=head)
    again = client.post("/v1/jobs", json={"take": take, "seed": 1.0}, headers=head)
    assert first.status_code == again.status_code == 202 and first.json() == again.json()
    refused(
        client.post("/v1/jobs", json={"take": take, "seed": 2}, headers=head), 409, "another", field="Idempotency-Key"
    )
    theirs = other.post("/v1/jobs", json={"take": uploaded(other, take_bytes)}, headers=head)
    assert theirs.status_code == 202 and theirs.json()["id"] != first.json()["id"]


def test_requests_a_minute(serve_live: Callable[..., AbstractContextManager[Any]], tmp_path: Path) -> None:
    with serve_live(tmp_path / "data", Limits(requests_a_minute=5), works=False) as service:
        client = service.client("ada")
        assert [client.get("/v1/takes").status_code for _ in range(5)] == [200] * 5
        assert int(refused(client.get("/v1/takes"), 429, "5 requests").headers["retry-after"]) <= 12
        assert service.client("bob").get("/v1/takes").status_code == 200
    now = [0.0]
    rates = Rates(60, lambda: now[0])
    for _ in range(60):
        rates.take("ada")
    with pytest.raises(RefusedError) as error:
        rates.take("ada")
    assert error.value.retry_after_s == 1
    now[0] = 3.0
    for _ in range(3):
        rates.take("ada")
    with pytest.raises(RefusedError):
        rates.take("ada")


def test_event_streams_at_once(
    serve_live: Callable[..., AbstractContextManager[Any]], take_bytes: bytes, tmp_path: Path
) -> None:
    with serve_live(tmp_path / "data", Limits(streams=1), works=False) as service:
        client = service.client()
        job = client.post("/v1/jobs", json={"take": uploaded(client, take_bytes)}).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            lines = stream.iter_lines()  # kept: with it the stream would close
            next(lines)
            refused(client.get(f"/v1/jobs/{job}/events"), 429, "1 event streams")
        until = time.monotonic() + 20
        while True:  # as soon as the first is seen to have gone
            with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
                if stream.status_code == 200:
                    break
            assert time.monotonic() < until
            time.sleep(0.1)


def test_slow_uploads_end(serve_live: Callable[..., AbstractContextManager[Any]], tmp_path: Path) -> None:
    with serve_live(tmp_path / "data", Limits(upload_s=0.5), works=False) as service:
        address = urlsplit(service.url)
        with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=20) as connection:
            head = f"POST /v1/takes?name=x HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 1000\r\n"
            connection.sendall(f"{head}Authorization: Bearer {service.keys['local']}\r\n\r\nRIFF".encode())
            assert b" 408 " in connection.recv(65536).splitlines()[0]
        assert not list((service.service.places.data / "uploads").iterdir())


def test_what_ends_takes_no_more(queueing: Any, take_bytes: bytes) -> None:
    client = queueing.client()
    take = uploaded(client, take_bytes)
    queueing.service.drain()
    refused(client.post("/v1/jobs", json={"take": take}), 503, "ending")
    refused(client.post("/v1/takes", params={"name": "x"}, content=take_bytes), 503, "ending")
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
    assert client.get(f"/v1/takes/{take}").status_code == 200
