"""Jobs on Ray (extra `ray`): several processes, GPUs or machines behind the interface of every executor."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from audio.errors import InputError
from restyler.command import one_line
from restyler.serving.executor import LAST_REPORTS, JobOrder, Lost, Report, Stopped
from restyler.serving.ray_worker import RayWorker

CANCEL_PATIENCE_S = 5.0  # for a cancelled job to stop by itself: fitting a chain doesn't ask
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # before a worker that dies at once is started again
CONNECT_S = 5.0
CALLS_AT_ONCE = 3  # of a worker: a job, a cancellation, and the question whether it is ready
OBJECT_STORE_BYTES = 80 << 20  # Ray's least: reports are small, and audio goes by files


def import_ray(*, own_cluster: bool) -> ModuleType:
    """Raises InputError where the extra is not installed, ValueError for a cluster of one's own in a process that has
    imported Ray already, which then takes no token any more.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or it reports every start to its makers
    os.environ.setdefault("RAY_worker_niceness", "0")  # or everything else on the machine comes before the jobs
    if own_cluster and "RAY_AUTH_TOKEN" not in os.environ:
        if "ray" in sys.modules:
            raise ValueError("Ray was imported before a token was set: name the address of the cluster in use")
        # Its ports listen on every address of the machine: without the token they run nobody's code.
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    try:
        import ray
    except ImportError:
        raise InputError('workers on Ray need it: pip install "vocal-restyler[ray]"') from None
    return ray


@dataclass
class Running:
    """An order at a worker, or one that waits for a worker."""

    order: JobOrder
    report: Callable[[Report], None]
    actor: Any = None
    pid: int = 0
    cancelled: bool = False

    @property
    def job(self) -> str:
        return self.order.job


class RayExecutor:
    """`slots` workers, each a process with the model loaded once, each replaced when it dies (`executor.Executor`).

    model: a folder, the same on every machine, as is the folder of the service's data. device: as of `restyler sample`.
    gpus: of each worker; ½: two share one. address: of a running cluster, "auto" for the one of this machine; None: one
    of its own, on this machine alone, which nobody without its token can talk to.
    """

    def __init__(
        self, model: Path, device: str = "auto", *, workers: int, gpus: float = 0.0, address: str | None = None
    ) -> None:
        self.slots = workers
        self._model, self._device, self._gpus, self._address = model.resolve(), device, gpus, address
        self._cpus = 1  # of each worker, which computes with so many threads
        self._ray = import_ray(own_cluster=address is None)
        self._lock = threading.Condition()
        self._waiting: deque[Running] = deque()
        self._at_work: list[Running] = []
        self._actors: dict[int, Any] = {}
        self._pids: dict[int, int] = {}
        self._stopping = False
        self._absent: str | None = None
        self._joined = threading.Event()
        self._thread = threading.Thread(target=self._live, name="ray", daemon=True)

    @property
    def running(self) -> list[Running]:
        """Orders that are at a worker."""
        with self._lock:
            return list(self._at_work)

    @property
    def ready(self) -> bool:
        return bool(self._pids)

    @property
    def worker_pids(self) -> list[int]:
        """Of the workers that have their model, each on its machine."""
        with self._lock:
            return list(self._pids.values())

    def start(self) -> None:
        """Raises InputError where there is no cluster at the address."""
        self._thread.start()
        self._joined.wait()
        if self._absent is not None:
            raise InputError(self._absent)

    def submit(self, order: JobOrder, report: Callable[[Report], None]) -> None:
        """For the first worker that is free. Raises ValueError for more orders than slots."""
        with self._lock:
            if len(self._waiting) + len(self._at_work) >= self.slots:
                raise ValueError(f"{order.job}: no more than {self.slots} jobs at a time")
            self._waiting.append(Running(order, report))
            self._lock.notify_all()

    def cancel(self, job: str) -> None:
        with self._lock:
            for waits in self._waiting:
                if waits.job == job:
                    self._waiting.remove(waits)
                    break
            else:
                waits = None
            runs = next((each for each in self._at_work if each.job == job and not each.cancelled), None)
            if runs is not None:
                runs.cancelled = True
        if waits is not None:
            waits.report(Stopped(job))
        if runs is not None:
            runs.actor.cancel.remote(job)
            killer = threading.Timer(CANCEL_PATIENCE_S, self._end_worker_of, [runs])
            killer.daemon = True
            killer.start()

    def stop(self, grace_s: float) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._at_work and not self._waiting, timeout=grace_s)
            self._stopping = True
            left = [*self._waiting]
            self._waiting.clear()
            self._lock.notify_all()
            actors = [*self._actors.values()]
        for waits in left:
            waits.report(Lost(waits.job, "the service stopped"))
        for actor in actors:
            self._ray.kill(actor)
        if self._thread.ident is not None:
            self._thread.join()

    def _end_worker_of(self, runs: Running) -> None:
        with self._lock:
            there = runs in self._at_work
        if there:
            self._ray.kill(runs.actor)

    def _live(self) -> None:
        """Not on the main thread: there Ray would take the signals that the server ends by."""
        try:
            self._join_cluster()
        except (OSError, ValueError, RuntimeError, self._ray.exceptions.RayError) as error:
            self._absent = f"Ray{f' at {self._address}' if self._address else ''}: {one_line(error).split('. ')[0]}"
            return
        finally:
            self._joined.set()
        keepers = [
            threading.Thread(target=self._keep, args=[number], name=f"keeper {number}", daemon=True)
            for number in range(self.slots)
        ]
        for keeper in keepers:
            keeper.start()
        for keeper in keepers:
            keeper.join()
        self._ray.shutdown()

    def _join_cluster(self) -> None:
        if self._address is not None:
            _require_somebody(self._address)
            self._ray.init(address=self._address, log_to_driver=False, namespace="vocal-restyler")
            return
        self._cpus = max(1, (os.cpu_count() or 1) // self.slots)
        self._ray.init(
            num_cpus=self.slots * self._cpus,
            logging_level=logging.WARNING,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )

    def _keep(self, number: int) -> None:
        """One worker after the other, until the service stops."""
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            started_s = time.monotonic()
            with contextlib.suppress(self._ray.exceptions.RayError):  # what it did has been reported Lost
                self._one_life(number)
            with self._lock:
                self._actors.pop(number, None)
                self._pids.pop(number, None)
                pause_s = FIRST_PAUSE_S if time.monotonic() - started_s > 60 else min(2 * pause_s, LONGEST_PAUSE_S)
                self._lock.wait_for(lambda: self._stopping, timeout=pause_s)

    def _one_life(self, number: int) -> None:
        """Of a worker: raises RayError when it has died."""
        kind = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_concurrency=CALLS_AT_ONCE)(RayWorker)
        actor = kind.remote(self._model, self._device)
        with self._lock:
            self._actors[number] = actor
            if self._stopping:
                return
        pid = self._ray.get(actor.pid.remote())
        with self._lock:
            self._pids[number] = pid
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._stopping or bool(self._waiting))
                if self._stopping:
                    return
                runs = self._waiting.popleft()
                runs.actor, runs.pid = actor, pid
                self._at_work.append(runs)
            self._follow(runs)

    def _follow(self, runs: Running) -> None:
        last: Report = Lost(runs.job, "its worker ended without a word")
        try:
            for reference in runs.actor.work.options(num_returns="streaming").remote(runs.order):
                report = self._ray.get(reference)
                if isinstance(report, LAST_REPORTS):
                    last = report
                else:
                    runs.report(report)
        except self._ray.exceptions.RayError as error:
            why = one_line(error).split(". ")[0][:200]
            last = Stopped(runs.job) if runs.cancelled else Lost(runs.job, f"its worker was lost: {why}")
            raise
        finally:
            with self._lock:
                self._at_work.remove(runs)
                self._lock.notify_all()
            runs.report(last)


def _require_somebody(address: str) -> None:
    """Raises OSError or ValueError where nobody listens: Ray itself would try for minutes and then end the process."""
    host, _, port = address.rpartition(":")
    if host and "//" not in address:
        socket.create_connection((host, int(port)), CONNECT_S).close()
