"""Defines every setting of a run, with unit and range, in one place. A stage receives its own class, never all settings.

An unknown key is refused. `config_loading` reads the values (from file, environment and options).
"""

from __future__ import annotations

import ipaddress
import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from streamav.errors import SettingsError
from streamav.files import NAME_SIZE, SLUG_SIZE
from streamav.thresholds import PartialThresholds

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BackoffSettings",
    "CaptureSettings",
    "ClassSettings",
    "ClipSettings",
    "DetectionSettings",
    "EngineChoice",
    "JournalSettings",
    "LabelSettings",
    "ModelSettings",
    "MqttSettings",
    "OneOfSources",
    "OutboxSettings",
    "PrecisionChoice",
    "Settings",
    "SourceSettings",
    "TlsSettings",
    "ViewSettings",
    "merge",
    "only_this_machine",
]

LabelSlug = Annotated[str, Field(pattern=rf"^[a-z0-9_]{{1,{SLUG_SIZE}}}$")]
"""A label in topics and events."""
SOURCE_ID_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
"""One topic level of the MQTT contract (section 2, topic names)."""
RESERVED_SOURCE_IDS = frozenset({"status", "info", "stats", "doctor"})
"""Words that are topics of the service itself (MQTT contract, section 1)."""
MOST_SOURCES = 64
"""Most sources of one process (our choice: more than any machine that we measured could carry)."""
PLAIN_PORT = 1883
"""IANA: mqtt."""
TLS_PORT = 8883
"""IANA: secure-mqtt."""

LEAST_TOKEN = 12
"""Fewest letters of the live page's token (our choice)."""

_ONE_AND_MANY = (
    "there are several sources ([[sources]]), so options of a single source (source.*: --source, --camera, --mic, --id, --speed, "
    "--duration, STREAMAV_SOURCE_*) must not be given as well; set a value of one source by --set sources.0.KEY=VALUE, "
    "or STREAMAV_SOURCES_0_KEY"
)

EngineChoice = Literal["auto", "torch", "cpu", "cuda", "tensorrt"]
PrecisionChoice = Literal["auto", "fp32", "fp16", "bf16", "int8"]
_ONE_OR_MORE = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
"""Reads one name without brackets; names of classes hold commas, so a text is not split."""
_WORDS = BeforeValidator(lambda value: tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else value)
"""Reads words between commas."""
_NUMBER_AS_TEXT = BeforeValidator(lambda value: str(value) if type(value) is int else value)


class _Options(BaseModel):
    """Frozen settings that refuse unknown keys. Where a text is expected, a number needs no quotes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True, allow_inf_nan=False)


class SourceSettings(_Options):
    """Where sound and pictures come from: `uri` alone, or `camera` and `mic`, or the embedded `scene`."""

    id: Annotated[str, Field(pattern=SOURCE_ID_PATTERN)] = "camera"
    """Topic level. It must stay the same for a source."""
    uri: str | None = None
    """File, rtsp://, http://, udp://, tcp:// ...: one demuxer gives sound and picture. The word scene is the embedded scene."""
    camera: str | None = None
    """Camera: a number, /dev/video..., or part of a device name."""
    mic: str | None = None
    """Microphone: "default", a number, or part of a device name."""
    scene: bool = False
    """True for the embedded rendered scene."""
    speed: Annotated[Literal["1", "max"], _NUMBER_AS_TEXT] = "1"
    """Pace of a file: "1" plays it at its own pace, "max" as fast as the machine can."""
    duration_s: Annotated[float, Field(gt=0.0)] | None = None
    """Stop after this many seconds of media, rounded to whole segments; None for no limit."""

    @model_validator(mode="before")
    @classmethod
    def _read_scene(cls, values: object) -> object:
        """Read the word scene as --source does; a file of that name is ./scene."""
        if isinstance(values, dict) and values.get("uri") == "scene":
            return values | {"uri": None, "scene": True}
        return values

    @model_validator(mode="after")
    def _check(self) -> SourceSettings:
        if self.id in RESERVED_SOURCE_IDS:
            msg = f"source.id must not be one of {', '.join(sorted(RESERVED_SOURCE_IDS))}, got {self.id!r}"
            raise ValueError(msg)
        devices = self.camera is not None or self.mic is not None
        if (self.uri is not None) + devices + self.scene > 1:
            msg = "a source is either a file or URL, or a camera with a microphone, or the embedded scene: give only one of them"
            raise ValueError(msg)
        return self


class CaptureSettings(_Options):
    """Timing and patience of capture."""

    queue_segments: Annotated[int, Field(ge=1, le=60)] = 4
    """How many whole segments may wait for the networks. When a live source has more, the oldest is dropped and counted."""
    timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 5.0
    """A live source that gives nothing for this long is lost, s."""
    reconnect_min_s: Annotated[float, Field(gt=0.0)] = 0.5
    reconnect_max_s: Annotated[float, Field(gt=0.0)] = 30.0
    """Bounds of the pause between attempts to reopen a live source, s. The pause doubles, with jitter."""
    reconnect: bool = True
    """False: when a live source is lost, the run ends with exit code 3."""


class ModelSettings(_Options):
    """Which networks run, and on which engine."""

    name: str = "auto"
    """auto, starter, edge, paper, a name in the model cache, or the folder of a bundle. auto: edge where its encoders are, else starter."""
    weights_dir: Path | None = None
    """Folder of the encoders that a bundle names but does not contain (edge, paper)."""
    engine: EngineChoice = "auto"
    precision: PrecisionChoice = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads of the CPU engine; None for one thread a core."""
    frames_per_second: Annotated[int, Field(ge=1, le=16)] | None = None
    """Frames of a segment that the networks process; None for the number in the model card."""
    gather_ms: Annotated[int, Field(ge=0, le=500)] = 0
    """How long a finished segment waits for other sources' segments that are due, to run as one batch (ms); 0 for no wait."""


class ClassSettings(PartialThresholds):
    """What differs for one class; None means: the value of `detection`, or of the model card."""

    enabled: bool = True


class LabelSettings(_Options):
    """One `[labels.SLUG]` table: a label by names of classes, without training. A label of the model with this slug is replaced."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_SIZE)] | None = None
    """Name for people; None for the slug with spaces."""
    hear: Annotated[tuple[str, ...], _ONE_OR_MORE, Field(min_length=1)]
    """Names of AudioSet classes, of which one is heard."""
    see: Annotated[tuple[str, ...], _ONE_OR_MORE] = ()
    """Names of ImageNet classes, groups of them or picture classes of the model, of which one is seen; none for a sound."""
    kind: Literal["audio-visual", "sound"] = "audio-visual"
    """Whether an event is heard and seen, or heard alone."""

    @model_validator(mode="after")
    def _check(self) -> LabelSettings:
        if self.kind == "sound" and self.see:
            msg = f'a label of kind "sound" is only heard, so it must have no see, got {", ".join(self.see)}; leave see or kind out'
            raise ValueError(msg)
        if self.kind == "audio-visual" and not self.see:
            msg = 'a label of kind "audio-visual" must have hear and see, got no see; name what is seen, or write kind = "sound"'
            raise ValueError(msg)
        return self


class DetectionSettings(PartialThresholds):
    """How scores become events; None means: the value of the model card."""

    labels: Annotated[tuple[str, ...], _WORDS, Field(min_length=1)] | None = None
    """Presets (home, ave28, all24; model for the model's own) and single labels. Where only presets are named, labels by definition
    (`labels`) join them; where single labels are named, exactly these are used. None: home for cameras and network streams, else model."""
    latency_segments: Annotated[int, Field(ge=1, le=10)] | None = None
    """Latency L: a segment is final once L windows have scored it, L seconds after its start (MQTT contract, section 5.3)."""
    classes: dict[str, ClassSettings] = Field(default_factory=dict)
    """Settings of single classes, by label."""


class OneOfSources(SourceSettings):
    """One `[[sources]]` table: a source and its own settings. What it leaves out is taken from `detection` and `capture`."""

    id: Annotated[str, Field(pattern=SOURCE_ID_PATTERN)]
    """Topic level. It must be unique and must stay the same for a source."""
    detection: DetectionSettings = DetectionSettings()
    capture: CaptureSettings = CaptureSettings()


class TlsSettings(_Options):
    """TLS of the MQTT connection."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    """True disables the check of the host name; a warning is logged at every start."""

    @model_validator(mode="after")
    def _check(self) -> TlsSettings:
        if self.key is not None and self.cert is None:
            msg = "tls.key must be given together with tls.cert, the certificate that it belongs to, got a key alone"
            raise ValueError(msg)
        return self


class OutboxSettings(_Options):
    """Limits of the messages that wait while the broker is away."""

    messages: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    bytes: Annotated[int, Field(ge=1_000, le=1 << 40)] = 16_000_000


class BackoffSettings(_Options):
    """Pause between attempts to connect: exponential with full jitter."""

    min_s: Annotated[float, Field(gt=0.0)] = 1.0
    max_s: Annotated[float, Field(gt=0.0)] = 4.0
    """Short, so that a broker that is back is used again within 5 s. One attempt every 2 s on average is no load."""
    refused_s: Annotated[float, Field(gt=0.0)] = 60.0
    """Pause after a refusal that a new attempt does not solve, such as a wrong password."""


class MqttSettings(_Options):
    """The broker, and what is published to it (MQTT contract, section 13)."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = PLAIN_PORT
    """Default: 8883 with TLS, 1883 without."""
    base: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+(/[a-zA-Z0-9_-]+)*$")] = "streamav"
    """First topic level or levels."""
    client_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    """None: a client id is made once and kept."""
    username: str | None = None
    password: SecretStr | None = None
    """Read only from the environment (STREAMAV_MQTT_PASSWORD) or a file, never from the command line."""
    password_file: Path | None = None
    protocol: Annotated[Literal["3.1.1", "5"], _NUMBER_AS_TEXT] = "5"
    keepalive_s: Annotated[int, Field(ge=2, le=3600)] = 30
    timeout_s: Annotated[float, Field(gt=0.0, le=120.0)] = 10.0
    provisional: bool = True
    """False: an event is published only after it is confirmed."""
    scores: bool = False
    """True: publish the final scores of each segment at QoS 0, for debugging."""
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
            msg = (
                "it must be the broker's name or IP address only; write the rest of an address into mqtt.port, mqtt.username and mqtt.base"
            )
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


class ViewSettings(_Options):
    """The live page: where it listens, and who may look."""

    enabled: bool = False
    """True serves the page (--view)."""
    host: str = "127.0.0.1"
    """Address to listen on. Any address but that of this machine alone (127.0.0.1, ::1, localhost) needs a token."""
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """None: 8734, or a free port when that is in use. 0: a free port."""
    token: SecretStr | None = None
    """What a visitor must enter. Read only from the environment (STREAMAV_VIEW_TOKEN) or a file, never from the command line."""
    token_file: Path | None = None
    cert: Path | None = None
    """Certificate (PEM) for TLS."""
    key: Path | None = None
    """Private key (PEM) of the certificate."""

    @model_validator(mode="after")
    def _check(self) -> ViewSettings:
        if (self.cert is None) != (self.key is None):
            msg = "view.cert and view.key must be given together, got one of them"
            raise ValueError(msg)
        if self.token is None and self.token_file is None and not only_this_machine(self.host):
            msg = (
                f"view.host {self.host!r} lets other machines see the page, so it needs a token: put at least {LEAST_TOKEN} letters into "
                "STREAMAV_VIEW_TOKEN, or into a file named by view.token_file"
            )
            raise ValueError(msg)
        return self

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
                msg = f"view.token_file must be a readable text file, got {self.token_file}: {getattr(exc, 'strerror', None) or exc}"
                raise SettingsError(msg) from exc
        if token is not None and len(token) < LEAST_TOKEN:
            msg = f"the token of the live page must have at least {LEAST_TOKEN} letters, got {len(token)}"
            raise SettingsError(msg)
        return token


def only_this_machine(host: str) -> bool:
    """Return whether a host name or address means this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class JournalSettings(_Options):
    """The journal: events of all runs, and the scores of each segment, for `streamav events` and `streamav explain`."""

    enabled: bool = True
    scores: bool = True
    """False: only events are kept. Scores take about 10 MB a day for each source."""
    days: Annotated[float, Field(gt=0.0, le=36_500.0)] = 30.0
    """What is older is removed."""
    megabytes: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """When the journal is larger, its oldest scores are removed, then its oldest events."""


class ClipSettings(_Options):
    """Clips and snapshots of confirmed events, of files and network streams."""

    dir: Path | None = None
    """Folder for them, one folder in it for each source; None for no clips."""
    pre_s: Annotated[float, Field(ge=0.0, le=60.0)] = 5.0
    """How long before its event a clip begins, s; it begins with a key frame, so it may begin earlier."""
    post_s: Annotated[float, Field(ge=0.0, le=60.0)] = 5.0
    """How long after its event a clip ends, s."""
    max_s: Annotated[float, Field(ge=1.0, le=600.0)] = 60.0
    """Longest time of an event that its clip shows, s."""
    snapshots: bool = True
    """True writes a JPEG picture of each event, too, with the attention and its box."""
    keep_days: Annotated[float, Field(gt=0.0)] = 14.0
    """Older clips and snapshots are deleted."""
    max_mb: Annotated[int, Field(ge=1)] = 4_000
    """Most megabytes of clips and snapshots together; the oldest are deleted."""
    min_free_mb: Annotated[int, Field(ge=0)] = 500
    """No clip is written while the disk has less free space than this."""


class Settings(_Options):
    """All settings of `streamav run`."""

    source: SourceSettings = SourceSettings()
    """The only source; refused together with `sources`."""
    sources: Annotated[tuple[OneOfSources, ...], Field(max_length=MOST_SOURCES)] = ()
    """Several sources, instead of `source`."""
    capture: CaptureSettings = CaptureSettings()
    model: ModelSettings = ModelSettings()
    detection: DetectionSettings = DetectionSettings()
    labels: dict[LabelSlug, LabelSettings] = Field(default_factory=dict)
    """Labels by definition, by slug."""
    clips: ClipSettings = ClipSettings()
    mqtt: MqttSettings | None = None
    view: ViewSettings = ViewSettings()
    journal: JournalSettings = JournalSettings()
    jsonl: str | None = None
    """File for events, one JSON object a line; "-" for standard output."""
    state_dir: Path | None = None
    """Folder of the journal, of waiting messages and of the client id; None: $XDG_STATE_HOME/streamav or ~/.local/state/streamav."""

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if "background" in self.labels:
            msg = "labels.background must have another name: background is what is left when no label holds"
            raise ValueError(msg)
        if self.sources and "source" in self.model_fields_set:
            raise ValueError(_ONE_AND_MANY)
        first: dict[str, int] = {}
        for number, one in enumerate(self.sources):
            if one.id in first:
                msg = f"the ids of sources must differ: sources.{first[one.id]}.id and sources.{number}.id are both {one.id!r}"
                raise ValueError(msg)
            first[one.id] = number
        return self

    def each_source(self) -> tuple[OneOfSources, ...]:
        """Return the sources of the run, one or several. Each holds its complete settings: its own values, then the general ones."""
        if not self.sources:
            return (OneOfSources(**self.source.model_dump(), detection=self.detection, capture=self.capture),)
        return tuple(
            one.model_copy(update={"detection": _over(self.detection, one.detection), "capture": _over(self.capture, one.capture)})
            for one in self.sources
        )


_Model = TypeVar("_Model", bound=BaseModel)


def _over(general: _Model, own: _Model) -> _Model:
    """Return *general* with the values that *own* was given."""
    tree = general.model_dump(exclude_unset=True)
    merge(tree, own.model_dump(exclude_unset=True))
    return type(general).model_validate(tree)


def merge(tree: dict[str, object], newer: Mapping[str, object]) -> None:
    """Merge nested values into a nested dictionary; sections merge, other values replace. `tree` shares no object with *newer*."""
    for key, value in newer.items():
        inner = tree.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            merge(inner, value)
        else:
            tree[key] = deepcopy(value)
