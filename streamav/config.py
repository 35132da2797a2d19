"""Every setting of a run, with unit and range, in one place; a stage is given its own class, never the whole.

A TOML file is read first, `STREAMAV_*` variables of the environment override it, `--set section.key=value` overrides both.
Several sources stand in the file as `[[sources]]`; `sources.0.uri` and STREAMAV_SOURCES_0_URI name the first one's address.
An unknown key is refused and the nearest right one is named. Nothing is read from disk or environment at import.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from streamav.errors import SettingsError
from streamav.thresholds import PartialThresholds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "BackoffSettings",
    "CaptureSettings",
    "ClassSettings",
    "DetectionSettings",
    "EngineChoice",
    "ModelSettings",
    "MqttSettings",
    "OneOfSources",
    "OutboxSettings",
    "PrecisionChoice",
    "Settings",
    "SourceSettings",
    "TlsSettings",
    "load_settings",
]

SOURCE_ID_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
"""One topic level of the MQTT contract (section 2, topic names)."""
RESERVED_SOURCE_IDS = frozenset({"status", "info", "stats", "doctor"})
"""Words that are topics of the service itself (MQTT contract, section 1)."""
ENVIRONMENT_PREFIX = "STREAMAV_"
MOST_SOURCES = 64
"""Sources of one process (our choice: more than any one machine was seen to carry)."""

_ONE_AND_MANY = (
    "there are several sources ([[sources]]), so options of one (source.*: --source, --camera, --mic, --id, --speed, --duration, "
    "STREAMAV_SOURCE_*) cannot be given as well; set one of them by --set sources.0.KEY=VALUE, or STREAMAV_SOURCES_0_KEY"
)
_ONE_OF_SOURCES = re.compile(r"sources_(\d+)_(.+)")

EngineChoice = Literal["auto", "torch", "cpu", "cuda", "tensorrt"]
PrecisionChoice = Literal["auto", "fp32", "fp16", "bf16", "int8"]


class _Options(BaseModel):
    """Frozen settings that refuse keys they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class SourceSettings(_Options):
    """Where sound and pictures come from: either `uri` alone, or `camera` and `mic`, or the embedded `scene`."""

    id: Annotated[str, Field(pattern=SOURCE_ID_PATTERN)] = "camera"
    """Topic level; never changes for a source."""
    uri: str | None = None
    """File, rtsp://, http://, udp://, tcp:// ... : sound and picture from one demuxer."""
    camera: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    """Camera: a number, /dev/video..., or part of a device name."""
    mic: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    """Microphone: "default", a number, or part of a device name."""
    scene: bool = False
    """True for the embedded rendered scene."""
    speed: Literal["1", "max"] = "1"
    """Replay of a file: at its own pace, or as fast as the machine goes."""
    duration_s: Annotated[float, Field(gt=0.0)] | None = None
    """Stop after so many seconds of media; None for no limit."""

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
    """Whole segments that may wait for the networks; live, the oldest is dropped and counted."""
    timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 5.0
    """A live source that gives nothing for so long is lost."""
    reconnect_min_s: Annotated[float, Field(gt=0.0)] = 0.5
    reconnect_max_s: Annotated[float, Field(gt=0.0)] = 30.0
    """Bounds of the jittered, doubling pause between attempts to reopen a live source."""
    reconnect: bool = True
    """False: a live source that is lost ends the run with exit code 3."""


class ModelSettings(_Options):
    """Which networks run, and on what."""

    name: str = "starter"
    """starter, edge, paper, a name in the model cache, or the folder of a bundle."""
    weights_dir: Path | None = None
    """Folder with the encoders that a bundle names but does not hold (edge, paper)."""
    engine: EngineChoice = "auto"
    precision: PrecisionChoice = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads of the CPU engine; None for one a core."""
    frames_per_second: Annotated[int, Field(ge=1, le=16)] | None = None
    """Frames of a segment that are looked at; None for what the model card says."""
    gather_ms: Annotated[int, Field(ge=0, le=500)] = 0
    """Longest wait of a second that has come for those of other sources that are due, so that they form one batch; 0: none."""


class ClassSettings(PartialThresholds):
    """What differs for one class; None means: as in `detection`, or as the model card says."""

    enabled: bool = True


class DetectionSettings(PartialThresholds):
    """From scores to events; None means: as the model card says."""

    latency_segments: Annotated[int, Field(ge=1, le=10)] | None = None
    """Latency L: a segment is final once L windows have scored it, L seconds after its start (MQTT contract, section 5.3)."""
    classes: dict[str, ClassSettings] = Field(default_factory=dict)
    """By label."""


class OneOfSources(SourceSettings):
    """One `[[sources]]` table: a source with what is different for it; what it leaves out is as in `detection` and `capture`."""

    id: Annotated[str, Field(pattern=SOURCE_ID_PATTERN)]
    """Topic level; unique, and never changes for a source."""
    detection: DetectionSettings = DetectionSettings()
    capture: CaptureSettings = CaptureSettings()


class TlsSettings(_Options):
    """TLS of the MQTT connection."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    """True switches the check of the host name off; a warning is logged at every start."""


class OutboxSettings(_Options):
    """Bounds of what waits for an absent broker."""

    messages: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    bytes: Annotated[int, Field(ge=1_000)] = 16_000_000


class BackoffSettings(_Options):
    """Pause between attempts to connect: exponential with full jitter."""

    min_s: Annotated[float, Field(gt=0.0)] = 1.0
    max_s: Annotated[float, Field(gt=0.0)] = 60.0


class MqttSettings(_Options):
    """The broker and what is said to it (MQTT contract, section 13)."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    base: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+(/[a-zA-Z0-9_-]+)*$")] = "streamav"
    """First topic level or levels."""
    client_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    """None: one is made once and kept."""
    username: str | None = None
    password: SecretStr | None = None
    """Only from the environment (STREAMAV_MQTT_PASSWORD) or a file; never on the command line."""
    password_file: Path | None = None
    protocol: Literal["3.1.1", "5"] = "5"
    keepalive_s: Annotated[int, Field(ge=2, le=3600)] = 30
    timeout_s: Annotated[float, Field(gt=0.0, le=120.0)] = 10.0
    provisional: bool = True
    """False: an event is first published when it is confirmed."""
    scores: bool = False
    """True: publish per-second scores for debugging at QoS 0."""
    outbox: OutboxSettings = OutboxSettings()
    backoff: BackoffSettings = BackoffSettings()
    tls: TlsSettings | None = None
    """None: no TLS."""


class Settings(_Options):
    """Everything `streamav run` can be told."""

    source: SourceSettings = SourceSettings()
    """The only source; without effect where there are `sources`."""
    sources: Annotated[tuple[OneOfSources, ...], Field(max_length=MOST_SOURCES)] = ()
    """Several sources, instead of `source`."""
    capture: CaptureSettings = CaptureSettings()
    model: ModelSettings = ModelSettings()
    detection: DetectionSettings = DetectionSettings()
    mqtt: MqttSettings | None = None
    jsonl: str | None = None
    """File for events, one JSON object a line; "-" for standard output."""
    state_dir: Path | None = None
    """Folder of the journal of open events and the client id; None: $XDG_STATE_HOME/streamav or ~/.local/state/streamav."""

    @model_validator(mode="after")
    def _check(self) -> Settings:
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
        """Give the sources of the run, one or several, each with all that holds for it: its own settings over the general ones."""
        if not self.sources:
            return (OneOfSources(**self.source.model_dump(), detection=self.detection, capture=self.capture),)
        return tuple(
            one.model_copy(update={"detection": _over(self.detection, one.detection), "capture": _over(self.capture, one.capture)})
            for one in self.sources
        )


_Model = TypeVar("_Model", bound=BaseModel)


def _over(general: _Model, own: _Model) -> _Model:
    """Lay what *own* was given over *general*."""
    tree = general.model_dump(exclude_unset=True)
    _merge(tree, own.model_dump(exclude_unset=True))
    return type(general).model_validate(tree)


def load_settings(
    file: Path | None = None,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    base: Mapping[str, object] | None = None,
) -> Settings:
    """Build the settings of a run.

    Args:
        file: TOML file, or None.
        overrides: "section.key=value" strings; the value is read as TOML, or as a bare string where that fails.
        environment: variables to look at; None for those of the process. STREAMAV_MQTT_HOST sets mqtt.host.
        base: nested values that come from command line options; they win over the environment, `overrides` win over them.

    Raises:
        SettingsError: when the file is missing or not TOML, a key is unknown, or a value is out of range.
    """
    tree: dict[str, object] = {} if file is None else _read(file)
    for name, value in sorted((os.environ if environment is None else environment).items()):
        path = _environment_path(name)
        if path is not None:
            _put(tree, path, value)
    _merge(tree, base or {})
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            msg = f"--set takes section.key=value, got {override!r}"
            raise SettingsError(msg)
        _put(tree, tuple(key.strip().split(".")), _value(text))
    try:
        return Settings.model_validate(tree)
    except ValidationError as exc:
        raise SettingsError("\n".join(_explain(error) for error in exc.errors())) from None


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        msg = f"the configuration file {file} cannot be read: {exc.strerror}"
        raise SettingsError(msg) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        msg = f"the configuration file {file} must be TOML: {exc}"
        raise SettingsError(msg) from exc


def _environment_path(name: str) -> tuple[str, ...] | None:
    """Give the path of a setting named by an environment variable: STREAMAV_MQTT_TLS_CA is ("mqtt", "tls", "ca")."""
    if not name.startswith(ENVIRONMENT_PREFIX):
        return None
    rest = name.removeprefix(ENVIRONMENT_PREFIX).lower()
    numbered = _ONE_OF_SOURCES.fullmatch(rest)
    if numbered is not None:
        return next((("sources", numbered[1], *path) for path in _paths(OneOfSources) if "_".join(path) == numbered[2]), None)
    return next((path for path in _paths(Settings) if "_".join(path) == rest and path[0] != "sources"), None)


def _paths(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Give the paths of all plain settings below *model*; those of a list of sections without their number."""
    paths: list[tuple[str, ...]] = []
    for name in model.model_fields:
        inner = _section(model, name)
        paths += [(*prefix, name)] if inner is None else _paths(inner, (*prefix, name))
    return paths


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Give the settings class of a field that is a section of its own, or None for a plain value."""
    annotation = model.model_fields[name].annotation
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate if getattr(annotation, "__origin__", None) is not dict else None
    return None


def _put(tree: dict[str, object], path: tuple[str, ...], value: object) -> None:
    """Set one leaf of a nested dictionary, making the sections on its way; a number chooses one of a list of sections."""
    place: object = tree
    for depth, key in enumerate(path[:-1], 1):
        if isinstance(place, list):
            place = _numbered(place, path, depth)
        elif isinstance(place, dict):
            place = place.setdefault(key, [] if key == "sources" else {})
    if isinstance(place, dict):
        place[path[-1]] = value
        return
    msg = f"{'.'.join(path)} cannot be set: {'.'.join(path[:-1])} is a value, not a section"
    raise SettingsError(msg)


def _numbered(sections: list[object], path: tuple[str, ...], depth: int) -> object:
    """Give the section of a list that a path names at *depth*."""
    number = path[depth - 1]
    if not number.isdigit() or int(number) >= len(sections):
        where = ".".join(path[: depth - 1])
        known = f"has the numbers 0 to {len(sections) - 1}" if sections else "is empty: the file has no [[sources]]"
        msg = f"{'.'.join(path)} cannot be set: {where} {known}, got {number!r}"
        raise SettingsError(msg)
    return sections[int(number)]


def _merge(tree: dict[str, object], newer: Mapping[str, object]) -> None:
    """Lay nested values over a nested dictionary."""
    for key, value in newer.items():
        inner = tree.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            _merge(inner, value)
        else:
            tree[key] = dict(value) if isinstance(value, dict) else value


def _value(text: str) -> object:
    """Read a value as TOML would, and anything else as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: object) -> str:
    """Put one pydantic error into a sentence that names the setting and, for an unknown one, the nearest right one."""
    detail = dict(error) if isinstance(error, dict) else {}
    location = [str(part) for part in detail["loc"]]
    where = ".".join(location) or "settings"
    if detail["type"] == "missing":
        return f"{where} must be given"
    if not location and detail["type"] == "value_error":  # a rule about several settings names them itself
        return str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"unknown setting {where}; the nearest is {_nearest(location)}"
    given = detail.get("input")
    if location == ["sources"]:
        got = (
            str(len(given))
            if isinstance(given, list | tuple)
            else f"a {'table: write [[sources]]' if isinstance(given, dict) else 'value'}"
        )
        return f"sources must be at most {MOST_SOURCES} tables, each headed [[sources]], got {got}"
    said = f"{where}: {str(detail['msg']).removeprefix('Value error, ')}"
    if isinstance(given, dict | list | tuple):  # a whole section: its address or password need not be shown
        return said
    return f"{said} (got {'a secret' if 'password' in where else repr(given)})"


def _nearest(location: list[str]) -> str:
    """Give the known setting most like an unknown one: a like name in the same section first, then a like path anywhere."""
    known = _paths(Settings)
    section = [part for part in location[:-1] if not part.isdigit()]
    beside = [path[-1] for path in known if list(path[:-1]) == section]
    near = difflib.get_close_matches(location[-1], beside, n=1, cutoff=0.5)
    if near:
        return ".".join([*location[:-1], near[0]])
    return difflib.get_close_matches(".".join(location), [".".join(path) for path in known], n=1, cutoff=0.0)[0]
