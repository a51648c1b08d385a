"""Asking a training run to stop in good order."""

from __future__ import annotations

import signal
from typing import Any


def leave_to_parent(_worker: int) -> None:
    """Has a process that reads examples ignore what is meant for its parent, which ends it in good order: launchers and
    terminals send such signals to all processes of a run, and a run can't finish its step without its readers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """SIGTERM and SIGINT ask for a stop after the current step; a second one acts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, number: int, _frame: Any) -> None:
        self.signal = number
        self.restore()

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
