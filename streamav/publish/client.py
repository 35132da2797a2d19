"""One connection to an MQTT broker, with the traps of the client library taken out.

The only module that knows aiomqtt and paho. It neither reconnects nor remembers anything.
"""

from __future__ import annotations

import logging
import socket
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from streamav.errors import SettingsError
from streamav.publish.message import MAX_MESSAGE_BYTES
from streamav.publish.patience import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streamav.config import MqttSettings, TlsSettings

__all__ = ["Client", "ConnectionFailedError", "Credentials", "open_client"]

WILL_DELAY_S = 5
"""MQTT 5: so long after a lost connection the will is published, unless we are back before (contract: 5 to 10 s)."""
MAX_QUEUED_INCOMING = 1000
"""Messages that wait to be read; beyond it the client library discards with a warning. Its own default has no bound."""
MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 128 * 1024
"""MQTT 5: the broker sends us nothing larger. A message of the contract, its topic and properties are below it."""

_FATAL = {
    0x84: "the broker does not speak this MQTT version: set mqtt.protocol to 3.1.1 or 5",
    0x85: "the broker refuses the client id: set mqtt.client_id",
    0x86: "the broker refuses user name or password: check mqtt.username and STREAMAV_MQTT_PASSWORD or mqtt.password_file",
    0x87: "the broker refuses the login: check mqtt.username, STREAMAV_MQTT_PASSWORD or mqtt.password_file, and the broker's access list",
    0x8A: "the broker has banned this client: ask who runs it",
    0x8C: "the broker wants another way of authentication, which streamav does not offer",
}
"""Reasons that trying again does not cure, by reason code, with what to do.

Source: MQTT 5.0, section 3.2.2.2; paho gives the codes of 3.1.1 as these.
"""
_TAKEN_OVER = 0x8E
"""Source: MQTT 5.0, section 3.14.2.1: session taken over."""
_UNSPECIFIED = 0x80
"""What paho reports of a socket that the other side closed."""
_FIRST_REFUSAL = 0x80
"""Source: MQTT 5.0, section 2.4: reason codes from 0x80 on are failures."""

_log = logging.getLogger(__name__)
# paho and aiomqtt log what we say better ourselves, and a password never; only their warnings are let through.
_library_log = logging.getLogger(f"{__name__}.library")


class ConnectionFailedError(Exception):
    """The connection cannot be made, or is lost; never leaves streamav."""

    def __init__(self, failure: Failure) -> None:
        """Take what happened."""
        super().__init__(failure.reason)
        self.failure = failure


class Credentials:
    """What is secret about a connection, checked once before the first attempt; nothing of it is ever printed."""

    def __init__(self, settings: MqttSettings) -> None:
        """Read password file and certificates.

        Raises:
            SettingsError: when a file of the settings is missing or not what it should be.
        """
        self.password = _password(settings)
        if self.password is not None and settings.username is None:  # MQTT 3.1.1, section 3.1.2.9: no password without a user name
            _log.warning("a password for the broker is set without mqtt.username, so it is not sent")
        self.tls = None if settings.tls is None else _tls_context(settings.tls)

    def __repr__(self) -> str:
        return f"Credentials(password={'set' if self.password else 'none'}, tls={self.tls is not None})"


class Client:
    """A connection that stands. All methods raise ConnectionFailedError when it no longer does."""

    def __init__(self, client: aiomqtt.Client, *, version_5: bool) -> None:
        """Take the connected client."""
        self._client = client
        self._version_5 = version_5

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, schema: str | None = None) -> None:
        """Publish; at QoS 1 return when the broker has acknowledged.

        Args:
            topic: where.
            payload: bytes.
            qos: 0 or 1.
            retain: whether the broker keeps it.
            schema: name of the schema for MQTT 5 consumers; the bytes are the same without it.
        """
        properties = None
        if schema is not None and self._version_5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho's
            properties.ContentType = "application/json"
            properties.UserProperty = ("schema", schema)
        with _translated():
            await self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)

    async def subscribe(self, topic: str) -> bool:
        """Subscribe at QoS 1; False when the broker refuses (many brokers grant, and then deliver nothing)."""
        with _translated():
            granted = await self._client.subscribe(topic, qos=1)
        return all(_number(code) < _FIRST_REFUSAL for code in granted)

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe."""
        with _translated():
            await self._client.unsubscribe(topic)

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield topic and payload of what arrives; ends only by the loss of the connection, which raises."""
        with _translated():
            async for message in self._client.messages:
                yield str(message.topic), message.payload


@asynccontextmanager
async def open_client(settings: MqttSettings, credentials: Credentials, client_id: str, will_topic: str | None) -> AsyncIterator[Client]:
    """Connect, give the connection, and disconnect.

    Leaving the block, by whatever way, sends a clean DISCONNECT, and the broker then throws the will away: who announced itself as online
    must publish offline before it leaves.

    Args:
        settings: broker, user, protocol, times.
        credentials: password and certificates.
        client_id: our name with the broker; a second client of the same name throws us out.
        will_topic: where the broker says "offline", retained, when we vanish; None for no will.

    Raises:
        ConnectionFailedError: when the connection cannot be made.
    """
    version_5 = settings.protocol == "5"
    with _translated():
        client = _make(settings, credentials, client_id, will_topic, version_5=version_5)
    try:
        with _translated():
            await client.__aenter__()
    except BaseException:
        _abandon(client)
        raise
    try:
        yield Client(client, version_5=version_5)
    finally:
        try:
            with _translated():
                await client.__aexit__(None, None, None)
        except ConnectionFailedError as exc:
            _log.debug("connection was already gone reason=%s", exc)
        finally:
            _silence(client)


def _make(settings: MqttSettings, credentials: Credentials, client_id: str, will_topic: str | None, *, version_5: bool) -> aiomqtt.Client:
    """Make a client that has not connected yet; always a clean session, so that nothing old reaches us late."""
    connect, will_properties = None, None
    if version_5:
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
        will_properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call] # paho's
        connect.MaximumPacketSize = MAX_PACKET_BYTES
        if will_topic is not None:
            connect.SessionExpiryInterval = WILL_DELAY_S + 1  # the will is sent at the latest when the session ends
        will_properties.WillDelayInterval = WILL_DELAY_S
    return aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.username,
        password=credentials.password,
        logger=_library_log,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if version_5 else aiomqtt.ProtocolVersion.V311,
        will=None if will_topic is None else aiomqtt.Will(will_topic, b"offline", qos=1, retain=True, properties=will_properties),
        clean_session=None if version_5 else True,
        clean_start=True if version_5 else MQTT_CLEAN_START_FIRST_ONLY,  # paho refuses any other value with 3.1.1
        properties=connect,
        timeout=settings.timeout_s,
        keepalive=settings.keepalive_s,
        max_queued_incoming_messages=MAX_QUEUED_INCOMING,
        tls_context=credentials.tls,
    )


def _abandon(client: aiomqtt.Client) -> None:
    """Close the socket of a failed attempt.

    aiomqtt 2.5 leaves it open: a broker that answers late would accept a ghost with our client id, which then throws the next attempt out.
    """
    client._client.disconnect()  # noqa: SLF001 - aiomqtt gives no way to it


def _silence(client: aiomqtt.Client) -> None:
    """Look at how the connection ended, else asyncio logs "Future exception was never retrieved" for what we know already."""
    ended = client._disconnected  # noqa: SLF001 - aiomqtt gives no way to it
    if ended.done() and not ended.cancelled():
        ended.exception()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the errors of the client library into ConnectionFailedError."""
    try:
        yield
    except (aiomqtt.MqttError, OSError, ValueError) as exc:
        raise ConnectionFailedError(_refusal(exc) or _obstacle(exc)) from exc


def _refusal(exc: Exception) -> Failure | None:
    """Say what the broker means by its reason code, or None where it gave none that tells."""
    code = _reason_code(exc) or _reason_code(exc.__cause__)
    if code in _FATAL:
        return Failure(reason=_FATAL[code], fatal=True)
    if code == _TAKEN_OVER:
        return Failure(reason="another client uses our client id", thrown_out=True)
    if code == _UNSPECIFIED:  # an MQTT 3.1.1 broker closes without a word, also when another client takes our id
        return Failure(reason="the broker closed the connection", thrown_out=True)
    return None


def _obstacle(exc: Exception) -> Failure:
    """Say what stands between us and the broker, and whether it can mend itself."""
    cause = exc.__context__ if exc.__context__ is not None else exc  # aiomqtt hides it behind "from None"
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f"the certificate of the broker is not trusted: {cause.verify_message}; check mqtt.tls.ca and mqtt.host"
        return Failure(reason=reason, fatal=True)
    if isinstance(cause, ssl.SSLError):
        return Failure(reason=f"TLS with the broker failed: {cause.reason or cause}; check mqtt.port and mqtt.tls", fatal=True)
    if isinstance(cause, socket.gaierror):
        return Failure(reason="the name of the broker is not known")
    return Failure(reason=str(exc) or type(exc).__name__, fatal=isinstance(exc, ValueError))


def _number(code: object) -> int:
    """Give a reason code as a number: a ReasonCode, or with MQTT 3.1.1 in some versions of paho an int."""
    return code.value if isinstance(code, ReasonCode) else int(str(code))


def _reason_code(exc: BaseException | None) -> int | None:
    if not isinstance(exc, aiomqtt.MqttCodeError):
        return None
    return exc.rc.value if isinstance(exc.rc, ReasonCode) else None


def _password(settings: MqttSettings) -> str | None:
    """Give the password from the environment or the file, or None."""
    if settings.password is not None:
        return settings.password.get_secret_value()
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        msg = f"mqtt.password_file must be a readable text file with nothing but the password, got {settings.password_file}"
        raise SettingsError(msg) from None


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Make the TLS side of the connection.

    Raises:
        SettingsError: when one of the files cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as exc:  # ssl.SSLError is one
        msg = f"mqtt.tls.ca must be a PEM file with the certificate of the authority, got {tls.ca}: {exc.strerror or exc}"
        raise SettingsError(msg) from None
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key)
        except OSError as exc:
            why = exc.strerror or exc
            msg = f"mqtt.tls.cert and mqtt.tls.key must be PEM files that belong together, got {tls.cert} and {tls.key}: {why}"
            raise SettingsError(msg) from None
    if tls.insecure:
        context.check_hostname = False
        _log.warning("mqtt.tls.insecure is set: the host name of the broker is not checked")
    return context
