"""`restyler serve --executor ray --workers 2`: a worker is killed in mid-job, and every job of both users is done."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from audio.io import read, read_tags
from restyler.client import Client

LONGEST_S = 300.0


def ray_workers() -> set[int]:
    """Process ids of everybody's workers on this machine."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue  # gone in the meantime
            if command.startswith(b"ray::RayWorker"):
                found.add(int(folder.name))
    return found


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LONGEST_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_two_workers_one_killed_no_job_lost(
    start_service: Callable[..., Any], vocal_file: Callable[..., Path], tmp_path: Path
) -> None:
    others, take = ray_workers(), vocal_file("take.wav", 6.0)
    with start_service(tmp_path / "data", "--executor=ray", "--workers=2") as service:
        clients = [Client(service.url, key, patience_s=LONGEST_S) for key in service.keys]
        wait_for(lambda: len(workers := ray_workers() - others) >= 2 and workers)
        requests = [{"take": each.upload(take)["id"], "variations": 5, "guard": "off"} for each in clients]
        jobs = [(each, each.submit(asked)["id"]) for each, asked in zip(clients, requests, strict=True) for _ in "ab"]
        wait_for(
            lambda: sum(each.job(job)["state"] == "running" and each.job(job)["mixes"] != [] for each, job in jobs) == 2
        )
        running = [job for each, job in jobs if each.job(job)["state"] == "running"]
        victim = min(ray_workers() - others)
        os.kill(victim, signal.SIGKILL)
        with ThreadPoolExecutor() as pool:
            ends = list(pool.map(lambda both: [*both[0].events(both[1])][-1].data, jobs))
        assert [end["state"] for end in ends] == ["done"] * 4, ends
        assert len(running) == 2 and all(len(end["mixes"]) == 5 for end in ends)
        wait_for(lambda: len(ray_workers() - others) == 2)  # another has come in its place
        for each, job in jobs:
            for number in range(5):
                mix = each.download_mix(job, number, tmp_path / "mix.wav")
                assert read_tags(mix)["seed"] == str(number) and read(mix).duration_s == pytest.approx(6.0)
    wait_for(lambda: not ray_workers() - others)
