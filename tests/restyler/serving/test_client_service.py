"""The client against the real service: what it sends arrives, what it fetches is whole, refusals are one line."""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audio.errors import InputError
from audio.io import read_tags
from restyler.client import Client
from restyler.client_refusals import RefusedError, UnreachableError


@pytest.fixture
def client(real_service: Any) -> Iterator[Client]:
    with Client(real_service.url, real_service.key) as client:
        yield client


@pytest.fixture
def take(client: Client, vocal_file: Callable[..., Path]) -> dict[str, Any]:
    return client.upload(vocal_file("take of a client.wav", 1.5))


def done(client: Client, request: dict[str, Any]) -> dict[str, Any]:
    job = client.submit(request)
    events = list(client.events(job["id"]))
    assert events[-1].data["state"] == "done", events[-1]
    return client.job(job["id"])


def test_from_a_take_to_its_mixes(client: Client, vocal_file: Callable[..., Path], tmp_path: Path) -> None:
    file, told = vocal_file("Übung 1.wav", 1.5), list[tuple[int, int]]()
    take = client.upload(file, progress=lambda done, total: told.append((done, total)))
    size = file.stat().st_size
    assert told[-1] == (size, size) and [a for a, _ in told] == sorted(a for a, _ in told)
    assert take["name"] == "Übung 1.wav" and take["duration_s"] == pytest.approx(1.5)
    assert take in client.takes() and client.take(take["id"]) == take
    assert client.download_take(take["id"], tmp_path / "again").read_bytes() == file.read_bytes()
    heard, rate = soundfile.read(client.download_take(take["id"], tmp_path / "heard.wav", form="wav"))
    assert rate == 48_000 and len(heard) == 72_000
    outline = client.waveform(take["id"], points=10)
    peaks = np.abs(soundfile.read(file)[0]).reshape(10, -1).max(axis=1)
    assert np.maximum(np.abs(outline["low"]), np.abs(outline["high"])) == pytest.approx(peaks, abs=1e-4)

    job = client.submit({"take": take["id"], "variations": 2, "render": "codec", "seed": 5, "guard": "off"})
    events = list(client.events(job["id"]))
    assert [event.data["number"] for event in events if event.kind == "mix"] == [0, 1]
    parts = [event.data["progress"] for event in events if event.kind == "progress"]
    assert parts == sorted(parts) and parts[0] >= 0 and parts[-1] <= 1
    assert events[-1].kind == "state" and events[-1].data["state"] == "done"
    assert client.jobs(limit=1)[0] == client.job(job["id"]) == events[-1].data
    assert job["id"] in [each["id"] for each in client.jobs(state="done")]
    assert job["id"] not in [each["id"] for each in client.jobs(state="failed") + client.jobs(before=job["id"])]

    mixes = [client.download_mix(job["id"], number, tmp_path / f"{number}.wav") for number in range(2)]
    assert [read_tags(mix)["seed"] for mix in mixes] == ["5", "6"]
    flac = client.download_mix(job["id"], 1, tmp_path / "1.flac", form="flac")
    assert np.array_equal(soundfile.read(flac, dtype="int32")[0], soundfile.read(mixes[1], dtype="int32")[0])
    with zipfile.ZipFile(client.download_archive(job["id"], tmp_path / "all.zip")) as archive:
        assert archive.testzip() is None
        inside = {hashlib.sha256(archive.read(name)).digest() for name in archive.namelist()}
    assert {hashlib.sha256(mix.read_bytes()).digest() for mix in mixes} <= inside

    assert client.rename_job(job["id"], "the second chorus")["name"] == "the second chorus"
    assert client.change_mix(job["id"], 1, picked=True)["picked"] is True
    assert client.change_mix(job["id"], 1, name="warm")["name"] == "warm"
    assert [mix["picked"] for mix in client.job(job["id"])["mixes"]] == [False, True]
    client.delete_job(job["id"])
    client.delete_take(take["id"])
    with pytest.raises(RefusedError) as gone:
        client.job(job["id"])
    assert gone.value.status == 404 and take not in client.takes()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_the_same_idempotency_key_is_the_same_job_and_a_cancelled_one_ends_its_events(
    client: Client, take: dict[str, Any]
) -> None:
    request = {"take": take["id"], "variations": 9, "steps": 500}
    first = client.submit(request, idempotency_key="the same")
    assert client.submit(request, idempotency_key="the same")["id"] == first["id"]
    other = client.submit(request)
    assert other["id"] != first["id"]
    assert client.cancel(other["id"])["state"] in ("cancelled", "running")
    events = client.events(first["id"])
    next(events)
    client.cancel(first["id"])
    assert [event.data["state"] for event in events if event.kind == "state"][-1] == "cancelled"
    with pytest.raises(RefusedError) as late:
        client.cancel(first["id"])
    assert late.value.status == 409


def test_refusals_are_one_line_that_names_the_field(client: Client, take: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as style:
        client.submit({"take": take["id"], "style": "polka"})
    assert style.value.status == 422 and style.value.field == "style"
    assert "polka" in str(style.value) and "\n" not in str(style.value)
    with pytest.raises(RefusedError) as extra:
        client.submit({"take": take["id"], "sparkle": 3})
    assert extra.value.status == 422 and "sparkle" in str(extra.value)
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(RefusedError) as damaged:
        client.upload(noise)
    assert damaged.value.status == 422 and "\n" not in str(damaged.value)
    kept = tmp_path / "kept.wav"
    kept.write_text("of before")
    with pytest.raises(RefusedError):
        client.download_mix("A" * 16, 0, kept)
    assert kept.read_text() == "of before" and len(list(tmp_path.glob(".*"))) == 0
    with pytest.raises(RefusedError) as path:
        client.job("../takes")
    assert path.value.status in (404, 422)
    with pytest.raises(InputError, match="cannot be written"):
        client.download_take(take["id"], tmp_path / "no folder" / "x.wav")
    for missing in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(InputError, match=str(missing)):
            client.upload(missing)


def test_a_wrong_key_is_refused_and_never_shown(real_service: Any) -> None:
    with Client(real_service.url, "geheim" * 5) as client, pytest.raises(RefusedError) as refused:
        client.model()
    assert refused.value.status == 401 and "geheim" not in str(refused.value)


def test_events_go_on_where_a_broken_connection_left_off(
    real_service: Any, client: Client, take: dict[str, Any]
) -> None:
    """Through a line that breaks twice, nothing is missed and nothing comes twice."""
    job = client.submit({"take": take["id"], "variations": 8, "render": "codec", "guard": "off"})
    line = BreakingLine(real_service.address, after_bytes=2000, times=2)
    with line as address, Client(address, real_service.key, patience_s=60) as far:
        events = list(far.events(job["id"]))
    ids = [int(event.id or -1) for event in events]
    assert ids == sorted(set(ids)) and line.broken == 2
    assert [event.data["number"] for event in events if event.kind == "mix"] == list(range(8))
    assert events[-1].kind == "state" and events[-1].data == client.job(job["id"])
    assert list(client.events(job["id"], after=events[-1].id)) == [], "no more will come: it has ended"


class BreakingLine:
    """A proxy that forwards requests, and of the first answers only the beginning."""

    def __init__(self, target: tuple[str, int], *, after_bytes: int, times: int) -> None:
        self._target, self._after, self._times, self.broken = target, after_bytes, times, 0
        self._socket = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._accept, daemon=True).start()
        return "http://{}:{}".format(*self._socket.getsockname())

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=[near], daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far:
            request = near.recv(65536)
            here = "{}:{}".format(*self._socket.getsockname()).encode()
            there = "{}:{}".format(*self._target).encode()
            far.sendall(request.replace(here, there).replace(b"keep-alive", b"close"))
            left = self._after if self.broken < self._times else 1 << 30
            while left and (piece := far.recv(min(left, 65536))):
                near.sendall(piece)
                left -= len(piece)
            self.broken += left == 0


def test_a_server_that_is_busy_is_waited_for_as_long_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that answers as written down here: 429, 503, then the model."""
    answers = [(429, "Retry-After: 7\r\n", {"error": "full", "field": None}),
               (503, "Retry-After: 3\r\n", {"error": "starting", "field": None}),
               (200, "", {"sample_rate_hz": 48_000})]  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=_answer, args=[server, answers * 2], daemon=True).start()
        now, slept = [0.0], list[float]()

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            now[0] += seconds

        with Client(f"http://127.0.0.1:{port}", "k" * 20, patience_s=11, sleep=sleep, clock=lambda: now[0]) as client:
            assert client.model() == {"sample_rate_hz": 48_000}
        assert slept == [7.0, 3.0]
        client = Client(f"http://127.0.0.1:{port}", "k" * 20, patience_s=9, sleep=sleep, clock=lambda: now[0])
        with client, pytest.raises(RefusedError, match="starting") as busy:
            client.model()
        assert busy.value.retry_after_s == 3 and slept == [7.0, 3.0, 7.0], "3 s more would be more than 9"


def _answer(server: socket.socket, answers: list[tuple[int, str, dict[str, Any]]]) -> None:
    for status, headers, body in answers:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            text = json.dumps(body)
            head = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + text).encode())


def test_a_server_that_is_not_there_is_one_line_and_tried_for_as_long_as_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    slept = list[float]()
    ticks = itertools.count()
    with (
        Client(
            f"http://127.0.0.1:{port}", "k" * 20, patience_s=5, sleep=slept.append, clock=lambda: next(ticks)
        ) as far,
        pytest.raises(UnreachableError, match="cannot be reached") as absent,
    ):
        far.model()
    assert "\n" not in str(absent.value) and slept == sorted(slept) and len(slept) >= 2


def test_a_download_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    kept = tmp_path / "mix.wav"
    kept.write_text("of before")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def half() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(500))

        threading.Thread(target=half, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", "k" * 20)
        with client, pytest.raises(UnreachableError, match="broke off"):
            client.download_mix("A" * 16, 0, kept)
    assert kept.read_text() == "of before" and [path.name for path in tmp_path.iterdir()] == ["mix.wav"]


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as thief:
        answers = [(307, f"Location: http://127.0.0.1:{thief.getsockname()[1]}/v1/model\r\n", {})]
        threading.Thread(target=_answer, args=[server, answers], daemon=True).start()
        thief.settimeout(0.3)
        with Client(f"http://127.0.0.1:{server.getsockname()[1]}", "k" * 20) as client, pytest.raises(RefusedError):
            client.model()
        with pytest.raises(TimeoutError):
            thief.accept()
