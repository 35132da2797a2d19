"""Reads the MQTT settings that a URL such as `mqtt://user@host:1883/base` holds.

It does not resolve names, does not connect, and adds no defaults.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from streamav.errors import SettingsError
from streamav.redaction import redact
from streamav.setting_names import where_secrets_go

__all__ = ["EXAMPLE_URL", "parse_broker_url"]

EXAMPLE_URL = "mqtt://127.0.0.1:1883/streamav"
"""Example of a URL, for messages."""
_NO_PASSWORD = f"the broker URL must not hold a password: other users of the machine can read it. {where_secrets_go('mqtt', 'password')}"


def parse_broker_url(url: str) -> dict[str, object]:
    """Return the keys of MqttSettings that *url* holds: host, and port, username, base and tls when they are present.

    `mqtts://` turns TLS on. `mqtt://` does not turn TLS off: configured TLS stays, and a configured port stays when the URL has none.

    Args:
        url: `mqtt://[user@]host[:port][/base]`, or `mqtts://` for TLS. A bare `host[:port]` is taken as `mqtt://`.

    Raises:
        SettingsError: when it is not such a URL, or holds a password, which the list of processes would show to every user.
    """
    text = url if "://" in url else f"mqtt://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        if "@" in url:  # the port in the error may be part of a password that contains a slash
            raise SettingsError(_NO_PASSWORD) from None
        msg = f"the broker must be a URL like {EXAMPLE_URL}: {exc}"
        raise SettingsError(msg) from None
    if parts.password is not None or "@" in parts.path + parts.query + parts.fragment:
        raise SettingsError(_NO_PASSWORD)
    if parts.scheme in {"ws", "wss"}:
        msg = (
            f"streamav does not speak MQTT over websockets, so the broker must be a URL like {EXAMPLE_URL}; name the broker's own MQTT port"
        )
        raise SettingsError(msg)
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or parts.query or parts.fragment:
        msg = f"the broker must be a URL like {EXAMPLE_URL} or mqtts://user@host:8883/streamav, got {redact(text)!r}"
        raise SettingsError(msg)
    values: dict[str, object] = {"host": parts.hostname}
    if port is not None:
        values["port"] = port
    if parts.username:
        values["username"] = unquote(parts.username)
    if base := unquote(parts.path).strip("/"):
        values["base"] = base
    if parts.scheme == "mqtts":
        values["tls"] = {}
    return values
