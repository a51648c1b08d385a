"""Jobs in one process beside the service: a crash there, of whatever kind, is not one here."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from restyler.serving.executor import LAST_REPORTS, JobOrder, Lost, Report, Stopped
from restyler.serving.local_worker import CANCEL, READY, serve

PATIENCE_S = 5.0  # for a cancelled job to stop by itself: fitting a chain doesn't ask
LONGEST_PAUSE_S = 30.0  # before a worker that dies at once is started again


def _workers() -> ForkServerContext:
    """Workers are forked from a process that has imported what they need and does nothing else: one that dies is
    replaced without the seconds that importing takes, and no thread or lock of the service gets into it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["restyler.serving.work"])
    return context


class LocalExecutor:
    """One worker process, its model loaded once, started again whenever it dies (`executor.Executor`)."""

    slots = 1

    def __init__(self, model: Path, device: str = "auto", *, patience_s: float = PATIENCE_S) -> None:
        self._model, self._device, self._patience_s = model, device, patience_s
        self._lock = threading.Condition()
        self._channel: Connection | None = None
        self._process: BaseProcess | None = None
        self._ready = self._stopping = self._cancelled = False
        self._order: JobOrder | None = None
        self._report: Callable[[Report], None] = lambda _: None
        self._thread = threading.Thread(target=self._look_after, name="worker's keeper", daemon=True)

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def worker_pid(self) -> int | None:
        """For the log, and for who wants to see it die."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        self._thread.start()

    def submit(self, order: JobOrder, report: Callable[[Report], None]) -> None:
        """Where the worker is just being started, it gets the order as its first. Raises ValueError for a second."""
        with self._lock:
            if self._order is not None:
                raise ValueError(f"{order.job} beside {self._order.job}: one job at a time")
            self._order, self._report, self._cancelled = order, report, False
            if self._ready:
                self._send(order)

    def cancel(self, job: str) -> None:
        with self._lock:
            if self._order is None or self._order.job != job or self._cancelled:
                return
            self._cancelled = True
            if self._ready:
                self._send((CANCEL, job))
            order = self._order
        killer = threading.Timer(self._patience_s if self._ready else 0, self._end_worker_of, [order])
        killer.daemon = True
        killer.start()

    def stop(self, grace_s: float) -> None:
        with self._lock:
            self._lock.wait_for(lambda: self._order is None, timeout=grace_s)
            self._stopping = True
            self._lock.notify_all()
            process = self._process
        if process is not None:
            process.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def _send(self, what: object) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # the worker has died: its keeper learns it in a moment
                self._channel.send(what)

    def _end_worker_of(self, order: JobOrder) -> None:
        with self._lock:
            if self._order is order and self._process is not None:
                self._process.kill()

    def _look_after(self) -> None:
        pause_s = 0.5
        while not self._stopping:
            started_s = time.monotonic()
            why = self._one_life()
            self._end_order(why)
            pause_s = 0.5 if time.monotonic() - started_s > 60 else min(2 * pause_s, LONGEST_PAUSE_S)
            with self._lock:
                self._lock.wait_for(lambda: self._stopping, timeout=pause_s)

    def _one_life(self) -> str:
        """Of a worker, from its start to how it ended."""
        ours, its = multiprocessing.Pipe()
        process = _workers().Process(
            target=serve, args=(its, self._model, self._device), daemon=True, name="restyler worker"
        )
        with self._lock:
            if self._stopping:
                return "never started"
            process.start()
            its.close()  # or its end would never be seen here
            self._process, self._channel = process, ours
        try:
            while True:
                self._hear(ours.recv())
        except (EOFError, OSError):
            with self._lock:
                self._ready, self._channel = False, None
            process.join()
            ours.close()
        code = process.exitcode
        return f"ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"

    def _hear(self, said: Report | str) -> None:
        if said == READY:
            with self._lock:
                self._ready = True
                if self._order is not None:
                    self._send(self._order)
            return
        assert not isinstance(said, str)
        with self._lock:
            order, report = self._order, self._report
            if order is None or order.job != said.job:
                return
            if isinstance(said, LAST_REPORTS):
                self._order = None
                self._lock.notify_all()
        report(said)

    def _end_order(self, why: str) -> None:
        with self._lock:
            order, report, cancelled = self._order, self._report, self._cancelled
            self._order = None
            self._lock.notify_all()
        if order is not None:
            report(Stopped(order.job) if cancelled else Lost(order.job, f"its worker {why}"))
