"""Publishes messages about events on one open connection: several at once, in their order, and each until the broker has answered.

It does not know when an event is due (session) or what is dropped when too much waits (outbox).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamav.publish.extras import Extras
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.limits import TOO_LARGE, RefusedError
from streamav.publish.message import SCHEMA, fitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.publish.connection import Connection
    from streamav.publish.limits import Limits
    from streamav.publish.outbox import Parcel
    from streamav.publish.pending import Pending

__all__ = ["Delivery", "within"]


class Delivery:
    """Sends messages about events while at most `Limits.window` of them wait for an answer.

    The broker answers in the order of the messages, so their order stays, also after a loss: what was not answered is sent again, oldest
    first. Two kinds of messages go alone, because a later message must not overtake them. The first kind is larger than all messages that
    the broker has accepted on this connection: the broker may refuse it, and then it is sent again with fewer segments. The second kind
    was on its way when the broker closed the connection or had no room for it.
    """

    def __init__(self, connection: Connection, pending: Pending) -> None:
        """Store the open connection and what waits."""
        self._connection = connection
        self._pending = pending
        self._under_way = 0
        self._alone = False  # True while a message that no other may follow is on its way
        self._accepted_bytes = 0  # the largest payload that was accepted on this connection
        self._answered = asyncio.Event()

    async def empty_outbox(self) -> None:
        """Publish what waits until nothing does; a message leaves the outbox when the broker has answered it.

        Raises:
            ConnectionFailedError: when the connection is lost, alone or in a group.
        """
        outbox = self._pending.outbox
        while len(outbox):
            async with asyncio.TaskGroup() as tasks:
                while (parcel := outbox.following) is not None:
                    await self._room_for(parcel)
                    await self._pending.store.stored(parcel)
                    if outbox.following is parcel:  # the full outbox may have removed it meanwhile
                        outbox.sending(parcel)
                        self._start(tasks, parcel)

    async def remind(self, parcels: Sequence[Parcel]) -> None:
        """Publish messages that are not in the outbox: the updates of open events after a connect."""
        for parcel in parcels:
            if parcel.message is not None:
                self._pending.note_event(parcel.message)
        await self._pending.store.settle()
        await self.repeat(parcels)

    async def repeat(self, parcels: Sequence[Parcel]) -> None:
        """Publish messages that are not in the outbox, in their order; subscribers drop what they have by its `seq`."""
        async with asyncio.TaskGroup() as tasks:
            for parcel in parcels:
                await self._room_for(parcel)
                self._start(tasks, parcel)

    async def _room_for(self, parcel: Parcel) -> None:
        """Wait until a message may be sent."""
        most = self._connection.limits.window
        while self._under_way and (self._alone or self._under_way >= most or self._goes_alone(parcel)):
            self._answered.clear()
            await self._answered.wait()

    def _goes_alone(self, parcel: Parcel) -> bool:
        size = len(within(self._connection.limits, self._pending, parcel.topic, parcel.payload))
        return size > self._accepted_bytes or parcel.number <= self._pending.careful_until

    def _start(self, tasks: asyncio.TaskGroup, parcel: Parcel) -> None:
        """Begin to send a message; tasks run in the order in which they begin, so the order stays."""
        self._under_way += 1
        self._alone = self._goes_alone(parcel)
        tasks.create_task(self._deliver(parcel))

    async def _deliver(self, parcel: Parcel) -> None:
        try:
            accepted = await self._publish(parcel)
        except (ConnectionFailedError, asyncio.CancelledError) as exc:  # cancelled: another task of the session noticed the loss first
            self._pending.counters.failed += 1
            if isinstance(exc, ConnectionFailedError) and exc.failure.quota:
                self._pending.be_careful()
            raise
        self._under_way -= 1
        self._alone = False
        self._answered.set()
        self._pending.done(parcel, accepted=accepted)

    async def _publish(self, parcel: Parcel) -> bool:
        """Publish a message, with fewer segments if the broker requires it; set it aside and return False when the broker refuses it."""
        pending, limits = self._pending, self._connection.limits
        extras = Extras(schema=SCHEMA if parcel.message else None, expires=True)
        payload = within(limits, pending, parcel.topic, parcel.payload)
        while True:
            try:
                await self._connection.publish(parcel.topic, payload, qos=1, retain=False, extras=extras)
            except RefusedError as exc:
                if exc.code == TOO_LARGE:
                    pending.refuse_size(len(payload), answered=True)
                    shorter = within(limits, pending, parcel.topic, payload)
                    if len(shorter) < len(payload):
                        payload = shorter
                        continue
                pending.set_aside(parcel, exc.reason)
                return False
            break
        self._accepted_bytes = max(self._accepted_bytes, len(payload))
        pending.counters.published += 1
        if len(payload) < len(parcel.payload):
            pending.counters.shortened += 1
            pending.tell_once(
                "events are sent with fewer segments, because the broker accepts no larger ones: raise its limit of message size"
            )
        return True


def within(limits: Limits, pending: Pending, topic: str, payload: bytes) -> bytes:
    """Return a payload that fits what the broker accepts, as far as fewer segments can achieve it."""
    told = limits.payload_bytes(topic)
    bounds = [bound for bound in (told, pending.largest) if bound is not None]
    return fitted(payload, min(bounds)) if bounds else payload
