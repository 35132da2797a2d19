"""Hears what a broker delivers, over restarts of the broker, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiomqtt

from streamav.publish.message import EventMessage, decode

__all__ = ["Heard", "events", "hearing"]

Heard = list[tuple[str, bytes]]
"""Topics and payloads, in the order of arrival."""


@asynccontextmanager
async def hearing(client: Callable[[], aiomqtt.Client], topic: str, ready_s: float = 10.0) -> AsyncIterator[Heard]:
    """Subscribe with a separate client, and again as often as needed; return the list of what arrives.

    Args:
        client: makes the client of each connection.
        topic: filter, subscribed to at QoS 1.
        ready_s: longest wait for the first subscription.
    """
    heard: Heard = []

    async def read() -> None:
        while True:
            try:
                async with client() as one:
                    await one.subscribe(topic, qos=1)
                    ready.set()
                    async for message in one.messages:
                        heard.append((str(message.topic), bytes(message.payload)))
            except aiomqtt.MqttError:
                await asyncio.sleep(0.02)

    ready = asyncio.Event()
    task = asyncio.create_task(read())
    await asyncio.wait_for(ready.wait(), ready_s)
    yield heard
    task.cancel()
    await asyncio.wait([task])


def events(heard: Heard) -> list[EventMessage]:
    """Return the messages about events among what was heard."""
    return [decode(payload) for topic, payload in heard if topic.endswith("/event")]
