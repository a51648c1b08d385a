"""Two real workers on a real Ray of this machine: side by side, cancelled, and one killed in mid-job."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restyler.sample import main
from restyler.serving.executor import Failed, Finished, JobOrder, Lost, MixDone, Progress, Report, Stopped
from restyler.serving.ray_executor import RayExecutor

pytestmark = [
    pytest.mark.slow,  # Ray alone takes ten seconds to start
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray"),
]
LONGEST_S = 200.0


class Heard:
    """What is reported of every job, in order."""

    def __init__(self) -> None:
        self.all: list[Report] = []
        self._coming: queue.SimpleQueue[Report] = queue.SimpleQueue()

    def __call__(self, report: Report) -> None:
        self._coming.put(report)

    def until(self, wanted: Callable[[Report], bool]) -> Report:
        """Waits for the first such report."""
        deadline = time.monotonic() + LONGEST_S
        while True:
            self.all.append(self._coming.get(timeout=deadline - time.monotonic()))
            if wanted(self.all[-1]):
                return self.all[-1]


@pytest.fixture(scope="module")
def executor(model: Path) -> Iterator[RayExecutor]:
    executor = RayExecutor(model, "cpu", workers=2)
    executor.start()
    deadline = time.monotonic() + LONGEST_S
    while len(executor.worker_pids) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield executor
    executor.stop(0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in executor.worker_pids)


@pytest.fixture
def order(model: Path, vocal_file: Callable[..., Path], tmp_path: Path) -> Callable[..., JobOrder]:
    """order("job", seconds, *options): its mixes go to tmp_path/job."""

    def make(job: str, seconds: float, *options: str) -> JobOrder:
        folder = tmp_path / job
        folder.mkdir()
        take = vocal_file(f"take of {job}.wav", seconds)
        return JobOrder(job, (str(take), "--model", str(model), "--device", "cpu", *options), str(folder))

    return make


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def expected(order: JobOrder, out: Path) -> dict[str, str]:
    """Of the files that `restyler sample` makes of the same arguments, in this process."""
    assert main([*order.arguments, "--out", str(out)]) == 0
    (folder,) = out.iterdir()
    return digests(folder)


def test_the_jobs_of_a_worker_that_is_killed_move_and_nothing_is_lost(
    executor: RayExecutor, order: Callable[..., JobOrder], tmp_path: Path
) -> None:
    heard, killed, other = Heard(), order("killed", 8.0, "--variations=6"), order("other", 8.0, "--variations=6")
    before = executor.worker_pids
    assert len(set(before)) == 2 and os.getpid() not in before
    executor.submit(killed, heard)
    first = heard.until(lambda report: isinstance(report, MixDone))
    executor.submit(other, heard)
    heard.until(lambda report: report.job == "other" and isinstance(report, Progress))  # both are at work
    (busy,) = (runs.pid for runs in executor.running if runs.job == "killed")
    os.kill(busy, signal.SIGKILL)
    lost = heard.until(lambda report: isinstance(report, Lost))
    assert lost.job == "killed" and "\n" not in str(lost)
    made = tuple(report.number for report in heard.all if isinstance(report, MixDone) and report.job == "killed")
    assert made and made[0] == first.number and len(made) < 6
    again = JobOrder(killed.job, killed.arguments, killed.folder, made)
    executor.submit(again, heard)
    ended = set[Any]()
    while len(ended) < 2:
        ended.add(heard.until(lambda report: isinstance(report, Finished | Failed | Lost)))
    assert ended == {Finished("killed"), Finished("other")}
    numbers = [report.number for report in heard.all if isinstance(report, MixDone) and report.job == "killed"]
    assert numbers == list(range(6)), "each mix once, the first ones by the worker that died"
    for each in (killed, other):
        assert digests(Path(each.folder)) == expected(each, tmp_path / "sampled" / each.job)
    deadline = time.monotonic() + LONGEST_S
    while len(executor.worker_pids) < 2:  # another has come in its place
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert busy not in executor.worker_pids


def test_a_cancelled_job_stops_and_its_worker_does_the_next(
    executor: RayExecutor, order: Callable[..., JobOrder]
) -> None:
    heard = Heard()
    executor.submit(order("long", 20.0, "--variations=90"), heard)
    heard.until(lambda report: isinstance(report, Progress))
    executor.cancel("long")
    assert heard.until(lambda report: not isinstance(report, Progress | MixDone)) == Stopped("long")
    executor.cancel("long")  # once more, and one that never was: nothing happens
    executor.cancel("never")
    executor.submit(order("next", 0.6, "--variations=1"), heard)
    assert heard.until(lambda report: isinstance(report, Finished | Failed | Lost)) == Finished("next")


def test_what_the_model_refuses_is_a_line_and_more_jobs_than_workers_a_mistake(
    executor: RayExecutor, order: Callable[..., JobOrder]
) -> None:
    heard = Heard()
    executor.submit(order("odd", 0.6, "--style=polka"), heard)
    failed = heard.until(lambda report: isinstance(report, Finished | Failed | Lost))
    assert isinstance(failed, Failed) and "polka" in failed.error and "\n" not in failed.error
    for number in range(2):
        executor.submit(order(f"busy {number}", 20.0, "--variations=90"), heard)
    with pytest.raises(ValueError, match="no more than 2 jobs"):
        executor.submit(order("third", 0.6), heard)
    for number in range(2):
        executor.cancel(f"busy {number}")
    stopped = {heard.until(lambda report: isinstance(report, Stopped)).job for _ in range(2)}
    assert stopped == {"busy 0", "busy 1"}


def test_a_cluster_that_is_not_there_is_one_line(model: Path, python: Callable[..., Any]) -> None:
    program = """import sys
from pathlib import Path
from restyler.serving.ray_executor import RayExecutor
try:
    RayExecutor(Path(sys.argv[1]), "cpu", workers=1, address="127.0.0.1:9").start()
except ValueError as error:
    print(type(error).__name__, error)
"""
    (ended,) = python((["-c", program, str(model)], {}))
    assert ended.stdout.startswith("InputError Ray at 127.0.0.1:9: ") and ended.stdout.count("\n") == 1, ended
