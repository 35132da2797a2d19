"""Defines the settings of the outputs of a run: MQTT, the live page, the journal, and clips.

`streamav.config` holds the settings of inputs and decisions, and re-exports these.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from streamav.errors import SettingsError, reason_of

__all__ = [
    "LEAST_TOKEN",
    "NUMBER_AS_TEXT",
    "PLAIN_PORT",
    "TLS_PORT",
    "BackoffSettings",
    "ClipSettings",
    "HttpSettings",
    "JournalSettings",
    "LogForm",
    "LogSettings",
    "MqttSettings",
    "Options",
    "OutboxSettings",
    "TlsSettings",
    "ViewSettings",
    "only_this_machine",
]

PLAIN_PORT = 1883
"""IANA: mqtt."""
TLS_PORT = 8883
"""IANA: secure-mqtt."""

LEAST_TOKEN = 12
"""Fewest letters of a token (our choice)."""
_LISTEN: Final = re.compile(r"((\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):)?[0-9]{1,5}")
_LAST_PORT: Final = 65535
"""Ports are numbers of 16 bits (RFC 9293, section 3.1)."""
NUMBER_AS_TEXT = BeforeValidator(lambda value: str(value) if type(value) is int else value)


class Options(BaseModel):
    """Frozen settings that refuse unknown keys. Where a text is expected, a number needs no quotes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object) -> object:
        """Refuse the character NUL, which ends a text for the system: no path, address or name holds it."""
        texts = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(one, str) and "\0" in one for one in texts):
            msg = r"a text must not hold the character NUL (\0); leave it out"
            raise ValueError(msg)
        return value


class TlsSettings(Options):
    """TLS of the MQTT connection."""

    ca: Path | None = None
    """Certificates (PEM) of the authorities that are trusted; None for the system's."""
    cert: Path | None = None
    """Our own certificate (PEM), where the broker asks for one."""
    key: Path | None = None
    """Private key (PEM) of our own certificate."""
    insecure: bool = False
    """True disables the check of the host name; a warning is logged at every start."""

    @model_validator(mode="after")
    def _check(self) -> TlsSettings:
        if self.key is not None and self.cert is None:
            msg = "tls.key must be given together with tls.cert, the certificate that it belongs to, got a key alone"
            raise ValueError(msg)
        return self


class OutboxSettings(Options):
    """Limits of the messages that wait while the broker is away."""

    messages: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most messages."""
    bytes: Annotated[int, Field(ge=1_000, le=1 << 40)] = 16_000_000
    """Most bytes of all messages together."""


class BackoffSettings(Options):
    """Pause between attempts to connect: exponential with full jitter."""

    min_s: Annotated[float, Field(gt=0.0)] = 1.0
    """Bound of the first pause, s; each pause is drawn from 0 to its bound, and the bound doubles."""
    max_s: Annotated[float, Field(gt=0.0)] = 4.0
    """Largest bound of a pause, s. A broker that is back is used again within 5 s; one attempt every 2 s on average is no load."""
    refused_s: Annotated[float, Field(gt=0.0)] = 60.0
    """Pause after a refusal that a new attempt does not solve, such as a wrong password."""


class MqttSettings(Options):
    """The broker, and what is published to it (MQTT contract, section 13)."""

    host: str
    """Name or IP address of the broker."""
    port: Annotated[int, Field(ge=1, le=65535)] = PLAIN_PORT
    """Default: 8883 with TLS, 1883 without."""
    base: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+(/[a-zA-Z0-9_-]+)*$")] = "streamav"
    """First topic level or levels."""
    client_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    """None: a client id is made once and kept."""
    username: str | None = None
    """Name to log in with."""
    password: SecretStr | None = None
    """Read only from the environment (STREAMAV_MQTT_PASSWORD) or a file, never from the command line."""
    password_file: Path | None = None
    """File that holds the password."""
    protocol: Annotated[Literal["3.1.1", "5"], NUMBER_AS_TEXT] = "5"
    """Version of MQTT."""
    keepalive_s: Annotated[int, Field(ge=2, le=3600)] = 30
    """Longest silence before the connection is checked, s."""
    timeout_s: Annotated[float, Field(gt=0.0, le=120.0)] = 10.0
    """How long an answer of the broker is waited for, s."""
    provisional: bool = True
    """False: an event is published only after it is confirmed."""
    scores: bool = False
    """True: publish the final scores of each segment at QoS 0, for debugging."""
    commands: bool = False
    """True: take commands (`.../set`), which change what is detected while it runs. Whoever may write there can switch detection off."""
    expiry_s: Annotated[int, Field(ge=1, le=2_000_000_000)] | None = None
    """MQTT 5: the broker drops messages about events that it could not deliver for this long, s; None: it keeps them."""
    snapshot: Literal["off", "publish", "retain"] = "off"
    """Whether the snapshot of each event (`clips.dir`) is published as JPEG at QoS 0, and whether the broker keeps the last one."""
    homeassistant: bool = False
    """True: announce each source to Home Assistant as a device (MQTT contract, section 10)."""
    homeassistant_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+(/[a-zA-Z0-9_-]+)*$")] = "homeassistant"
    """Discovery prefix of Home Assistant; its birth message is awaited at `<prefix>/status`."""
    outbox: OutboxSettings = OutboxSettings()
    backoff: BackoffSettings = BackoffSettings()
    tls: TlsSettings | None = None
    """None, or false in a file or after --set, means no TLS."""

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        """Refuse an address in place of the name, because its password would appear in messages and file names."""
        if not host or re.search(r"[\s/@]", host):
            msg = "it must be the broker's name or IP address alone, such as homeserver.local; port, user and base are written elsewhere"
            raise ValueError(msg)
        return host

    @model_validator(mode="before")
    @classmethod
    def _choose_port(cls, values: object) -> object:
        """Set the usual port, with or without TLS, when no port is given."""
        if not isinstance(values, dict) or values.get("port") is not None:
            return values
        return values | {"port": PLAIN_PORT if values.get("tls", False) in (None, False) else TLS_PORT}

    @field_validator("tls", mode="before")
    @classmethod
    def _read_false(cls, value: object) -> object:
        """Read false as no TLS, because TOML cannot express None."""
        return None if value is False else value


class AccessSettings(Options):
    """Who may ask a server of this process, and its certificate."""

    section: ClassVar[str]
    """Section of the settings, for messages."""
    what: ClassVar[str]
    """What the server is called in messages."""

    token: SecretStr | None = None
    """What a visitor must enter. Read only from the environment (STREAMAV_<SECTION>_TOKEN) or a file, never from the command line."""
    token_file: Path | None = None
    """File that holds the token."""
    cert: Path | None = None
    """Certificate (PEM) for TLS."""
    key: Path | None = None
    """Private key (PEM) of the certificate."""

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if (self.cert is None) != (self.key is None):
            msg = f"{self.section}.cert and {self.section}.key must be given together, got one of them"
            raise ValueError(msg)
        return self

    def _need_token(self, key: str, host: str) -> None:
        """Refuse an address that other machines reach when there is no token."""
        if self.token is None and self.token_file is None and not only_this_machine(host):
            msg = (
                f"{self.section}.{key} {host!r} lets other machines see {self.what}, so it needs a token: put {LEAST_TOKEN} letters or "
                f"more into STREAMAV_{self.section.upper()}_TOKEN, or into a file named by {self.section}.token_file"
            )
            raise ValueError(msg)

    def secret(self) -> str | None:
        """Return the token, from the settings or from its file; None for none.

        Raises:
            SettingsError: when the file cannot be read, or the token is too short.
        """
        token = None if self.token is None else self.token.get_secret_value()
        if token is None and self.token_file is not None:
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                why = reason_of(exc)
                msg = f"{self.section}.token_file must be a readable text file, got {self.token_file}: {why}"
                raise SettingsError(msg) from exc
        if token is not None and len(token) < LEAST_TOKEN:
            msg = f"the token of {self.what} must have at least {LEAST_TOKEN} letters, got {len(token)}"
            raise SettingsError(msg)
        return token


class ViewSettings(AccessSettings):
    """The live page: where it listens, and who may look."""

    section: ClassVar[str] = "view"
    what: ClassVar[str] = "the live page"

    enabled: bool = False
    """True serves the page (--view)."""
    host: str = "127.0.0.1"
    """Address to listen on. Any address but that of this machine alone (127.0.0.1, ::1, localhost) needs a token."""
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """None: 8734, or a free port when that is in use. 0: a free port."""

    @model_validator(mode="after")
    def _check(self) -> ViewSettings:
        self._need_token("host", self.host)
        return self


class HttpSettings(AccessSettings):
    """The HTTP API: where it listens, and who may ask."""

    section: ClassVar[str] = "http"
    what: ClassVar[str] = "the HTTP API"

    commands: bool = False
    """True: take changes (PATCH) of what is detected while it runs. Whoever may ask the API can switch detection off."""
    listen: str | None = None
    """Address and port, such as 127.0.0.1:8735, or a port alone for this machine; port 0 takes a free one. None: no API.
    Any address but that of this machine alone needs a token."""

    @model_validator(mode="after")
    def _check(self) -> HttpSettings:
        if self.listen is not None:
            self._need_token("listen", self.host)
        return self

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str | None) -> str | None:
        if listen is not None and (_LISTEN.fullmatch(listen) is None or int(listen.rpartition(":")[2]) > _LAST_PORT):
            msg = f"it must be ADDRESS:PORT such as 127.0.0.1:8735 or [::1]:8735, or a port alone, 0 to {_LAST_PORT}"
            raise ValueError(msg)
        return listen

    @property
    def host(self) -> str:
        """Address to listen on."""
        return (self.listen or "").rpartition(":")[0] or "127.0.0.1"

    @property
    def port(self) -> int:
        """Port to listen on; 0 for a free one."""
        return int((self.listen or "0").rpartition(":")[2])


def only_this_machine(host: str) -> bool:
    """Return whether a host name or address means this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


LogForm = Literal["auto", "text", "json", "journal"]


class LogSettings(Options):
    """The log on standard error, and the file that keeps its newest lines."""

    format: LogForm = "auto"
    """json: one object a line. journal: text with priorities and without times. auto: journal under systemd, else text."""
    keep: bool = True
    """True keeps the newest 2 MB from INFO on in <state_dir>/streamav.log, without secrets, for `streamav support-bundle`."""


class JournalSettings(Options):
    """The journal: events of all runs, and the scores of each segment, for `streamav events` and `streamav explain`."""

    enabled: bool = True
    """False: no journal is written."""
    scores: bool = True
    """False: only events are kept. Scores take about 10 MB a day for each source."""
    days: Annotated[float, Field(gt=0.0, le=36_500.0)] = 30.0
    """What is older is removed."""
    megabytes: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """When the journal is larger, its oldest scores are removed, then its oldest events."""


class ClipSettings(Options):
    """Clips and snapshots of confirmed events."""

    dir: Path | None = None
    """Folder for them, one folder in it for each source; None for no clips."""
    pre_s: Annotated[float, Field(ge=0.0, le=60.0)] = 5.0
    """How long before its event a clip begins, s; it begins with a key frame, so it may begin earlier."""
    post_s: Annotated[float, Field(ge=0.0, le=60.0)] = 5.0
    """How long after its event a clip ends, s."""
    max_s: Annotated[float, Field(ge=1.0, le=600.0)] = 60.0
    """Longest time of an event that its clip shows, s."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")] | None = None
    """Address of the HTTP API as others reach it, such as http://nas.local:8735; None for the address on which it listens."""
    snapshots: bool = True
    """True writes a JPEG picture of each event, too, with the attention and its box."""
    keep_days: Annotated[float, Field(gt=0.0)] = 14.0
    """Older clips and snapshots are deleted."""
    max_mb: Annotated[int, Field(ge=1)] = 4_000
    """Most megabytes of clips and snapshots together; the oldest are deleted."""
    min_free_mb: Annotated[int, Field(ge=0)] = 500
    """No clip is written while the disk has less free space than this."""
