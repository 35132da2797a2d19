"""A stand-in for the connection to an MQTT broker, for the tests of publishing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streamav.publish.client import Incoming
from streamav.publish.extras import PLAIN, Extras
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.limits import Limits, RefusedError
from streamav.publish.patience import Failure


@dataclass
class FakeBroker:
    """Replaces the broker and the client library: records the published messages and fails on request."""

    log: list[tuple[str, bytes, int, bool]] = field(default_factory=list)
    failures: Iterator[Failure] = field(default_factory=lambda: iter(()))
    """Failures of the next calls of connect, one per call; the calls after them succeed."""
    ids: list[str] = field(default_factory=list)
    connected: bool = False
    fail_after: int | None = None
    """Lose the connection at the publish after this many messages."""
    crash_after: int | None = None
    """Raise an unexpected error at the publish after this many messages."""
    echo: bool = True
    """False: probe messages do not come back, as when the broker's access list denies them."""
    limits: Limits = field(default_factory=Limits)
    refusals: dict[str, int] = field(default_factory=dict)
    """Topic -> reason code with which every message there is refused."""
    remembers: bool = True
    """False: retained values do not survive the connection, as with a broker that restarts without persistence."""
    filters: list[str] = field(default_factory=list)
    """What was subscribed to."""
    _broken: bool = False
    _incoming: asyncio.Queue[Incoming | None] = field(default_factory=asyncio.Queue)

    @asynccontextmanager
    async def connect(self, client_id: str) -> AsyncIterator[FakeBroker]:
        self.ids.append(client_id)
        if (failure := next(self.failures, None)) is not None:
            raise ConnectionFailedError(failure)
        self.connected, self._broken = True, False
        self._incoming = asyncio.Queue()
        try:
            yield self
        finally:
            self.connected = False

    def tell(
        self, topic: str, payload: bytes, *, retained: bool = False, response: str | None = None, correlation: bytes | None = None
    ) -> None:
        """Deliver a message to the service."""
        self._incoming.put_nowait(Incoming(topic, payload, retained, response, correlation))

    def lose(self) -> None:
        """Lose the connection; the reader of messages gets the error."""
        self._incoming.put_nowait(None)

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, extras: Extras = PLAIN) -> None:
        await asyncio.sleep(0)
        if self._broken:  # nothing more passes on a connection that is lost
            raise ConnectionFailedError(Failure(reason="lost"))
        if self.fail_after is not None and len(self.log) >= self.fail_after:
            self.fail_after, self._broken = None, True
            raise ConnectionFailedError(Failure(reason="lost"))
        if self.crash_after is not None and len(self.log) >= self.crash_after:
            self.crash_after = None
            msg = "a fault"
            raise RuntimeError(msg)
        if topic in self.refusals:
            raise RefusedError(self.refusals[topic])
        self.log.append((topic, payload, qos, retain))
        if self.echo and topic.endswith("/doctor/probe"):
            self._incoming.put_nowait(Incoming(topic, payload, retained=False))

    async def subscribe(self, topic: str) -> bool:
        self.filters.append(topic)
        return True

    async def subscribe_kept(self, topic: str) -> bool:
        kept = [payload for place, payload, _, retain in self.log if place == topic and retain]
        if self.remembers and kept and kept[-1]:
            self._incoming.put_nowait(Incoming(topic, kept[-1], retained=True))
        return True

    async def unsubscribe(self, topic: str) -> None:
        pass

    async def messages(self) -> AsyncIterator[Incoming]:
        while (item := await self._incoming.get()) is not None:
            yield item
        raise ConnectionFailedError(Failure(reason="lost"))
