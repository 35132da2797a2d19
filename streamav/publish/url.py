"""Reads `mqtt://user@host:1883/base` into the settings of the MQTT connection.

It neither resolves names nor connects.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from streamav.errors import SettingsError

__all__ = ["DEFAULT_URL", "parse_broker_url"]

DEFAULT_URL = "mqtt://127.0.0.1:1883/streamav"
TLS_PORT = 8883
"""IANA: secure-mqtt."""
PLAIN_PORT = 1883
"""IANA: mqtt."""


def parse_broker_url(url: str) -> dict[str, object]:
    """Give the keys of MqttSettings that *url* names: host, port, and where present username, base and tls.

    Args:
        url: `mqtt://[user@]host[:port][/base]`, or `mqtts://` for TLS; 1883 and 8883 are the default ports. A bare `host[:port]` is taken
            as `mqtt://`.

    Raises:
        SettingsError: when it is no such URL, or holds a password: the list of processes shows it to every user of the machine.
    """
    text = url if "://" in url else f"mqtt://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        msg = f"the broker must be a URL like {DEFAULT_URL}: {exc}"  # urlsplit's reasons name port or host, never the user part
        raise SettingsError(msg) from None
    if parts.password is not None:
        msg = (
            "the broker URL must not hold a password: other users of the machine can read it. "
            "Put it into STREAMAV_MQTT_PASSWORD, or into a file named by mqtt.password_file"
        )
        raise SettingsError(msg)
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or parts.query or parts.fragment:
        msg = f"the broker must be a URL like {DEFAULT_URL} or mqtts://user@host:8883/streamav, got {url!r}"
        raise SettingsError(msg)
    secure = parts.scheme == "mqtts"
    values: dict[str, object] = {"host": parts.hostname, "port": port or (TLS_PORT if secure else PLAIN_PORT)}
    if parts.username:
        values["username"] = unquote(parts.username)
    if base := unquote(parts.path).strip("/"):
        values["base"] = base
    if secure:
        values["tls"] = {}
    return values
