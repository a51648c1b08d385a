"""Connections on which nothing comes, or a request so slowly that it holds a place for nothing, are closed.

Uvicorn waits for the head of a request as long as it takes; some thousands of such connections would leave none for
listeners.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0


class PromptProtocol(H11Protocol):
    """HTTP/1.1 where each head of a request must be there `head_s` seconds after the connection or its first byte."""

    head_s = HEAD_S
    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:  # the head is there
            self._leave()
        elif self._giving_up is None:
            self._giving_up = self.loop.call_later(self.head_s, self.transport.close)

    def _leave(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
