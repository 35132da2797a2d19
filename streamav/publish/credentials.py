"""Reads the password and the certificates of a connection to the broker."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from streamav.certificates import load_certificate
from streamav.errors import SettingsError, reason_of

if TYPE_CHECKING:
    from streamav.config import MqttSettings, TlsSettings

__all__ = ["Credentials"]

_log = logging.getLogger(__name__)


class Credentials:
    """Password and certificates of a connection, checked once before the first attempt; they are never printed."""

    def __init__(self, settings: MqttSettings) -> None:
        """Read the password file and the certificates.

        Raises:
            SettingsError: when a file that the settings name is missing or cannot be used.
        """
        self.password = _password(settings)
        if self.password is not None and settings.username is None:  # MQTT 3.1.1, section 3.1.2.9: no password without a user name
            _log.warning("a password for the broker is set without mqtt.username, so the password is not sent")
        self.tls = None if settings.tls is None else _tls_context(settings.tls)

    def __repr__(self) -> str:
        return f"Credentials(password={'set' if self.password else 'none'}, tls={self.tls is not None})"


def _password(settings: MqttSettings) -> str | None:
    """Return the password from the environment or the file; None when neither is set."""
    if settings.password is not None:
        return settings.password.get_secret_value()
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        msg = f"mqtt.password_file must be a readable text file that holds only the password, got {settings.password_file}"
        raise SettingsError(msg) from None


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Build the TLS context of the connection.

    Raises:
        SettingsError: when one of the files cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as exc:  # ssl.SSLError is one
        msg = f"mqtt.tls.ca must be a PEM file with the certificate of the certificate authority, got {tls.ca}: {reason_of(exc)}"
        raise SettingsError(msg) from None
    if tls.cert is not None:
        try:
            load_certificate(context, tls.cert, tls.key)
        except OSError as exc:
            why = reason_of(exc)
            msg = f"mqtt.tls.cert and mqtt.tls.key must be PEM files that belong together, got {tls.cert} and {tls.key}: {why}"
            raise SettingsError(msg) from None
    if tls.insecure:
        context.check_hostname = False
        _log.warning("mqtt.tls.insecure is set: the host name of the broker is not checked")
    return context
