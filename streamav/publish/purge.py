"""Removes what the broker keeps of ours: retained values below the base, and devices announced to Home Assistant.

It asks the broker what it keeps, and uses no state folder, so it also finds what other machines or older versions left.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import TYPE_CHECKING

from streamav.errors import BrokerError
from streamav.publish.client import open_client
from streamav.publish.credentials import Credentials
from streamav.publish.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamav.config import MqttSettings
    from streamav.publish.client import Client, Incoming

__all__ = ["purge"]

REMOVED_S = 1.0
"""Time for Home Assistant to remove its entities, seconds (our choice); it logs a warning for each value that is cleared before that."""
QUIET_S = 1.0
"""The broker has sent everything that it keeps when no kept message has arrived for this long, seconds (our choice)."""
MOST_ROUNDS = 200
"""Most rounds of asking and clearing (our choice); a round sees at most as many values as the queue of incoming messages holds."""

_CANNOT_READ = (
    "the broker does not let this user read {base}/#, so we cannot know what it keeps there; use a user who may read and write it"
)
_HIDDEN = (
    "the broker sends nothing that it keeps to a filter with wildcards (RabbitMQ 3 does not), so it is not known what it keeps below "
    "{base}; clear each topic by itself: mosquitto_pub -q 1 -r -n -t {base}/status"
)
_STAY = "the broker still keeps {count} values that were cleared, such as {topic}; its access list must let this user write there"


async def purge(settings: MqttSettings, client_id: str, say: Callable[[str], None]) -> list[str]:
    """Clear every retained value of ours and return its topics, sorted.

    Args:
        settings: the broker and the base.
        client_id: our id at the broker; not that of a run.
        say: takes a warning.

    Raises:
        ConnectionFailedError: when the broker cannot be reached, or the connection is lost.
        RefusedError: when the broker does not let us clear a value.
        BrokerError: when it does not let us read what it keeps, does not show it, or keeps what was cleared.
    """
    topics = Topics(settings.base)
    cleared: dict[str, bytes] = {}
    async with open_client(settings, Credentials(settings), client_id, None) as client:
        for _ in range(MOST_ROUNDS):
            kept = await _kept(client, settings)
            if not (kept or cleared or await _shows_kept(client, settings)):
                raise BrokerError(_HIDDEN.format(base=settings.base))
            ours = {one.topic: one.payload for one in kept if one.topic.startswith(f"{settings.base}/") or _is_ours(one, topics)}
            if not ours:
                break
            if ours.keys() <= cleared.keys():  # MQTT 3.1.1 does not say that a message is denied
                raise BrokerError(_STAY.format(count=len(ours), topic=min(ours)))
            cleared |= ours
            devices = [topic for topic in ours if not topic.startswith(f"{settings.base}/")]
            await _clear(client, devices)
            if devices:
                await asyncio.sleep(REMOVED_S)
            await _clear(client, [topic for topic in ours if topic not in devices])
    if cleared.get(topics.status) == b"online":
        say("a streamav with this base is running, or was killed; a running one publishes its states again")
    return sorted(cleared)


async def _clear(client: Client, topics: Iterable[str]) -> None:
    """Remove kept values."""
    for topic in topics:
        await client.publish(topic, b"", qos=1, retain=True)


async def _kept(client: Client, settings: MqttSettings) -> list[Incoming]:
    """Return retained messages that the broker sends for the base and for the devices of Home Assistant.

    Raises:
        BrokerError: when the broker does not let us read below the base.
    """
    filters = [f"{settings.base}/#", f"{settings.homeassistant_prefix}/device/+/config"]
    granted = [await client.subscribe_kept(one) for one in filters]
    topics, incoming = Topics(settings.base), aiter(client.messages())
    await client.publish(topics.purge_mark, secrets.token_hex(8).encode(), qos=1, retain=False)
    found: list[Incoming] = []
    readable = False
    end_s = time.monotonic() + max(QUIET_S, settings.timeout_s)
    while (left_s := end_s - time.monotonic()) > 0.0:
        try:
            async with asyncio.timeout(left_s):
                message = await anext(incoming)
        except TimeoutError:
            break
        if message.retained and message.payload:
            found.append(message)
        elif message.topic != topics.purge_mark:
            continue  # what others publish meanwhile
        readable = readable or _proves_rights(message.topic, topics)
        if readable:
            end_s = time.monotonic() + QUIET_S
    for one in filters:
        await client.unsubscribe(one)
    if not (readable and granted[0]):
        raise BrokerError(_CANNOT_READ.format(base=settings.base))
    return found


async def _shows_kept(client: Client, settings: MqttSettings) -> bool:
    """Return whether the broker sends kept messages to a filter with wildcards; a broker that keeps nothing has nothing to show."""
    mark = Topics(settings.base).purge_mark
    if not client.limits.retain:
        return True
    await client.publish(mark, secrets.token_hex(8).encode(), qos=1, retain=True)
    await client.subscribe_kept(f"{settings.base}/#")
    try:
        async with asyncio.timeout(max(QUIET_S, settings.timeout_s)):
            async for message in client.messages():
                if message.retained and message.topic == mark:
                    return True
    except TimeoutError:
        pass
    finally:
        await client.unsubscribe(f"{settings.base}/#")
        await client.publish(mark, b"", qos=1, retain=True)
    return False


def _proves_rights(topic: str, topics: Topics) -> bool:
    """Return whether a message at a topic shows that we may read below the base; a run itself needs to read status and probes only."""
    return topic == topics.purge_mark or (
        topic.startswith(f"{topics.base}/") and topic != topics.status and not topic.startswith(f"{topics.base}/doctor/")
    )


def _is_ours(message: Incoming, topics: Topics) -> bool:
    """Return whether a device that was announced to Home Assistant is a source below our base, or our service."""
    try:
        origin = json.loads(message.payload)["o"]["name"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return origin == "streamav" and f'"{topics.status}"'.encode() in message.payload
