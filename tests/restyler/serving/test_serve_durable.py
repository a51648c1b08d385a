"""No accepted job is lost: not by kill -9 of the service, not by its end in good order, not by time."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from restyler.serving import Limits, LocalExecutor, Service
from restyler.serving.storage import DATABASE

JOB = {"variations": 5, "steps": 80, "guard": "off"}


def client_of(service: Any) -> httpx.Client:
    headers = {"Authorization": f"Bearer {service.key}"}
    return httpx.Client(base_url=service.url, headers=headers, timeout=60, verify=False)


def uploaded(client: httpx.Client, data: bytes) -> str:
    return str(client.post("/v1/takes", params={"name": "take"}, content=data).raise_for_status().json()["id"])


def started(client: httpx.Client, take: str, **fields: Any) -> str:
    answer = client.post("/v1/jobs", json={"take": take, **JOB, **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def mixes_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Names, with what changes when a file is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(folder.glob("mix_*.wav"))}


def wait_until(true: Callable[[], Any], within_s: float = 90) -> Any:
    until = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")


def test_kill_9_in_the_midst_of_a_job(
    start_service: Callable[..., AbstractContextManager[Any]],
    serve_live: Callable[..., AbstractContextManager[Any]],
    take_bytes: bytes,
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with start_service(data) as service, client_of(service) as client:
        take = uploaded(client, take_bytes)
        jobs = [started(client, take, seed=0), started(client, take, variations=2, steps=2)]  # the short one waits
        folder = data / "jobs" / jobs[0]
        wait_until(lambda: folder.is_dir() and len(mixes_in(folder)) >= 2)
        workers = service.workers()
        assert workers
        os.kill(service.pid, signal.SIGKILL)
        service.process.wait()
        wait_until(lambda: all(gone(pid) for pid in workers), within_s=10)
        made = mixes_in(folder)
        with suppress(httpx.HTTPError):  # accepted or not, but never half
            jobs.append(started(client, take))
    assert 2 <= len(made) < 5 and len(jobs) == 2
    assert not any(path.name.startswith("mix") and path.suffix != ".wav" for path in folder.iterdir())
    with serve_live(data) as live:
        client = live.client()
        first = wait_until(lambda: (job := client.get(f"/v1/jobs/{jobs[0]}").json())["state"] == "done" and job)
        second = wait_until(lambda: (job := client.get(f"/v1/jobs/{jobs[1]}").json())["state"] == "done" and job)
        after = mixes_in(folder)
        assert {name: after[name] for name in made} == made, "a mix was made twice"
        assert [[mix["number"] for mix in job["mixes"]] for job in (first, second)] == [[0, 1, 2, 3, 4], [0, 1]]
        assert [mix["seed"] for mix in first["mixes"]] == [str(seed) for seed in range(5)]
        assert first["ended"] < second["ended"], "not in their old order"
        assert client.get("/v1/takes").json()["takes"][0]["id"] == take


@pytest.mark.slow
def test_kill_9_again_and_again_loses_nothing(
    start_service: Callable[..., AbstractContextManager[Any]], take_bytes: bytes, tmp_path: Path
) -> None:
    data, random, accepted = tmp_path / "data", np.random.default_rng(1), set[str]()
    for _ in range(4):
        with start_service(data) as service, client_of(service) as client:
            take = uploaded(client, take_bytes)
            accepted |= {started(client, take, variations=3) for _ in range(2)}
            wait_until(lambda client=client: client.get("/readyz").status_code == 200)
            time.sleep(float(random.uniform(0, 2)))
            os.kill(service.pid, signal.SIGKILL)
    with start_service(data) as service, client_of(service) as client:
        for job in accepted:
            found = wait_until(lambda job=job: (j := client.get(f"/v1/jobs/{job}").json())["ended"] and j)
            assert found["state"] == "done" and len(found["mixes"]) == 3, found


@pytest.mark.slow
def test_the_end_in_good_order(
    start_service: Callable[..., AbstractContextManager[Any]], take_bytes: bytes, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with start_service(data, "--grace=0") as service, client_of(service) as client:
        take = uploaded(client, take_bytes)
        running, waiting = started(client, take, variations=16, steps=400), started(client, take)
        wait_until(lambda: client.get(f"/v1/jobs/{running}").json()["mixes"])
        with client.stream("GET", f"/v1/jobs/{running}/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            service.process.send_signal(signal.SIGTERM)
            for _ in lines:  # the stream ends by itself, and in good order
                pass
        assert service.process.wait(20) == 0
    database = sqlite3.connect(data / DATABASE)
    states = dict(database.execute("SELECT id, state FROM jobs").fetchall())
    assert states == {running: "queued", waiting: "queued"}
    assert database.execute("SELECT count(*) FROM mixes WHERE job = ?", (running,)).fetchone()[0] >= 1


@pytest.mark.slow
def test_a_running_job_may_end_within_the_grace(
    serve_live: Callable[..., AbstractContextManager[Any]], model: Path, take_bytes: bytes, tmp_path: Path
) -> None:
    with serve_live(tmp_path / "data") as live:
        client = live.client()
        take = uploaded(client, take_bytes)
        job = started(client, take, variations=2)
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "running")
        waiting = started(client, take)
        live.service.stop(grace_s=30)
    with_rows = sqlite3.connect(tmp_path / "data" / DATABASE)
    assert dict(with_rows.execute("SELECT id, state FROM jobs").fetchall()) == {job: "done", waiting: "queued"}


def test_what_is_old_goes_and_what_is_needed_stays(model: Path, take_bytes: bytes, tmp_path: Path) -> None:
    now_s = [1_000_000.0]
    data = tmp_path / "data"
    limits = Limits(age_days=1, derived_bytes=1000)
    service = Service(data, LocalExecutor(model, "cpu"), model=model, limits=limits, clock=lambda: now_s[0])
    try:
        from restyler.serving.requests import JobRequest

        async def pieces() -> Any:
            yield take_bytes

        import anyio

        def add() -> str:
            async def taken() -> str:
                return str((await service.takes.add("ada", "x", pieces(), None))["id"])

            return anyio.run(taken)

        old, needed = add(), add()
        job = service.jobs.create("ada", JobRequest(take=needed), None)["id"]
        cancelled = service.jobs.create("ada", JobRequest(take=old), None)["id"]
        service.jobs.cancel("ada", cancelled)
        now_s[0] += 86_000
        young = add()
        _, derived = service.takes.wav("ada", young)
        os.utime(derived, (0, 0))  # as if it had not been asked for since
        service.clean()
        assert {take["id"] for take in service.takes.every("ada")} == {old, needed, young}
        assert not list((data / "derived").iterdir()), "over its share"
        now_s[0] += 1_000
        service.clean()
        assert {take["id"] for take in service.takes.every("ada")} == {needed, young}
        assert [one["id"] for one in service.jobs.page("ada", None, 10, None)] == [job]
        assert {path.name for path in (data / "takes").iterdir()} == {needed, young}
        (data / "takes" / "left behind").mkdir()
        (data / "uploads" / "half").mkdir()
        (data / "uploads" / "half" / "take").write_bytes(b"RIFF")
        service._forget_orphans()
        service.places.empty_temporaries()
        assert {path.name for path in (data / "takes").iterdir()} == {needed, young}
        assert not list((data / "uploads").iterdir())
    finally:
        service.stop()


def test_one_service_has_a_folder(model: Path, tmp_path: Path) -> None:
    from audio.errors import InputError

    first = Service(tmp_path, LocalExecutor(model, "cpu"), model=model)
    try:
        with pytest.raises(InputError, match="another server keeps its takes and jobs here"):
            Service(tmp_path, LocalExecutor(model, "cpu"), model=model)
    finally:
        first.stop()
    Service(tmp_path, LocalExecutor(model, "cpu"), model=model).stop()


@pytest.mark.slow
def test_a_job_that_fells_every_worker_ends(
    serve_live: Callable[..., AbstractContextManager[Any]], take_bytes: bytes, tmp_path: Path
) -> None:
    with serve_live(tmp_path / "data") as live:
        client = live.client()
        job = started(client, uploaded(client, take_bytes), variations=16, steps=900)
        for _ in range(3):
            wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "running")
            pid = live.service.executor.worker_pid
            os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda pid=pid: live.service.executor.worker_pid != pid or client.get(f"/v1/jobs/{job}").json()["ended"]
            )
        found = wait_until(lambda: (one := client.get(f"/v1/jobs/{job}").json())["ended"] and one)
        assert found["state"] == "failed" and "3 times" in found["error"] and "signal 9" in found["error"], found
