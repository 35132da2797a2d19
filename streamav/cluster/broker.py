"""Does the controller's work at the MQTT broker: speaks for the service, watches events, and closes old connections.

The service's `status` and `info` are its own; the topics of a source belong to the worker that runs it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from streamav.cluster.open_events import OpenEvents
from streamav.publish.client import open_client
from streamav.publish.credentials import Credentials
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.state_folder import default_state_dir
from streamav.publish.topics import Topics
from streamav.types import SourceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.config import MqttSettings, Settings
    from streamav.publish import ModelEntry

__all__ = ["ClusterBroker"]

_log = logging.getLogger(__name__)
_FENCE_TRIES = 3
_PAUSE_S = 1.0
"""Pause between two attempts to close a connection, and longest wait for the last ends, s (our choice)."""
_LAST_ENDS = 20
"""Looks for the last ends, over one pause."""


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
        self._open = OpenEvents(folder / "open-events.json")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start to connect; return at once."""
        await self._voice.start()
        self._tasks = [asyncio.create_task(self._follow(), name="events"), asyncio.create_task(self._keep(), name="open events")]

    async def close(self) -> None:
        """Say that the service is offline, and disconnect. The ends of the last events are waited for, a short time."""
        for _ in range(_LAST_ENDS):
            if not self._open:
                break
            await asyncio.sleep(_PAUSE_S / _LAST_ENDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._open.save()
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
        return self._open.of(source)

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
                        self._open.take(incoming.payload)
            await asyncio.sleep(_PAUSE_S)

    async def _keep(self) -> None:
        """Write the open events down, for the run that follows a kill of this one."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            self._open.save()
