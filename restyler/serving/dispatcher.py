"""From the queue to the executor and back: the one thread that changes what runs."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from restyler.serving import stored_events, stored_jobs
from restyler.serving.executor import (
    LAST_REPORTS,
    Executor,
    Failed,
    Finished,
    JobOrder,
    Lost,
    MixDone,
    Progress,
    Report,
    Stopped,
)
from restyler.serving.hub import Hub
from restyler.serving.logs import log
from restyler.serving.metrics import Metrics
from restyler.serving.places import sync_folder
from restyler.serving.rates import Pace
from restyler.serving.refusals import RefusedError
from restyler.serving.storage import Storage
from restyler.serving.work import mix_path

MOST_LOSSES = 3
LOOK_S = 0.25  # while jobs wait for a worker that loads its model
RETRY_S = 1.0  # where the disk takes nothing


class Dispatcher:
    """order_of: the order of a job's row, with the mixes that are made. said: an executor's line about a job, as its
    owner may read it. folder_of: where a job's mixes go."""

    def __init__(
        self,
        storage: Storage,
        executor: Executor,
        hub: Hub,
        metrics: Metrics,
        pace: Pace,
        *,
        folder_of: Callable[[str], Path],
        order_of: Callable[[sqlite3.Row, Sequence[int]], JobOrder],
        said: Callable[[sqlite3.Row, str], str],
    ) -> None:
        self._storage, self._executor, self._hub, self._metrics, self._pace = storage, executor, hub, metrics, pace
        self._folder_of, self._order_of, self._said = folder_of, order_of, said
        self._reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._running: dict[str, float] = {}  # since when, by the monotonic clock
        self._ending = False
        self._giving = threading.Lock()  # held while the executor is given something
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Jobs that ran when the service last ended wait again, in their old places."""
        self._requeue()
        self._thread.start()

    def wake(self) -> None:
        """Something waits."""
        self._reports.put(None)

    def begin_no_more(self) -> None:
        """From any thread, also from a signal's handler: waits for nothing."""
        self._ending = True

    def settle(self) -> None:
        """After `begin_no_more`: once it returns, the executor is given nothing any more, and may end."""
        with self._giving:
            pass

    def stop(self) -> None:
        """After the executor has ended: what it reported last is kept, and what still ran waits for the next start."""
        self._ending = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            self._requeue()
        except RefusedError as error:  # the next start does it
            log("not stored", reason=error.line)

    def _requeue(self) -> None:
        with self._storage.writing() as connection:
            for row in stored_jobs.running(connection):
                stored_jobs.change(connection, row["id"], state="queued")
                self._note_state(connection, row["id"])

    def _work(self) -> None:
        while True:
            try:
                report = self._reports.get(timeout=LOOK_S)
            except queue.Empty:
                report = None
            if report is not None:
                self._keep(report)
            elif self._ending and not self._running:
                return
            try:
                while self._give_one():
                    pass
            except (RefusedError, OSError) as error:
                log("not stored", reason=_reason(error))
                time.sleep(RETRY_S)

    def _keep(self, report: Report) -> None:
        """Until it is stored: what was made is not forgotten because a disk is full for a while."""
        ran_s = time.monotonic() - self._running.get(report.job, time.monotonic())
        if isinstance(report, LAST_REPORTS):
            self._running.pop(report.job, None)
        while True:
            try:
                self._note(report, ran_s)
                break
            except (RefusedError, OSError) as error:
                log("not stored", reason=_reason(error))
                if self._ending or isinstance(report, Progress):
                    return
                time.sleep(RETRY_S)
        self._hub.wake(report.job)

    def _note(self, report: Report, ran_s: float) -> None:
        now_s = self._storage.clock()
        with self._storage.writing() as connection:
            row = stored_jobs.row_inside(connection, report.job)
            if row is None or row["state"] != "running":  # cancelled, or deleted
                return
            match report:
                case Progress(job, part):
                    stored_jobs.change(connection, job, progress=part)
                    stored_events.add(connection, job, "progress", {"progress": part})
                    return
                case MixDone(job, number, facts):
                    path = mix_path(self._folder_of(job), number)
                    sync_folder(path.parent)  # before it is said to be there
                    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
                    if stored_jobs.add_mix(connection, job, number, facts, size):
                        stored_events.add(connection, job, "mix", stored_jobs.mix(connection, job, number))
                        self._metrics.add("mixes")
                    return
                case Finished(job):
                    stored_jobs.change(connection, job, state="done", progress=1.0, ended_s=now_s)
                case Failed(job, error):
                    stored_jobs.change(connection, job, state="failed", ended_s=now_s, error=self._said(row, error))
                case Stopped(job):
                    stored_jobs.change(connection, job, state="cancelled", ended_s=now_s)
                case Lost(job, why):
                    self._lose(connection, row, why, now_s)
            self._note_state(connection, report.job)
            state = stored_jobs.row_inside(connection, report.job)
        log("job", state=state and state["state"], ms=round(1000 * ran_s))
        if state and state["state"] in stored_jobs.ENDED:
            self._metrics.job_ended(state["state"], ran_s)
            if state["state"] == "done":
                self._pace.add(ran_s)

    def _lose(self, connection: sqlite3.Connection, row: sqlite3.Row, why: str, now_s: float) -> None:
        """Back to its place in the queue, until it has taken too many workers with it."""
        if self._ending:
            stored_jobs.change(connection, row["id"], state="queued")
            return
        losses = row["losses"] + 1
        self._metrics.add("lost")
        if losses < MOST_LOSSES:
            stored_jobs.change(connection, row["id"], state="queued", losses=losses)
            return
        error = f"tried {MOST_LOSSES} times, and each time it was lost; at last {why}"
        stored_jobs.change(connection, row["id"], state="failed", losses=losses, error=error, ended_s=now_s)

    def _note_state(self, connection: sqlite3.Connection, job: str) -> None:
        row = stored_jobs.row_inside(connection, job)
        if row is not None:
            stored_events.add(connection, job, "state", stored_jobs.answer(connection, row))

    def _give_one(self) -> bool:
        """Gives the executor a job, if it has room for one and one waits; whether it did. What can't be read or stored
        leaves the job where it was."""
        with self._giving:
            if self._ending or len(self._running) >= self._executor.slots or not self._executor.ready:
                return False
            with self._storage.reading() as connection:
                if stored_jobs.next_queued(connection) is None:
                    return False
            with self._storage.writing() as connection:
                row = stored_jobs.next_queued(connection)
                if row is None:  # cancelled in the meantime
                    return False
                job = row["id"]
                self._folder_of(job).mkdir(exist_ok=True)
                sync_folder(self._folder_of(job).parent)
                order = self._order_of(row, [mix["number"] for mix in stored_jobs.mixes(connection, job)])
                started_s = self._storage.clock() if row["started_s"] is None else row["started_s"]
                stored_jobs.change(connection, job, state="running", started_s=started_s)
                self._note_state(connection, job)
            self._running[job] = time.monotonic()
            self._executor.submit(order, self._reports.put)
        self._hub.wake(job)
        with self._storage.reading() as connection:
            now = stored_jobs.row_inside(connection, job)
        if now is None or now["state"] != "running":  # cancelled before the executor had it
            self._executor.cancel(job)
        return True


def _reason(error: RefusedError | OSError) -> str:
    """Without a path, which has an id in it."""
    return error.line if isinstance(error, RefusedError) else f"{type(error).__name__}: {error.strerror}"
