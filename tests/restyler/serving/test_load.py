"""Fifty clients at once, each with a take, jobs and downloads of its own: nothing is lost, nothing waits for ever."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from audio.io import read, read_tags
from restyler.client import Client

CLIENTS = 50
LONGEST_S = 400.0


@pytest.mark.slow
def test_fifty_clients_lose_nothing(
    start_service: Callable[..., Any], vocal_file: Callable[..., Path], tmp_path: Path
) -> None:
    """A queue of 20 and 60 requests a second of each of two keys: most are told to come again, and do."""
    takes = [vocal_file(f"take {number}.wav", 0.5 + number / 100) for number in range(CLIENTS)]
    options = ("--limit-queue=20", "--limit-in-flight=100", "--limit-requests-a-minute=3600", "--limit-streams=100")
    with start_service(tmp_path / "data", *options) as service:
        while httpx.get(f"{service.url}/readyz", verify=False).status_code != 200:
            time.sleep(0.1)
        asked_s, refused, lock = list[float](), list[int](), threading.Lock()

        def timed(response: httpx.Response) -> None:
            with lock:
                if response.status_code in (429, 503):
                    refused.append(response.status_code)

        def one(number: int) -> tuple[float, list[Path]]:
            begun = time.monotonic()
            with Client(service.url, service.keys[number % 2], patience_s=LONGEST_S) as client:
                client._http.event_hooks["response"].append(timed)
                take = client.upload(takes[number])
                job = client.submit({"take": take["id"], "variations": 1, "seed": number, "guard": "off"})
                for _ in range(5):
                    at = time.monotonic()
                    client.job(job["id"])
                    with lock:
                        asked_s.append(time.monotonic() - at)
                last = [*client.events(job["id"])][-1].data
                assert last["state"] == "done", last
                mix = client.download_mix(job["id"], 0, tmp_path / f"{number}.wav")
            return time.monotonic() - begun, [mix]

        begun = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            ends = list(pool.map(one, range(CLIENTS), timeout=LONGEST_S))
        whole_s = time.monotonic() - begun
        states = httpx.get(f"{service.url}/metrics").text
        jobs = [job for key in service.keys for job in _all_jobs(service.url, key)]
    assert len({job["id"] for job in jobs}) == len(jobs) == CLIENTS and {job["state"] for job in jobs} == {"done"}
    assert 'jobs{state="done"} 50' in states
    for number, (_, (mix,)) in enumerate(ends):
        assert read_tags(mix)["seed"] == str(number)
        assert read(mix).duration_s == pytest.approx(0.5 + number / 100, abs=1e-3)
    cuts = statistics.quantiles(asked_s, n=100)
    from_start = sorted(end for end, _ in ends)
    print(
        f"{CLIENTS} clients: all done in {whole_s:.1f} s; a job asked for: p50 {cuts[49] * 1000:.0f} ms, "
        f"p99 {cuts[98] * 1000:.0f} ms; upload to download: p50 {from_start[24]:.1f} s, most {from_start[-1]:.1f} s; "
        f"told to come again {len(refused)} times"
    )
    assert refused, "the queue was never full: the test shows less than it says"


def _all_jobs(url: str, key: str) -> list[dict[str, Any]]:
    with Client(url, key) as client:
        return client.jobs(limit=200)
