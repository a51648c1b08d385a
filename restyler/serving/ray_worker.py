"""What runs in a process of Ray: the model, loaded once, and one job at a time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

from restyler.serving.executor import LAST_REPORTS, JobOrder, Report


class RayWorker:
    """Made an actor by `ray_executor`; knows nothing of Ray itself."""

    def __init__(self, model: Path, device: str) -> None:
        from restyler.rendering import load_model

        self._pipeline = load_model(model, device)
        self._cancelled: set[str] = set()

    def pid(self) -> int:
        """Of its process. The answer comes once the model is loaded."""
        return os.getpid()

    def cancel(self, job: str) -> None:
        """Of a job that runs: it ends at the next piece of work."""
        self._cancelled.add(job)

    def work(self, order: JobOrder) -> Iterator[Report]:
        """Reports as they come; the last is one of LAST_REPORTS."""
        from restyler.serving.work import run

        self._cancelled.discard(order.job)
        reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        arguments = (order, self._pipeline, reports.put, lambda: order.job in self._cancelled)
        threading.Thread(target=run, args=arguments, name=f"job {order.job}", daemon=True).start()
        while True:
            report = reports.get()
            yield report
            if isinstance(report, LAST_REPORTS):
                return
