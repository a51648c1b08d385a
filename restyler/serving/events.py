"""Server-sent events of a job: what happened since the last one that a listener has, and then as it happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio

from restyler.serving import stored_events, stored_jobs
from restyler.serving.refusals import RefusedError
from restyler.serving.service import Service

HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"


def _event(number: int, kind: str, data: str) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode()


async def stream(
    service: Service, owner: str, job: str, last: int | None, heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[bytes]:
    """last: the number of the last event that the listener has; without one, the job as it is comes first.

    Ends after the job's last state, when the job is deleted, and when the service ends. Raises RefusedError where it is
    nobody's job (404) or one stream too many (429), before the first event.
    """

    def job_now() -> tuple[int, str, str]:
        with service.storage.reading() as connection:
            row = stored_jobs.row_of(connection, owner, job)
            number = stored_events.last(connection, job)
            return number, row["state"], json.dumps(stored_jobs.answer(connection, row))

    def since(number: int) -> tuple[list[tuple[int, str, str]], str]:
        with service.storage.reading() as connection:
            row = stored_jobs.row_of(connection, owner, job)
            return stored_events.after(connection, job, number), row["state"]

    with service.hub.listening(owner, job) as listener:
        number, state, data = await anyio.to_thread.run_sync(job_now)
        yield b""  # what is refused is refused by now
        if last is None:
            yield _event(number, "state", data)
        else:
            number = last
        try:
            while not (last is None and state in stored_jobs.ENDED) and not service.draining:
                found, state = await anyio.to_thread.run_sync(since, number)
                for number, kind, text in found:
                    yield _event(number, kind, text)
                if state in stored_jobs.ENDED:
                    return
                if not await listener.wait(heartbeat_s):
                    yield HEARTBEAT
        except RefusedError:  # deleted in the meantime
            return
