"""Asking a training run to stop in good order."""

from __future__ import annotations

import signal
from typing import Any


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
