"""Reads the MQTT settings that a URL such as `mqtt://user@host:1883/base` holds.

It does not resolve names, does not connect, and adds no defaults.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from streamav.errors import SettingsError
from streamav.output_settings import MqttSettings
from streamav.redaction import redact
from streamav.setting_names import explain, where_secrets_go

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
        SettingsError: when it is not such a URL, a part of it is wrong, or it holds a password, which the list of processes would
            show to every user. The message speaks of the parts of the URL, because a person wrote a URL and not settings.
    """
    text = url if "://" in url else f"mqtt://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        if "@" in url:  # the port in the error may be part of a password that contains a slash
            raise SettingsError(_NO_PASSWORD) from None
        why = "its port must be a number from 1 to 65535" if str(exc).startswith("Port ") else exc
        msg = f"the broker must be a URL like {EXAMPLE_URL}: {why}"
        raise SettingsError(msg) from None
    if parts.password is not None or "@" in parts.path + parts.query + parts.fragment:
        raise SettingsError(_NO_PASSWORD)
    if parts.scheme in {"ws", "wss"}:
        msg = (
            f"streamav does not speak MQTT over websockets, so the broker must be a URL like {EXAMPLE_URL}; name the broker's own MQTT port"
        )
        raise SettingsError(msg)
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or {"?", "#"} & set(text):
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
    _check(values)
    return values


def _check(values: dict[str, object]) -> None:
    """Check the values as settings; the error names the part of the URL that is wrong."""
    try:
        MqttSettings.model_validate(values)
    except ValidationError as exc:
        raise SettingsError(
            "\n".join(explain(error, f"the {next(iter(error['loc']), 'address')} in the broker's URL") for error in exc.errors())
        ) from None
