"""The process that a local executor gives its jobs to: the model, loaded once, and nothing of the service."""

from __future__ import annotations

import os
import queue
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from restyler.serving.executor import JobOrder, Report

READY = "ready"
CANCEL = "cancel"


def serve(channel: Connection, model: Path, device: str) -> None:
    """Does orders in turn until the other end of the channel closes, however that came about; then it ends at once, so
    that nobody writes mixes beside the worker of the service's next life.

    Comes in: a JobOrder, or (CANCEL, job). Goes out: READY once the model is there, and reports.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the service decides when this one ends
        signal.signal(number, signal.SIG_IGN)
    orders: queue.SimpleQueue[JobOrder] = queue.SimpleQueue()
    cancelled: set[str] = set()

    def listen() -> None:
        try:
            while True:
                said = channel.recv()
                if isinstance(said, JobOrder):
                    cancelled.discard(said.job)
                    orders.put(said)
                else:
                    cancelled.add(said[1])
        except (EOFError, OSError):
            os._exit(0)

    def report(what: Report) -> None:
        try:
            channel.send(what)
        except OSError:
            os._exit(0)

    threading.Thread(target=listen, name="orders", daemon=True).start()

    from restyler.rendering import load_model
    from restyler.serving.work import run

    pipeline = load_model(model, device)
    channel.send(READY)
    while True:
        order = orders.get()
        run(order, pipeline, report, lambda job=order.job: job in cancelled)  # type: ignore[misc]
