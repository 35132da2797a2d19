"""What the controller of a cluster does at the MQTT broker: it speaks for the service, watches events, and closes old connections.

The service's `status` and `info` are its own; the topics of a source belong to the worker that runs it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from streamav.publish.client import open_client
from streamav.publish.credentials import Credentials
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.message import MessageError, decode
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.state_folder import default_state_dir
from streamav.publish.topics import Topics
from streamav.types import SourceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.config import MqttSettings, Settings
    from streamav.publish import EventMessage, ModelEntry

__all__ = ["ClusterBroker"]

_log = logging.getLogger(__name__)
_FENCE_TRIES = 3
_PAUSE_S = 1.0


class ClusterBroker:
    """The controller at the broker. Call its methods in the thread of the event loop only."""

    def __init__(self, settings: Settings, mqtt: MqttSettings, model: ModelEntry, sources: Sequence[str]) -> None:
        """Prepare; nothing is connected before start().

        Args:
            settings: of the cluster's run.
            mqtt: its broker.
            model: what `info` says of the model.
            sources: all sources of the cluster, for `info`.
        """
        self._mqtt = mqtt
        self._credentials = Credentials(mqtt)
        folder = (settings.state_dir or default_state_dir()) / "cluster" / "service"
        self._voice = MqttSink(mqtt, MqttIdentity(model=lambda: model, sources={}, listed=sources), folder)
        self._open: dict[str, dict[str, EventMessage]] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to connect; return at once."""
        await self._voice.start()
        self._watch = asyncio.create_task(self._follow(), name="events")

    async def close(self) -> None:
        """Say that the service is offline, and disconnect."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await self._voice.close()

    async def fence(self, client_id: str) -> None:
        """Take the connection of a client id over, so that the broker closes it (MQTT 5.0 and 3.1.1, section 3.1.4), and leave.

        What a frozen worker had already handed to its socket then never arrives.

        Raises:
            ConnectionFailedError: when the broker cannot be reached.
        """
        for attempt in range(1, _FENCE_TRIES + 1):
            try:
                async with open_client(self._mqtt, self._credentials, client_id, None):
                    return
            except ConnectionFailedError:
                if attempt == _FENCE_TRIES:
                    raise
                await asyncio.sleep(_PAUSE_S)

    def left_open(self, source: str) -> tuple[bytes, ...]:
        """Return the newest messages of the events of a source that have no end at the broker."""
        return tuple(message.to_bytes() for message in self._open.get(source, {}).values())

    def lost(self, source: str, reason: str) -> None:
        """Publish that a source is lost, as long as no worker runs it."""
        self._voice.source_state(source, SourceState.LOST, reason)

    def placed(self, source: str) -> None:
        """Leave the topics of a source to the worker that runs it."""
        self._voice.release(source)

    async def _follow(self) -> None:
        """Watch the events of all sources, connecting again and again."""
        topics = Topics(self._mqtt.base)
        name = f"streamav-watch-{secrets.token_hex(4)}"
        while True:
            with suppress(ConnectionFailedError):
                async with open_client(self._mqtt, self._credentials, name, None) as client:
                    await client.subscribe(topics.any_event)
                    async for incoming in client.messages():
                        self._take(incoming.payload)
            await asyncio.sleep(_PAUSE_S)

    def _take(self, payload: bytes) -> None:
        try:
            message = decode(payload)
        except MessageError:
            return
        events = self._open.setdefault(message.source, {})
        if message.active:
            events[message.id] = message
        else:
            events.pop(message.id, None)
