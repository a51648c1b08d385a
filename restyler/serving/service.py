"""The service without its HTTP: what it keeps under DATA, who works for it, when it begins and ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from restyler.serving import stored_jobs, stored_takes
from restyler.serving.chains import allowed_parts
from restyler.serving.dispatcher import Dispatcher
from restyler.serving.executor import Executor
from restyler.serving.hub import Hub
from restyler.serving.jobs import Jobs
from restyler.serving.limits import Limits
from restyler.serving.logs import log
from restyler.serving.metrics import Labels, Metrics
from restyler.serving.model import ServedModel
from restyler.serving.places import Places
from restyler.serving.rates import Pace, Rates
from restyler.serving.refusals import RefusedError
from restyler.serving.storage import Storage
from restyler.serving.takes import Takes
from restyler.web_server import alone

CLEAN_EVERY_S = 600.0
DAY_S = 86_400.0
COMES_BACK_S = 30  # what callers are told while it ends


class Service:
    """Takes, jobs and their mixes under `data`, done by `executor`.

    model: folder of the model that executor's workers have. machine: arguments of `restyler sample` for each job that
    say how it is done there, such as --batch. programs: whether effect chains of jobs may have parts of FFmpeg and SoX.
    clock: seconds since 1970. Raises InputError for a folder that can't be
    had or that another service has, and for one that holds no model.
    """

    def __init__(
        self,
        data: Path,
        executor: Executor,
        *,
        model: Path,
        limits: Limits | None = None,
        machine: tuple[str, ...] = (),
        programs: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or Limits()
        self.model, self.places = ServedModel(model), Places(data)
        self._closing = contextlib.ExitStack()
        self._closing.enter_context(alone(self.places.data, "service.lock", "keeps its takes and jobs here"))
        self.storage = Storage(self.places.data, clock)
        self._closing.callback(self.storage.close)
        self.executor, self.metrics, self.pace = executor, Metrics(), Pace()
        self.hub, self.rates = Hub(self.limits.streams), Rates(self.limits.requests_a_minute, time.monotonic)
        self.takes = Takes(
            self.storage, self.places, self.limits, self.metrics, sample_rate_hz=self.model.sample_rate_hz
        )
        self.jobs = Jobs(
            self.storage,
            self.places,
            self.limits,
            self.model,
            machine=[f"--model={model}", *machine],
            parts=allowed_parts(programs=programs),
        )
        self.dispatcher = Dispatcher(
            self.storage,
            executor,
            self.hub,
            self.metrics,
            self.pace,
            folder_of=self.places.job,
            order_of=self.jobs.order,
            said=self.jobs.said_of,
        )
        self.jobs.attach(executor, self.dispatcher, self.hub, self.pace)
        self.draining = False
        self._ended = threading.Event()
        self._cleaner = threading.Thread(target=self._keep_clean, name="cleaner", daemon=True)

    def start(self) -> None:
        """Goes on where the last service of this folder ended, however it did."""
        self.places.empty_temporaries()
        self._forget_orphans()
        self.executor.start()
        self.dispatcher.start()
        self._cleaner.start()

    def drain(self) -> None:
        """Takes no more jobs and begins none; streams of events end."""
        self.draining = True
        self.dispatcher.begin_no_more()
        self.hub.wake_all()

    def stop(self, grace_s: float = 0.0) -> None:
        """What runs has grace_s to end; then it waits for the next start, with the mixes that it has."""
        self.drain()
        self.dispatcher.settle()
        self._ended.set()
        self.executor.stop(grace_s)
        self.dispatcher.stop()
        if self._cleaner.ident is not None:
            self._cleaner.join()
        self._closing.close()

    @contextlib.contextmanager
    def running(self, grace_s: float = 0.0) -> Iterator[Service]:
        """From start to stop."""
        try:
            self.start()
            yield self
        finally:
            self.stop(grace_s)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:
        """From start to stop, as a FastAPI application takes it: FastAPI(lifespan=service.lifespan)."""
        import anyio

        await anyio.to_thread.run_sync(self.start)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.stop)

    @property
    def ready(self) -> bool:
        return self.executor.ready and not self.draining

    def admit(self, owner: str) -> None:
        """Counts a request. Raises RefusedError (429) for one too many."""
        self.rates.take(owner)

    def require_open(self) -> None:
        """Raises RefusedError (503) while the service ends."""
        if self.draining:
            raise RefusedError(503, "the service is ending; try again soon", retry_after_s=COMES_BACK_S)

    def clean(self) -> None:
        """What is older than it may be goes, and files of other formats over their share."""
        before_s = self.storage.clock() - self.limits.age_days * DAY_S
        with self.storage.writing() as connection:
            jobs = [
                job
                for job in stored_jobs.older_than(connection, before_s)
                if not stored_takes.in_use(connection, "job", job)
            ]
            takes = stored_takes.older_than(connection, before_s)
            for job in jobs:
                stored_jobs.remove(connection, job)
            for take in takes:
                stored_takes.remove(connection, take)
        for folder, names in ((self.places.job, jobs), (self.places.take, takes)):
            for name in names:
                self.places.throw_away(folder(name))
                self.places.forget_derived(name)
        self.places.keep_derived_under(self.limits.derived_bytes, now_s=time.time())
        if jobs or takes:
            log("cleaned", jobs=len(jobs), takes=len(takes))

    def _keep_clean(self) -> None:
        while True:
            try:
                self.clean()
            except (RefusedError, OSError) as error:
                log("not cleaned", reason=type(error).__name__)
            if self._ended.wait(CLEAN_EVERY_S):
                return

    def _forget_orphans(self) -> None:
        """Folders that a service left which was killed between a folder and its row."""
        with self.storage.reading() as connection:
            for kind in ("takes", "jobs"):
                known = {row[0] for row in connection.execute(f"SELECT id FROM {kind}")}
                for folder in (self.places.data / kind).iterdir():
                    if folder.name not in known:
                        self.places.throw_away(folder)

    def metrics_text(self) -> str:
        """For Prometheus."""
        with self.storage.reading() as connection:
            states, size = stored_jobs.by_state(connection), stored_takes.bytes_of(connection)
        none: Labels = ()
        return self.metrics.text(
            {
                "jobs": {(("state", state),): count for state, count in states.items()},
                "queue_length": {none: states["queued"]},
                "stored_bytes": {none: size},
                "ready": {none: int(self.ready)},
            }
        )
