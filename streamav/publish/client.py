"""Opens one connection to an MQTT broker.

Only this module, `library` and `failures` use aiomqtt and paho. It does not reconnect and keeps no state between connections.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamav.publish.extras import PLAIN, Extras
from streamav.publish.failures import ConnectionFailedError, reason_code, translated
from streamav.publish.library import LOG, MAX_QUEUED_INCOMING, Library, abandon, number_of, silence
from streamav.publish.limits import TOO_LARGE, Limits, RefusedError
from streamav.publish.message import MAX_MESSAGE_BYTES
from streamav.publish.patience import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamav.config import MqttSettings
    from streamav.publish.credentials import Credentials

__all__ = ["Client", "Incoming", "open_client"]

WILL_DELAY_S = 5
"""MQTT 5: the broker publishes the will this long after it lost the connection, unless we reconnect before (contract: 5 to 10 s)."""
MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 128 * 1024
"""MQTT 5: the broker sends us no larger packet. A message of the contract with its topic and properties is smaller."""

_FIRST_REFUSAL = 0x80
"""Source: MQTT 5.0, section 2.4: reason codes from 0x80 on are failures."""
_NO_RETAIN, _NO_QOS_1 = 0x9A, 0x9B
"""Source: MQTT 5.0, section 3.2.2.2: the broker accepts no retained will; no will of QoS 1."""
_USED_UP = 0x97
"""Source: MQTT 5.0, section 3.4.2.1: a quota is used up, which may pass."""

_log = logging.getLogger(__name__)


class Incoming(NamedTuple):
    """A message that arrived."""

    topic: str
    payload: bytes
    retained: bool
    """True when the broker had kept the message from before our subscription."""
    response_topic: str | None = None
    """Where an answer is asked for (MQTT 5)."""
    correlation: bytes | None = None
    """What the answer must carry (MQTT 5)."""


class Client:
    """An open connection. All methods raise ConnectionFailedError when the connection is lost."""

    def __init__(self, client: Library, *, version_5: bool, expiry_s: int | None = None) -> None:
        """Store the connected client; *expiry_s*: how long the broker keeps messages that expire, s, None: as long as it wants."""
        self._client = client
        self._limits = replace(client.limits, tells_refusals=version_5)
        self._expiry_s = expiry_s
        self._version_5 = version_5

    @property
    def limits(self) -> Limits:
        """What the broker accepts."""
        return self._limits

    @property
    def discarded(self) -> int:
        """Number of messages that were lost because they arrived faster than they were read."""
        return self._client.discarded

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, extras: Extras = PLAIN) -> None:
        """Publish a message; at QoS 1 return after the broker has acknowledged it. QoS and retain are lowered to the broker's limits.

        Args:
            topic: topic of the message.
            payload: bytes of the message.
            qos: 0 or 1.
            retain: whether the broker keeps the message.
            extras: properties beside the payload (MQTT 5).

        Raises:
            RefusedError: when the broker does not accept this message. Only MQTT 5 tells; with 3.1.1 the message is lost unnoticed.
        """
        most = self._limits.payload_bytes(topic)
        if most is not None and len(payload) > most:
            raise RefusedError(TOO_LARGE)  # sent all the same, it would cost the connection
        properties = self._properties(extras) if self._version_5 else None
        with translated():
            code = await self._client.send(topic, payload, min(qos, self.limits.max_qos), properties, retain=retain and self.limits.retain)
        if code == _USED_UP:
            raise ConnectionFailedError(Failure(reason="the broker's quota is used up: raise its limit of queued messages", quota=True))
        if code >= _FIRST_REFUSAL:
            raise RefusedError(code)

    def _properties(self, extras: Extras) -> Properties | None:
        """Return the properties of a message of MQTT 5; None for none."""
        schema, expires, correlation, epoch = extras
        expiry_s = self._expiry_s if expires else None
        if schema is None and correlation is None and epoch is None and expiry_s is None:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho's
        if schema is not None:
            properties.ContentType = "application/json"
            properties.UserProperty = ("schema", schema)
        if epoch is not None:
            properties.UserProperty = ("epoch", str(epoch))
        if correlation is not None:
            properties.CorrelationData = correlation
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        return properties

    async def subscribe(self, topic: str) -> bool:
        """Subscribe at QoS 1; return False when the broker refuses. Many brokers accept the subscription but deliver nothing.

        With MQTT 5 the broker delivers neither messages that it has kept nor, except on a topic below `doctor`, our own messages.
        """
        options = None
        if self._version_5:
            own = "/doctor/" in topic
            options = SubscribeOptions(qos=1, noLocal=not own, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        with translated():
            granted = await self._client.subscribe(topic, qos=0 if options else 1, options=options)  # paho: one of the two
        return all(number_of(code) < _FIRST_REFUSAL for code in granted)

    async def subscribe_kept(self, topic: str) -> bool:
        """Subscribe at QoS 1, also to the messages that the broker has kept; return False when the broker refuses."""
        with translated():
            granted = await self._client.subscribe(topic, qos=1)
        return all(number_of(code) < _FIRST_REFUSAL for code in granted)

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from a topic."""
        with translated():
            await self._client.unsubscribe(topic)

    async def messages(self) -> AsyncIterator[Incoming]:
        """Yield each message that arrives; only the loss of the connection ends it, with an error."""
        with translated():
            async for message in self._client.messages:
                properties = message.properties
                response, correlation = getattr(properties, "ResponseTopic", None), getattr(properties, "CorrelationData", None)
                yield Incoming(str(message.topic), message.payload, message.retain, response, correlation)


@asynccontextmanager
async def open_client(settings: MqttSettings, credentials: Credentials, client_id: str, will_topic: str | None) -> AsyncIterator[Client]:
    """Connect, yield the connection, and disconnect.

    Leaving the block always sends a clean DISCONNECT, also after an error. The broker then discards the will. A client that published
    "online" must therefore publish "offline" before it leaves the block. A broker that accepts no retained will, or no will of QoS 1, gets
    the will without it.

    Args:
        settings: broker, user, protocol, times.
        credentials: password and certificates.
        client_id: our id at the broker; the broker disconnects us when a second client connects with the same id.
        will_topic: topic where the broker publishes "offline", retained, when our connection breaks; None for no will.

    Raises:
        ConnectionFailedError: when the connection cannot be made.
    """
    client = await _connected(settings, credentials, client_id, will_topic)
    try:
        yield Client(client, version_5=settings.protocol == "5", expiry_s=settings.expiry_s)
    finally:
        try:
            with translated():
                await client.__aexit__(None, None, None)
        except ConnectionFailedError as exc:
            _log.debug("connection was already lost reason=%s", exc)
        finally:
            silence(client)


async def _connected(settings: MqttSettings, credentials: Credentials, client_id: str, will_topic: str | None) -> Library:
    """Return a connected client; on a refused will try again with less."""
    qos, retain = 1, True
    while True:
        with translated(settings):
            will = None if will_topic is None else _will(will_topic, qos, retain=retain, version_5=settings.protocol == "5")
            client = _make(settings, credentials, client_id, will)
        try:
            with translated(settings):
                await client.__aenter__()
        except ConnectionFailedError as exc:
            abandon(client)
            code = reason_code(exc.__cause__)
            if code == _NO_QOS_1 and qos:
                qos = 0
            elif code == _NO_RETAIN and retain:
                retain = False
            else:
                raise
        except BaseException:
            abandon(client)
            raise
        else:
            return client


def _make(settings: MqttSettings, credentials: Credentials, client_id: str, will: aiomqtt.Will | None) -> Library:
    """Build a client that has not connected yet; the session is always clean, so that no old message arrives."""
    connect = None
    version_5 = settings.protocol == "5"
    if version_5:
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
        connect.MaximumPacketSize = MAX_PACKET_BYTES
        if will is not None:
            connect.SessionExpiryInterval = WILL_DELAY_S + 1  # the broker sends the will when the session ends, if not before
    return Library(
        settings.host,
        settings.port,
        username=settings.username,
        password=credentials.password,
        logger=LOG,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if version_5 else aiomqtt.ProtocolVersion.V311,
        will=will,
        clean_session=None if version_5 else True,
        clean_start=True if version_5 else MQTT_CLEAN_START_FIRST_ONLY,  # paho refuses any other value with 3.1.1
        properties=connect,
        timeout=settings.timeout_s,
        keepalive=settings.keepalive_s,
        max_queued_incoming_messages=MAX_QUEUED_INCOMING,
        tls_context=credentials.tls,
    )


def _will(topic: str, qos: int, *, retain: bool, version_5: bool) -> aiomqtt.Will:
    properties = None
    if version_5:
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call] # paho's
        properties.WillDelayInterval = WILL_DELAY_S
    return aiomqtt.Will(topic, b"offline", qos=qos, retain=retain, properties=properties)
