"""Opens one connection to an MQTT broker and works around the defects of the client library.

Only this module and `failures` use aiomqtt and paho. It does not reconnect and keeps no state between connections.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from streamav.publish.extras import PLAIN, Extras
from streamav.publish.failures import ConnectionFailedError, reason_code, translated
from streamav.publish.limits import DEFAULT_WINDOW, TOO_LARGE, Limits, RefusedError
from streamav.publish.message import MAX_MESSAGE_BYTES
from streamav.publish.patience import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamav.config import MqttSettings
    from streamav.publish.credentials import Credentials

__all__ = ["Client", "Incoming", "open_client"]

WILL_DELAY_S = 5
"""MQTT 5: the broker publishes the will this long after it lost the connection, unless we reconnect before (contract: 5 to 10 s)."""
MAX_QUEUED_INCOMING = 1000
"""Most received messages that wait to be read; the client library discards further ones and warns. Its own default has no bound."""
MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 128 * 1024
"""MQTT 5: the broker sends us no larger packet. A message of the contract with its topic and properties is smaller."""

_FIRST_REFUSAL = 0x80
"""Source: MQTT 5.0, section 2.4: reason codes from 0x80 on are failures."""
_NO_RETAIN, _NO_QOS_1 = 0x9A, 0x9B
"""Source: MQTT 5.0, section 3.2.2.2: the broker accepts no retained will; no will of QoS 1."""
_USED_UP = 0x97
"""Source: MQTT 5.0, section 3.4.2.1: a quota is used up, which may pass."""

_log = logging.getLogger(__name__)
# paho and aiomqtt log the same facts less clearly than we do, so only their warnings are logged. They never log a password.
_library_log = logging.getLogger(f"{__name__}.library")
_LOSSES: Final = ("failed to receive on socket", "timeout on socket")
"""What paho logs as an error at each lost connection; we log each new reason once (patience)."""
_library_log.addFilter(lambda record: not record.getMessage().startswith(_LOSSES))


def _teach_paho() -> None:
    """Let paho read "packet too large" in the answer to a message; otherwise paho drops the connection there.

    Mosquitto 2 answers so at its `message_size_limit`, against the standard (MQTT 5.0, section 3.4.2.1, does not list the code).
    """
    names: dict[int, dict[str, list[int]]] | None = getattr(ReasonCode, "names", None)
    if names is not None:
        answers = {name: [*packets, PacketTypes.PUBACK] for name, packets in names[TOO_LARGE].items()}
        ReasonCode.names = {**names, TOO_LARGE: answers}


_teach_paho()


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


class _Library(aiomqtt.Client):
    """aiomqtt's client with what version 2.5 drops: the broker's limits, the answer to each message, and a close before the CONNACK."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on unchanged
        super().__init__(*arguments, **options)
        self.answers: dict[int, asyncio.Future[int]] = {}
        self.answered = 0
        self.limits = Limits()
        self.places = asyncio.Semaphore(DEFAULT_WINDOW)
        self.discarded = 0

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: ReasonCode, properties: Properties | None = None) -> None:  # noqa: ANN401 - as in aiomqtt
        self.limits = _limits(properties)
        self.places = asyncio.Semaphore(self.limits.window)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: ReasonCode, properties: Properties | None = None) -> None:  # noqa: ANN401 - as in aiomqtt
        if self._connected.cancelled():  # the attempt was given up; aiomqtt would raise in a callback of the loop
            return
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttCodeError(reason_code, "closed before the answer"))
            self._connected.exception()  # retrieved: after a timeout nobody waits for it, and asyncio would log it
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties) -> None:  # noqa: ANN401, ARG002
        self.answered += 1
        answer = self.answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(_number(reason_code))

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:  # noqa: ANN401 - as in aiomqtt
        if self._queue.full():
            self.discarded += 1
            return
        super()._on_message(client, userdata, message)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ANN401, ARG002 - as in aiomqtt
        # aiomqtt takes the number of the socket here and uses it in the next turn of the loop. By then paho may have closed the socket, and
        # the number is free, or already that of another file. So the number is taken where it is used.
        def write() -> None:
            try:
                client.loop_write()
            except Exception as exc:  # noqa: BLE001 - a broken connection, as aiomqtt takes it
                if not self._disconnected.done():
                    self._disconnected.set_exception(exc)

        def follow() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(follow)

    async def send(self, topic: str, payload: bytes, qos: int, properties: Properties | None, *, retain: bool) -> int:
        """Publish a message and return the broker's reason code; aiomqtt's own publish ignores it.

        At QoS 1 it waits first until fewer messages than the broker's Receive Maximum are unanswered; messages pass in the order of calls.
        """
        if qos == 0:
            self._hand_over(topic, payload, qos, properties, retain=retain)
            return 0
        async with self.places:
            mid = self._hand_over(topic, payload, qos, properties, retain=retain)
            answer = self.answers[mid] = self._loop.create_future()
            try:
                return await self._answer(answer)
            finally:
                self.answers.pop(mid, None)

    def _hand_over(self, topic: str, payload: bytes, qos: int, properties: Properties | None, *, retain: bool) -> int:
        """Give a message to paho and return its number."""
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            ended = self._disconnected.exception() if self._disconnected.done() and not self._disconnected.cancelled() else None
            raise aiomqtt.MqttCodeError(info.rc, "the message cannot be sent") from ended
        return info.mid

    async def _answer(self, answer: asyncio.Future[int]) -> int:
        """Wait for the answer to a message; the time starts again while other answers come, because a slow link has many to carry."""
        while True:
            before = self.answered
            try:
                return await self._wait_for(asyncio.shield(answer), timeout=None)
            except aiomqtt.MqttError:
                if self.answered == before or self._disconnected.done():
                    raise


class Client:
    """An open connection. All methods raise ConnectionFailedError when the connection is lost."""

    def __init__(self, client: _Library, *, version_5: bool, expiry_s: int | None = None) -> None:
        """Store the connected client; *expiry_s*: how long the broker keeps messages that expire, s, None: as long as it wants."""
        self._client = client
        self._expiry_s = expiry_s
        self._version_5 = version_5

    @property
    def limits(self) -> Limits:
        """What the broker accepts."""
        return self._client.limits

    @property
    def discarded(self) -> int:
        """Messages that arrived faster than they were read and found no place."""
        return self._client.discarded

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, extras: Extras = PLAIN) -> None:
        """Publish a message; at QoS 1 return after the broker has acknowledged it. QoS and retain are lowered to the broker's limits.

        Args:
            topic: topic of the message.
            payload: bytes of the message.
            qos: 0 or 1.
            retain: whether the broker keeps the message.
            extras: what it carries beside the payload (MQTT 5).

        Raises:
            RefusedError: when the broker does not accept this message. Only MQTT 5 tells; with 3.1.1 the message is lost unnoticed.
        """
        most = self.limits.payload_bytes(topic)
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

        With MQTT 5 our own messages are not delivered to us, except on a topic below `doctor`, and neither are kept ones.
        """
        options = None
        if self._version_5:
            own = "/doctor/" in topic
            options = SubscribeOptions(qos=1, noLocal=not own, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        with translated():
            granted = await self._client.subscribe(topic, qos=0 if options else 1, options=options)  # paho: one of the two
        return all(_number(code) < _FIRST_REFUSAL for code in granted)

    async def subscribe_kept(self, topic: str) -> bool:
        """Subscribe at QoS 1, also to the messages that the broker has kept; return False when the broker refuses."""
        with translated():
            granted = await self._client.subscribe(topic, qos=1)
        return all(_number(code) < _FIRST_REFUSAL for code in granted)

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
            _silence(client)


async def _connected(settings: MqttSettings, credentials: Credentials, client_id: str, will_topic: str | None) -> _Library:
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
            _abandon(client)
            code = reason_code(exc.__cause__)
            if code == _NO_QOS_1 and qos:
                qos = 0
            elif code == _NO_RETAIN and retain:
                retain = False
            else:
                raise
        except BaseException:
            _abandon(client)
            raise
        else:
            return client


def _make(settings: MqttSettings, credentials: Credentials, client_id: str, will: aiomqtt.Will | None) -> _Library:
    """Build a client that has not connected yet; the session is always clean, so that no old message arrives."""
    connect = None
    version_5 = settings.protocol == "5"
    if version_5:
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
        connect.MaximumPacketSize = MAX_PACKET_BYTES
        if will is not None:
            connect.SessionExpiryInterval = WILL_DELAY_S + 1  # the broker sends the will when the session ends, if not before
    return _Library(
        settings.host,
        settings.port,
        username=settings.username,
        password=credentials.password,
        logger=_library_log,
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


def _limits(properties: Properties | None) -> Limits:
    """Return the limits that a CONNACK names; a value outside of the standard's range counts as not given."""

    def given(name: str, default: int) -> int:
        value = getattr(properties, name, default)
        return value if isinstance(value, int) and value >= 0 else default

    packet = given("MaximumPacketSize", 0)
    return Limits(
        window=min(DEFAULT_WINDOW, max(1, given("ReceiveMaximum", DEFAULT_WINDOW))),
        packet_bytes=packet or None,
        max_qos=min(1, given("MaximumQoS", 1)),
        retain=given("RetainAvailable", 1) != 0,
    )


def _abandon(client: aiomqtt.Client) -> None:
    """Close the socket of a failed attempt.

    aiomqtt 2.5 leaves it open. A broker that answers late would accept this old connection under our client id and then close the next one.
    """
    client._client.disconnect()  # noqa: SLF001 - aiomqtt has no public method for it


def _silence(client: aiomqtt.Client) -> None:
    """Retrieve the exception that ended the connection; otherwise asyncio logs "Future exception was never retrieved"."""
    ended = client._disconnected  # noqa: SLF001 - aiomqtt has no public attribute for it
    if ended.done() and not ended.cancelled():
        ended.exception()


def _number(code: object) -> int:
    """Return a reason code as a number; it is a ReasonCode, or an int with MQTT 3.1.1 in some versions of paho."""
    return code.value if isinstance(code, ReasonCode) else int(str(code))
