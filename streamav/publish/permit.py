"""Lets a connection publish only while a permit holds, such as the lease of a worker of a cluster.

It decides nothing about leases, and opens nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.publish.extras import PLAIN, Extras
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.patience import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streamav.publish.client import Incoming
    from streamav.publish.connection import Connection
    from streamav.publish.limits import Limits

__all__ = ["PermittedConnection", "check_permit"]


def check_permit(permit: Callable[[], bool] | None) -> None:
    """Check that publishing is permitted.

    Raises:
        ConnectionFailedError: when it is not.
    """
    if permit is not None and not permit():
        raise ConnectionFailedError(Failure(reason="the lease of this worker is over, another one publishes for its sources"))


class PermittedConnection:
    """A connection that asks for the permit before each message. The rest is passed on."""

    def __init__(self, connection: Connection, permit: Callable[[], bool]) -> None:
        """Wrap an open connection."""
        self._connection = connection
        self._permit = permit

    @property
    def limits(self) -> Limits:
        """What the broker accepts."""
        return self._connection.limits

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, extras: Extras = PLAIN) -> None:
        """Publish a message if it is permitted; ConnectionFailedError otherwise, so that the message stays where it waits."""
        check_permit(self._permit)
        await self._connection.publish(topic, payload, qos=qos, retain=retain, extras=extras)

    async def subscribe(self, topic: str) -> bool:
        """Subscribe to a topic; return False when the broker refuses."""
        return await self._connection.subscribe(topic)

    async def subscribe_kept(self, topic: str) -> bool:
        """Subscribe to a topic, also to what the broker has kept there; return False when the broker refuses."""
        return await self._connection.subscribe_kept(topic)

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from a topic."""
        await self._connection.unsubscribe(topic)

    def messages(self) -> AsyncIterator[Incoming]:
        """Yield each message that arrives."""
        return self._connection.messages()
