"""Defines what publishing needs of an open connection to a broker; the module `client` has the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from streamav.publish.extras import PLAIN, Extras

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamav.publish.client import Incoming
    from streamav.publish.limits import Limits

__all__ = ["Connection"]


class Connection(Protocol):
    """An open connection; every method raises ConnectionFailedError when the connection is lost."""

    @property
    def limits(self) -> Limits:
        """What the broker accepts."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, extras: Extras = PLAIN) -> None:
        """Publish a message; at QoS 1 return after the broker has acknowledged it. Raise RefusedError when it does not accept it."""

    async def subscribe(self, topic: str) -> bool:
        """Subscribe to a topic; return False when the broker refuses."""

    async def subscribe_kept(self, topic: str) -> bool:
        """Subscribe to a topic, also to what the broker has kept there; return False when the broker refuses."""

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from a topic."""

    def messages(self) -> AsyncIterator[Incoming]:
        """Yield each message that arrives."""
