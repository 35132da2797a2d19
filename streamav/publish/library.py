"""Wraps the client library, aiomqtt on paho, and corrects its defects that cost a connection or fill the log.

It decides nothing: `client` opens connections and publishes with it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from streamav.publish.limits import DEFAULT_WINDOW, TOO_LARGE, Limits

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties

__all__ = ["LOG", "MAX_QUEUED_INCOMING", "Library", "abandon", "number_of", "silence"]

MAX_QUEUED_INCOMING = 1000
"""Most received messages that wait to be read; the client library discards further ones and warns. Its own default has no bound."""

# paho and aiomqtt log the same facts less clearly than we do, so only their warnings are logged. They never log a password.
LOG = logging.getLogger(__name__)
"""Logger of the library."""
_LOSSES: Final = ("failed to receive on socket", "timeout on socket")
"""What paho logs as an error at each lost connection; we log each new reason once (patience)."""
LOG.addFilter(lambda record: not record.getMessage().startswith(_LOSSES))


def _teach_paho() -> None:
    """Let paho read "packet too large" in the answer to a message; otherwise paho drops the connection there.

    Mosquitto 2 answers so at its `message_size_limit`, against the standard (MQTT 5.0, section 3.4.2.1, does not list the code).
    """
    names: dict[int, dict[str, list[int]]] | None = getattr(ReasonCode, "names", None)
    if names is not None:
        answers = {name: [*packets, PacketTypes.PUBACK] for name, packets in names[TOO_LARGE].items()}
        ReasonCode.names = {**names, TOO_LARGE: answers}


_teach_paho()


class Library(aiomqtt.Client):
    """aiomqtt's client with what version 2.5 drops: the broker's limits, the answer to each message, and a close before the CONNACK."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on unchanged
        super().__init__(*arguments, **options)
        self.pending_calls_threshold = DEFAULT_WINDOW  # aiomqtt warns of more than ten subscriptions that wait for an answer
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
            answer.set_result(number_of(reason_code))

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
        """Pass a message to paho and return its number."""
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


def number_of(code: object) -> int:
    """Return a reason code as a number; it is a ReasonCode, or an int with MQTT 3.1.1 in some versions of paho."""
    return code.value if isinstance(code, ReasonCode) else int(str(code))


def abandon(client: aiomqtt.Client) -> None:
    """Close the socket of a failed attempt.

    aiomqtt 2.5 leaves it open. A broker that answers late would accept this old connection under our client id and then close the next one.
    """
    client._client.disconnect()  # noqa: SLF001 - aiomqtt has no public method for it


def silence(client: aiomqtt.Client) -> None:
    """Retrieve the exception that ended the connection; otherwise asyncio logs "Future exception was never retrieved"."""
    ended = client._disconnected  # noqa: SLF001 - aiomqtt has no public attribute for it
    if ended.done() and not ended.cancelled():
        ended.exception()
