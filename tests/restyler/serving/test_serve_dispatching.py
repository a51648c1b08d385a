"""From the queue to the executor: what goes wrong between them loses no job, and nothing waits for ever."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from restyler.serving import Limits, Service, stored_jobs
from restyler.serving.executor import Finished, JobOrder, Lost, Report
from restyler.serving.refusals import RefusedError
from restyler.serving.requests import JobRequest


class Hand:
    """An executor that is moved by hand: it takes orders, and ends them when it is told to."""

    ready = True

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.orders: dict[str, tuple[JobOrder, Callable[[Report], None]]] = {}
        self.ended = False

    def start(self) -> None:
        pass

    def submit(self, order: JobOrder, report: Callable[[Report], None]) -> None:
        assert not self.ended, "given an order after its end"
        self.orders[order.job] = order, report

    def cancel(self, job: str) -> None:
        pass

    def stop(self, grace_s: float) -> None:
        self.ended = True
        for job, (_, report) in self.orders.items():
            report(Lost(job, "the service ends"))

    def finish(self, job: str) -> None:
        self.orders.pop(job)[1](Finished(job))


@contextmanager
def service_of(folder: Path, model: Path, executor: Hand, **limits: Any) -> Iterator[Service]:
    service = Service(folder, executor, model=model, limits=Limits(**limits))
    with service.running():
        yield service


def add_take(service: Service, owner: str, data: bytes, name: str = "take") -> str:
    async def pieces() -> Any:
        yield data

    async def taken() -> str:
        return str((await service.takes.add(owner, name, pieces(), str(len(data))))["id"])

    return anyio.run(taken)


def add_job(service: Service, owner: str, take: str, **fields: Any) -> str:
    return str(service.jobs.create(owner, JobRequest(take=take, **fields), None)["id"])


def state_of(service: Service, owner: str, job: str) -> str:
    return str(service.jobs.one(owner, job)["state"])


def wait_until(true: Callable[[], Any], within_s: float = 20) -> Any:
    until = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def test_a_job_whose_folder_can_not_be_made_waits_until_it_can(model: Path, take_bytes: bytes, tmp_path: Path) -> None:
    executor = Hand()
    with service_of(tmp_path, model, executor) as service:
        take = add_take(service, "ada", take_bytes)
        shutil.rmtree(tmp_path / "jobs")
        (tmp_path / "jobs").write_text("in the way")
        job = add_job(service, "ada", take)
        time.sleep(1)  # it is tried, and fails
        assert state_of(service, "ada", job) == "queued" and not executor.orders
        (tmp_path / "jobs").unlink()
        (tmp_path / "jobs").mkdir()
        wait_until(lambda: job in executor.orders)
        executor.finish(job)
        wait_until(lambda: state_of(service, "ada", job) == "done")


def test_an_order_never_comes_after_the_end_of_the_executor(model: Path, take_bytes: bytes, tmp_path: Path) -> None:
    """The service ends while the dispatcher is about to give the executor a job: nobody would ever end that order."""
    executor = Hand()
    with service_of(tmp_path, model, executor) as service:
        making, go_on = threading.Event(), threading.Event()
        whole = service.jobs.order

        def slowly(*arguments: Any) -> JobOrder:
            making.set()
            assert go_on.wait(20)
            return whole(*arguments)

        service.dispatcher._order_of = slowly
        job = add_job(service, "ada", add_take(service, "ada", take_bytes))
        assert making.wait(20)
        ending = threading.Thread(target=service.stop)
        ending.start()
        time.sleep(0.3)
        assert not executor.ended
        go_on.set()
        ending.join(20)
        assert not ending.is_alive() and executor.ended
    again = Hand()
    with service_of(tmp_path, model, again) as service:
        wait_until(lambda: job in again.orders)


def test_who_has_too_many_jobs_is_told_when_the_first_of_them_will_have_ended(
    model: Path, take_bytes: bytes, tmp_path: Path
) -> None:
    executor = Hand()
    with service_of(tmp_path, model, executor, in_flight=2, queue=6) as service:
        service.pace.add(100.0)  # seconds a job
        takes = {name: add_take(service, name, take_bytes) for name in ("ada", "bob", "cy", "dee")}
        for name in ("ada", "ada", "bob", "bob"):
            add_job(service, name, takes[name])
        wait_until(lambda: executor.orders)
        waits = {}
        for name in ("ada", "bob"):
            with pytest.raises(RefusedError) as refused:
                add_job(service, name, takes[name])
            waits[name] = refused.value.retry_after_s
        assert waits == {"ada": 100, "bob": 300}
        for name in ("cy", "cy", "dee"):
            add_job(service, name, takes[name])
        with pytest.raises(RefusedError, match="6 jobs wait") as refused:
            add_job(service, "dee", takes["dee"])
        assert refused.value.retry_after_s == 100


def test_the_pace_is_that_of_work_not_of_the_days_that_a_service_was_down(
    model: Path, take_bytes: bytes, tmp_path: Path
) -> None:
    executor = Hand()
    with service_of(tmp_path, model, executor) as service:
        job = add_job(service, "ada", add_take(service, "ada", take_bytes))
        wait_until(lambda: job in executor.orders)
        with service.storage.writing() as connection:
            stored_jobs.change(connection, job, started_s=time.time() - 300_000)
        executor.finish(job)
        wait_until(lambda: state_of(service, "ada", job) == "done")
        assert service.pace.job_s < 60
        assert "restyler_job_seconds_sum 3" not in service.metrics_text()


def test_connections_to_the_database_are_no_more_than_are_used_at_once(model: Path, tmp_path: Path) -> None:
    """Threads of a server come and go, some thousands a day."""
    with service_of(tmp_path, model, Hand()) as service:

        def ask() -> None:
            assert service.takes.every("ada") == []

        def open_files() -> int:
            count = 0
            for link in Path("/proc/self/fd").iterdir():
                with suppress(FileNotFoundError):  # that of this very loop
                    count += service.storage.path.name in str(link.readlink())
            return count

        before = open_files()
        for _ in range(50):
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        assert open_files() <= before + 4


def test_a_reference_is_called_in_the_comment_what_its_owner_calls_it(
    model: Path, take_bytes: bytes, tmp_path: Path
) -> None:
    from restyler.sample import parser
    from restyler.sample_plan import MOST_REFERENCES, references_text, require_together

    executor = Hand()
    with service_of(tmp_path, model, executor) as service:
        names = ["Finished = 2/x.flac", "歌" * 60, *(f"take {n}" for n in range(MOST_REFERENCES - 2))]
        used = [add_take(service, "ada", take_bytes, name) for name in names]
        take = add_take(service, "ada", take_bytes)
        told = [{"take": one, "weight": 1.2345e-05} for one in used]
        told[0].pop("weight")
        job = add_job(service, "ada", take, reference=told)
        wait_until(lambda: job in executor.orders)
        options = parser().parse_args(executor.orders[job][0].arguments)
        require_together(options)  # all of their names fit
        assert references_text(options.reference).startswith(f"Finished = 2_x.flac, {'歌' * 6}=1.2345e-05, take 0=")
        assert all(path.read_bytes() == take_bytes for path, _ in options.reference)


def test_what_was_half_written_at_a_kill_is_cleaned_at_the_next_start(model: Path, tmp_path: Path) -> None:
    with service_of(tmp_path, model, Hand()):
        pass
    left = [tmp_path / name for name in ("uploads/a/a.audio", "trash/b/c", "derived/.a.tmp")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    with service_of(tmp_path, model, Hand()):
        assert not any(path.exists() for path in left)
        assert not list((tmp_path / "uploads").iterdir())


def test_files_of_other_formats_go_by_their_last_use(model: Path, tmp_path: Path) -> None:
    import os

    with service_of(tmp_path, model, Hand()) as service:
        places, now_s = service.places, time.time()
        for age_s, name in ((4000, "old"), (3000, "older but used"), (2000, "new"), (10, "sent now")):
            places.derived(name).write_bytes(bytes(100))
            os.utime(places.derived(name), (now_s, now_s - age_s))  # read just now, as a backup does
        assert places.use_derived("older but used") == places.derived("older but used")
        assert places.use_derived("never was") is None
        places.keep_derived_under(250, now_s=now_s)
        assert {path.name for path in places.derived("").iterdir()} == {"older but used", "sent now"}
        places.keep_derived_under(0, now_s=now_s)
        assert {path.name for path in places.derived("").iterdir()} == {"older but used", "sent now"}
        places.keep_derived_under(0, now_s=now_s + 100)
        assert not list(places.derived("").iterdir())
