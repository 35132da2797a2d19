"""Sends messages to browsers. Each viewer has a bounded queue; one that does not keep up is dropped and may come back.

Everything here runs on the event loop of the page's own thread.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MOST_VIEWERS", "Viewer", "Viewers"]

_log = logging.getLogger(__name__)

MOST_VIEWERS = 32
"""Most viewers at the same time; further ones are refused (our choice)."""
_QUEUE = 256
"""Messages that may wait for one viewer: two minutes of one source at its own pace."""


class _Connection(Protocol):
    async def send_text(self, data: str) -> None: ...


class Viewer:
    """One browser."""

    def __init__(self) -> None:
        """Start with an empty queue."""
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue(_QUEUE)
        self.dropped = False
        """True when it did not keep up."""
        self.on_drop: Callable[[], object] | None = None
        """Called when it is dropped, because a send to a dead browser never returns."""

    def put(self, message: str | None) -> bool:
        """Put a message (None: the end) into the queue; return False when it is full."""
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.dropped = True
            return False
        return True

    async def serve(self, connection: _Connection, first: Sequence[str]) -> None:
        """Send the *first* messages, then every message that is put, until the end."""
        for message in first:
            await connection.send_text(message)
        while True:
            newest = await self._waiting.get()
            if newest is None:
                return
            await connection.send_text(newest)


class Viewers:
    """All browsers that are connected."""

    def __init__(self) -> None:
        """Start with none."""
        self._viewers: set[Viewer] = set()
        self.dropped = 0
        """How many viewers were dropped since the start."""

    def __len__(self) -> int:
        """Return how many are connected."""
        return len(self._viewers)

    @property
    def full(self) -> bool:
        """True when no further viewer is taken."""
        return len(self._viewers) >= MOST_VIEWERS

    def add(self) -> Viewer:
        """Add a viewer, which receives all messages from now on."""
        viewer = Viewer()
        self._viewers.add(viewer)
        return viewer

    def remove(self, viewer: Viewer) -> None:
        """Forget a viewer; one that was dropped is gone already."""
        self._viewers.discard(viewer)

    def send(self, message: str | None) -> None:
        """Put a message into the queue of every viewer, and drop those whose queue is full."""
        for viewer in [one for one in self._viewers if not one.put(message)]:
            self._viewers.discard(viewer)
            self.dropped += 1
            _log.warning("a viewer of the live page does not keep up and was dropped; it may connect again")
            if viewer.on_drop is not None:
                viewer.on_drop()
