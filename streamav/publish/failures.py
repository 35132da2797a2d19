"""Translates the errors of the client library into the reason why a connection to a broker failed."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from streamav.output_settings import PLAIN_PORT, TLS_PORT
from streamav.publish.limits import TOO_LARGE
from streamav.publish.patience import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamav.config import MqttSettings

__all__ = ["ConnectionFailedError", "reason_code", "translated"]

_LOGIN = "the user name (--mqtt mqtt://USER@HOST, or mqtt.username) and the password (STREAMAV_MQTT_PASSWORD, or mqtt.password_file)"
_FATAL = {
    0x84: "the broker does not support this MQTT version: set mqtt.protocol",
    0x85: "the broker refuses the client id: set another mqtt.client_id",
    0x86: f"the broker refuses the user name or password: check {_LOGIN}",
    0x87: f"the broker refuses the login: check {_LOGIN}, and the broker's access list",
    0x8A: "the broker has banned this client: ask the operator of the broker",
    0x8C: "the broker requires an authentication method that streamav does not support: allow user name and password at the broker",
}
"""Failures that a new attempt does not solve: reason code to error sentence.

Source: MQTT 5.0, section 3.2.2.2; paho converts the codes of 3.1.1 to these.
"""
_UNREACHED = {
    socket.gaierror: "its name {host} cannot be resolved: correct it (--mqtt, or mqtt.host), or write its IP address",
    ConnectionRefusedError: "nothing listens on that port: check that the broker runs, and its port {port} (--mqtt, or mqtt.port)",
}
"""What is said about a connection that was not made, in terms of the settings; --mqtt stands for the URL of any command."""
_AUTHORITY = "set mqtt.tls.ca to the certificate of the authority that signed it, or to the certificate itself if it signed itself"
_NAME = "name the broker as its certificate does (--mqtt, or mqtt.host), or let the broker have a certificate with this name"
_UNTRUSTED = {
    9: "it holds later: check the clocks of this machine and of the one that made it",
    10: "renew it at the broker, or check the clock of this machine",
    18: _AUTHORITY,
    19: _AUTHORITY,
    20: _AUTHORITY,
    62: _NAME,
    64: _NAME,
}
"""What to do about a certificate. Source: the codes X509_V_ERR_* of OpenSSL, x509_vfy.h."""
_OTHER_VERSION = 0x84
_TAKEN_OVER = 0x8E
"""Source: MQTT 5.0, section 3.14.2.1: session taken over."""
_PROTOCOL_ERROR = 0x82
"""The code that paho reports when bytes arrive that are no MQTT."""
_UNSPECIFIED = 0x80
"""The code that paho reports when the other side closed the socket."""


class ConnectionFailedError(Exception):
    """The connection cannot be made, or is lost; it is always caught inside streamav."""

    def __init__(self, failure: Failure) -> None:
        """Store the failure."""
        super().__init__(failure.reason)
        self.failure = failure


@contextmanager
def translated(connecting: MqttSettings | None = None) -> Iterator[None]:
    """Convert errors of the client library into ConnectionFailedError; *connecting* are the settings of an attempt to connect."""
    try:
        yield
    except (aiomqtt.MqttError, OSError, ValueError) as exc:
        raise ConnectionFailedError(_refusal(exc, connecting) or _obstacle(exc, connecting)) from exc


def _refusal(exc: Exception, connecting: MqttSettings | None) -> Failure | None:
    """Return the failure that the broker's reason code stands for; None when there is no code or it is not one of ours."""
    code = reason_code(exc) or reason_code(exc.__cause__)
    if code in _FATAL:
        other = f" to {_other_protocol(connecting)}" if code == _OTHER_VERSION and connecting is not None else ""
        return Failure(reason=_FATAL[code] + other, fatal=True)
    if code == _TAKEN_OVER:
        return Failure(reason="another client uses our client id", taken_over=True)
    if code == _UNSPECIFIED:  # an MQTT 3.1.1 broker closes without a reason, also when another client connects with our id
        more = "" if connecting is None else f" before it answered: {_other_port(connecting)}"
        return Failure(reason=f"the broker closed the connection{more}", closed=True)
    if code == _PROTOCOL_ERROR and connecting is not None:
        what = "what answers is no MQTT broker, or speaks another version, or MQTT over websockets, which streamav does not"
        return Failure(reason=f"{what}: {_place(connecting)}, and mqtt.protocol")
    if code is not None and code > _UNSPECIFIED and connecting is None:
        too_large = code == TOO_LARGE
        told = "at a message that is larger than it accepts" if too_large else f"with reason code 0x{code:02X}"
        return Failure(reason=f"the broker closed the connection {told}", closed=True, too_large=too_large)
    return None


def _obstacle(exc: Exception, connecting: MqttSettings | None) -> Failure:
    """Return the failure of an attempt that got no reason code: TLS, name resolution, network or settings."""
    cause = exc.__context__ if exc.__context__ is not None else exc  # aiomqtt raises "from None", which hides the cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        remedy = _UNTRUSTED.get(cause.verify_code, "check mqtt.tls.ca, and the name of the broker (--mqtt, or mqtt.host)")
        return Failure(reason=f"the certificate of the broker is not trusted: {cause.verify_message}; {remedy}", fatal=True)
    if isinstance(cause, ssl.SSLError):
        hint = "check its port (--mqtt, or mqtt.port) and mqtt.tls" if connecting is None else _other_port(connecting)
        return Failure(reason=f"TLS with the broker failed: {cause.reason or cause}; {hint}", fatal=True)
    if isinstance(cause, ConnectionResetError) and connecting is not None:
        return Failure(reason=f"the broker closed the connection before it answered: {_other_port(connecting)}", closed=True)
    if isinstance(exc, aiomqtt.MqttError) and isinstance(exc.__cause__ or cause, TimeoutError) and connecting is not None:
        reason = f"nothing answered within {connecting.timeout_s:g} s: {_place(connecting)}, and that a broker listens there"
        silent = "; one that knows MQTT 3.1.1 only may be silent: set mqtt.protocol to 3.1.1"
        return Failure(reason=reason + (silent if connecting.protocol == "5" else ""))
    for kind, reason in _UNREACHED.items():
        if isinstance(cause, kind) and connecting is not None:
            return Failure(reason=reason.format(host=connecting.host, port=connecting.port))
    return Failure(reason=str(exc) or type(exc).__name__, fatal=isinstance(exc, ValueError))


def _place(settings: MqttSettings) -> str:
    return f"check the host {settings.host} and the port {settings.port} (--mqtt, or mqtt.host and mqtt.port)"


def _other_protocol(settings: MqttSettings) -> str:
    return "3.1.1" if settings.protocol == "5" else "5"


def _other_port(settings: MqttSettings) -> str:
    """Return the hint for a port that may expect the other kind of connection."""
    if settings.tls is None:
        return f"if port {settings.port} is a TLS port, use mqtts:// or set mqtt.tls (usual port {TLS_PORT})"
    more = "if the broker demands a certificate of its clients, set mqtt.tls.cert and mqtt.tls.key; "
    if settings.tls.cert is not None:
        more = "if the broker does not trust our certificate mqtt.tls.cert, take one that its authority has signed; "
    return f"{more}if port {settings.port} is a port without TLS, use mqtt:// and set mqtt.tls to false (usual port {PLAIN_PORT})"


def reason_code(exc: BaseException | None) -> int | None:
    """Return the reason code of an error of the client library, or None."""
    if not isinstance(exc, aiomqtt.MqttCodeError):
        return None
    return exc.rc.value if isinstance(exc.rc, ReasonCode) else None
