"""Removes what the broker keeps of ours: retained values below the base, and devices announced to Home Assistant.

It asks the broker what it keeps, and uses no state folder, so it also finds what other machines or older versions left.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from streamav.publish.client import open_client
from streamav.publish.credentials import Credentials
from streamav.publish.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.config import MqttSettings
    from streamav.publish.client import Client, Incoming

__all__ = ["purge"]

REMOVED_S = 1.0
"""Home Assistant needs this long to remove its entities; it complains of each value that is cleared under one, seconds (our choice)."""
QUIET_S = 1.0
"""The broker has sent everything that it keeps when nothing has arrived for this long, seconds (our choice)."""
MOST_KEPT = 100_000
"""Most retained values that are removed in one call (our choice)."""


async def purge(settings: MqttSettings, client_id: str, say: Callable[[str], None]) -> list[str]:
    """Clear every retained value of ours and return its topics, sorted.

    Args:
        settings: the broker and the base.
        client_id: our id at the broker; not that of a run.
        say: takes a warning.

    Raises:
        ConnectionFailedError: when the broker cannot be reached, or the connection is lost.
        RefusedError: when the broker does not let us clear a value.
    """
    topics = Topics(settings.base)
    async with open_client(settings, Credentials(settings), client_id, None) as client:
        kept = await _kept(client, [f"{settings.base}/#", f"{settings.homeassistant_prefix}/device/+/config"])
        ours = [one for one in kept if one.topic.startswith(f"{settings.base}/") or _is_ours(one, topics)]
        devices = [one for one in ours if not one.topic.startswith(f"{settings.base}/")]
        for one in devices:
            await client.publish(one.topic, b"", qos=1, retain=True)
        if devices:
            await asyncio.sleep(REMOVED_S)
        for one in ours:
            if one not in devices:
                await client.publish(one.topic, b"", qos=1, retain=True)
    if any(one.topic == topics.status and one.payload == b"online" for one in ours):
        say("a streamav with this base is running, or was killed; a running one publishes its states again")
    return sorted({one.topic for one in ours})


async def _kept(client: Client, filters: list[str]) -> list[Incoming]:
    """Return the retained messages that the broker sends for the filters."""
    found: list[Incoming] = []
    messages = aiter(client.messages())
    for one in filters:
        await client.subscribe_kept(one)
    while len(found) < MOST_KEPT:
        try:
            message = await asyncio.wait_for(anext(messages), QUIET_S)
        except TimeoutError:
            break
        if message.retained and message.payload:
            found.append(message)
    for one in filters:
        await client.unsubscribe(one)
    return found


def _is_ours(message: Incoming, topics: Topics) -> bool:
    """Return whether a device that was announced to Home Assistant is a source below our base, or our service."""
    try:
        origin = json.loads(message.payload)["o"]["name"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return origin == "streamav" and f'"{topics.status}"'.encode() in message.payload
