"""Ends connections without a request: a client that sends nothing, or a request without an end, must not take a place from others.

uvicorn limits the pause between two requests of a connection, but neither the time until the first one nor that of its header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    import h11

__all__ = ["ASK_S", "HurriedProtocol"]

ASK_S: Final = 10.0
"""Longest time of a connection without the whole header of a request, s (our choice)."""


class HurriedProtocol(H11Protocol):  # type: ignore[misc]  # mypy sees no types of this module
    """uvicorn's protocol with a limit of the time until a request has begun."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what was sent; stop waiting where a request has begun."""
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._wait()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the WebSocket, which has limits of its own."""
        self._stop()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait with the connection."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._deadline is None and self in self.connections:
            self._deadline = self.loop.call_later(ASK_S, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
