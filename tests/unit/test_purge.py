"""Tests of `mqtt purge` on a broker that hides what it keeps; the tests on real brokers are in tests/integration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streamav.config import MqttSettings
from streamav.errors import BrokerError
from streamav.publish.client import Incoming
from streamav.publish.limits import Limits
from streamav.publish.purge import purge

SETTINGS = MqttSettings(host="broker", timeout_s=0.2)


class Broker:
    """A broker that keeps values, and delivers to one client what is published; it shows what it keeps only if it is told to."""

    def __init__(self, *, shows: bool) -> None:
        self._shows, self.kept = shows, {"streamav/status": b"offline"}
        self.limits, self._sent, self._filters = Limits(), asyncio.Queue[Incoming](), set[str]()

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        if retain:
            self.kept[topic] = payload
        if f"{topic.partition('/')[0]}/#" in self._filters:
            self._sent.put_nowait(Incoming(topic, payload, retained=False))

    async def subscribe_kept(self, topic: str) -> bool:
        self._filters.add(topic)
        if self._shows and topic.endswith("#"):
            for one, payload in self.kept.items():
                self._sent.put_nowait(Incoming(one, payload, retained=True))
        return True

    async def unsubscribe(self, topic: str) -> None:
        self._filters.discard(topic)

    async def messages(self) -> AsyncIterator[Incoming]:
        while True:
            yield await self._sent.get()


@pytest.fixture(autouse=True)
def _shorter_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamav.publish.purge.QUIET_S", 0.05)


def use(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Broker]:
        yield broker

    monkeypatch.setattr("streamav.publish.purge.open_client", opened)


async def test_a_broker_that_hides_what_it_keeps_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where filters with wildcards get nothing that is kept, the purge is an error that says so, never "0 values cleared"."""
    broker = Broker(shows=False)
    use(monkeypatch, broker)
    with pytest.raises(BrokerError, match="nothing that it keeps to a filter with wildcards"):
        await purge(SETTINGS, "purge", lambda _: None)
    assert {topic for topic, payload in broker.kept.items() if payload} == {"streamav/status"}


async def test_an_empty_broker_has_nothing_to_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that shows what it keeps and keeps nothing is no error, and the mark of the purge does not stay."""
    broker = Broker(shows=True)
    broker.kept.clear()
    use(monkeypatch, broker)
    assert await purge(SETTINGS, "purge", lambda _: None) == []
    assert not any(broker.kept.values())
