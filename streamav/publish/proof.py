"""Checks on one open connection that the broker delivers what we publish: our own probe must come back.

A broker of MQTT 3.1.1 acknowledges also what its access list denies, so there the probe is the only sign.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from streamav.publish.limits import RefusedError

if TYPE_CHECKING:
    from streamav.publish.connection import Connection
    from streamav.publish.pending import Pending
    from streamav.publish.topics import Topics

__all__ = ["Proof"]

PROOF_WAIT_S = 1.0
"""How long a session that ends waits until its probe is sent, and again until it is back, s (our choice). A broker passes a message on at
about the time when it acknowledges it."""


class Proof:
    """The probe of one session."""

    def __init__(self, connection: Connection, pending: Pending, topics: Topics, limit_s: float) -> None:
        """Store what is asked; nothing is sent yet.

        Args:
            connection: an open connection.
            pending: where the result is counted, and where the remedy is told.
            topics: topics of the service.
            limit_s: longest time until the probe is back, seconds.
        """
        self._connection = connection
        self._pending = pending
        self._topics = topics
        self._text = b""
        self._limit_s = limit_s
        self._sent = asyncio.Event()
        self._back = asyncio.Event()

    def take(self, topic: str, payload: bytes) -> bool:
        """Take a message that arrived; return whether it is the probe."""
        if not self._text or (topic, payload) != (self._topics.probe, self._text):
            return False
        self._pending.counters.proven = True
        self._back.set()
        return True

    async def ask(self, text: bytes) -> None:
        """Send a probe with a text, different in each session, and wait for it."""
        self._text = text
        granted = await self._connection.subscribe(self._topics.probe)
        try:
            await self._connection.publish(self._topics.probe, self._text, qos=1, retain=False)
            self._sent.set()
            if not granted:
                raise TimeoutError  # noqa: TRY301 - a refusal means the same as no answer
            await asyncio.wait_for(self._back.wait(), self._limit_s)
        except (TimeoutError, RefusedError):
            self._miss()
        await self._connection.unsubscribe(self._topics.probe)

    async def conclude(self) -> None:
        """Wait a short time for the probe of a session that ends, where the broker does not tell what it denies."""
        if self._connection.limits.tells_refusals or self._pending.counters.proven:
            return
        with suppress(TimeoutError):  # one that was not even sent shows nothing
            await asyncio.wait_for(self._sent.wait(), PROOF_WAIT_S)
            try:
                await asyncio.wait_for(self._back.wait(), PROOF_WAIT_S)
            except TimeoutError:
                self._miss()

    def _miss(self) -> None:
        """Count a probe that did not come back, and say once what to do."""
        counters, rights = self._pending.counters, f"its access list must let us write {self._topics.base}/# and read {self._topics.probe}"
        counters.probe_failures += 1
        if self._connection.limits.tells_refusals:
            self._pending.tell_once(f"the broker accepts our messages but did not deliver the probe: {rights}")
            return
        counters.unproven = True
        self._pending.tell_once(
            f"the broker acknowledges our messages but did not deliver the probe, so perhaps it delivers none: {rights}. "
            "A broker of MQTT 3.1.1 does not tell what it denies; mqtt.protocol=5 does"
        )
