"""Defines every setting of a run, with unit and range, in one place. A stage receives its own class, never all settings.

An unknown key is refused. `config_loading` reads the values (from file, environment and options).
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, field_validator, model_validator

from streamav.detection_settings import ClassSettings, DetectionSettings
from streamav.output_settings import (
    NUMBER_AS_TEXT,
    BackoffSettings,
    ClipSettings,
    HttpSettings,
    JournalSettings,
    LogSettings,
    MqttSettings,
    Options,
    OutboxSettings,
    TlsSettings,
    ViewSettings,
    only_this_machine,
)
from streamav.slugs import NAME_SIZE, SLUG_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "NO_DEVICE",
    "BackoffSettings",
    "CaptureSettings",
    "ClassSettings",
    "ClipSettings",
    "DecoderChoice",
    "DetectionSettings",
    "EngineChoice",
    "HttpSettings",
    "JournalSettings",
    "LabelSettings",
    "LogSettings",
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
RESERVED_SOURCE_IDS = frozenset({"status", "info", "stats", "doctor", "answer", "restate", "cluster"})
"""Words that are topics of the service itself (MQTT contract, section 1)."""
MOST_SOURCES = 64
"""Most sources of one process (our choice: more than any machine that we measured could carry)."""
MOST_CLUSTER_SOURCES = 4096
"""Most sources of one file. More than MOST_SOURCES need --cluster."""
NO_DEVICE = "none"
"""Stands for no camera, or no microphone."""
_ONE_AND_MANY = (
    "there are several sources ([[sources]]), so options of a single source (source.*: --source, --camera, --mic, --id, --speed, "
    "--duration, STREAMAV_SOURCE_*) must not be given as well; set a value of one source by --set sources.0.KEY=VALUE, "
    "or STREAMAV_SOURCES_0_KEY"
)

ADDRESS_SETTINGS: Final = ("uri", "sound_uri", "camera", "mic")
"""Settings of a source that may be addresses with secrets in them; wherever they are shown, `show_address` shows them."""
EngineChoice = Literal["auto", "torch", "cpu", "cuda", "tensorrt"]
DecoderChoice = Literal["software", "auto", "cuda", "videotoolbox", "vaapi"]
PrecisionChoice = Literal["auto", "fp32", "fp16", "bf16", "int8"]
_ONE_OR_MORE = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
"""Reads one name without brackets; names of classes hold commas, so a text is not split."""


class SourceSettings(Options):
    """Where sound and pictures come from: `uri` alone, or `camera` and `mic`, or the embedded `scene`."""

    id: Annotated[str, Field(pattern=SOURCE_ID_PATTERN)] = "camera"
    """Topic level. It must stay the same for a source."""
    uri: str | None = None
    """File, rtsp://, http://, udp://, tcp:// ...: one demuxer reads sound and picture. The word `scene` stands for the embedded scene."""
    sound_uri: str | None = None
    """Address or file whose sound is taken instead of that of `uri`, or with the pictures of `camera`."""
    user: str | None = None
    """User name for the address `uri`, unless the address holds one."""
    password: SecretStr | None = None
    """Password for `user`. It may be in the file and in STREAMAV_SOURCE_PASSWORD, not on the command line."""
    password_file: Path | None = None
    """File whose first line is the password."""
    camera: str | None = None
    """Camera: a number, /dev/video..., /dev/v4l/by-id/..., or part of a device name. "none": pictures are not used."""
    camera_size: Annotated[str, Field(pattern=r"^\d{2,5}x\d{2,5}$")] | None = None
    """Width and height that the camera sends, such as 1280x720; None for its own choice. `streamav devices` lists what it can send."""
    camera_rate: Annotated[float, Field(gt=0.0, le=240.0)] | None = None
    """Pictures a second that the camera sends; None for its own choice."""
    camera_format: Annotated[str, Field(pattern=r"^[a-z0-9_]{2,20}$")] | None = None
    """How the camera sends pictures, in FFmpeg's words: mjpeg, h264, yuyv422, nv12 ...; None for its own choice."""
    mic: str | None = None
    """Microphone: "default", a number, or part of a device name. "none": sound is not used. With `uri`: replaces its sound."""
    sound_track: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Which sound of a file or stream with several (languages, microphones) is used, counted from 1; None for the best one."""
    picture_track: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Which pictures of a file or stream with several (lenses, programmes) are used, counted from 1; None for the best ones."""
    scene: bool = False
    """True for the embedded rendered scene."""
    loop: bool = False
    """True plays a file again and again."""
    speed: Annotated[Literal["1", "max"], NUMBER_AS_TEXT] = "1"
    """Pace of a file: "1" plays it at its own pace, "max" as fast as the machine can."""
    duration_s: Annotated[float, Field(gt=0.0, le=1_000_000_000.0)] | None = None
    """Stop after this many seconds of media, rounded to whole segments; None for no limit."""
    begin_s: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Start a file this many seconds after its beginning, s; its events keep their places on the file's own axis."""

    @model_validator(mode="before")
    @classmethod
    def _read_scene(cls, values: object) -> object:
        """Read the word scene as --source does; a file of that name is ./scene."""
        if isinstance(values, dict) and values.get("uri") == "scene":
            return values | {"uri": None, "scene": True}
        return values

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        if value in RESERVED_SOURCE_IDS:
            msg = f"it must not be one of {', '.join(sorted(RESERVED_SOURCE_IDS))}, which are topics of the service itself; choose another"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check(self) -> SourceSettings:
        for rule, broken in self._contradictions():
            if broken:
                raise ValueError(rule)
        return self

    def _contradictions(self) -> Iterator[tuple[str, bool]]:
        """Yield what must hold between the settings of a source, and whether it does not."""
        others = self.uri, self.sound_uri, self.camera, self.mic
        yield "the embedded scene is a whole source: leave uri, sound_uri, camera and mic out", self.scene and any(others)
        yield (
            "pictures must come from one place: set uri or camera (for the sound of an address with the pictures of a camera: sound_uri)",
            self.uri is not None and self.camera_device is not None,
        )
        yield "sound must come from one place: set mic or sound_uri", self.sound_uri is not None and self.mic is not None
        yield 'camera and mic are both "none", so nothing is left: set one of them', self.camera == self.mic == NO_DEVICE
        yield (
            'with camera = "none" the sound comes from the address, so mic and sound_uri must be left out',
            self.uri is not None and self.camera == NO_DEVICE and (self.mic_device or self.sound_uri) is not None,
        )
        yield (
            "sound_uri needs pictures: set uri or camera, or write the address as uri",
            self.sound_uri is not None and not (self.uri or self.camera_device),
        )
        yield (
            "loop is for a file: set uri to its path, without another source of sound",
            self.loop and (self.uri is None or (self.sound_uri or self.mic_device) is not None),
        )
        shape = self.camera_size, self.camera_rate, self.camera_format
        yield "camera_size, camera_rate and camera_format need a camera", any(shape) and self.camera_device is None
        yield "a password needs uri and user", (self.password or self.password_file) is not None and not (self.uri and self.user)

    @property
    def camera_device(self) -> str | None:
        """Return the camera, None when there is none."""
        return None if self.camera == NO_DEVICE else self.camera

    @property
    def mic_device(self) -> str | None:
        """Return the microphone, None when there is none."""
        return None if self.mic == NO_DEVICE else self.mic


class CaptureSettings(Options):
    """Timing and patience of capture."""

    queue_segments: Annotated[int, Field(ge=1, le=60)] = 4
    """How many whole segments may wait for the networks. When a live source has more, the oldest is dropped and counted."""
    timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 5.0
    """A live source is lost when nothing comes from it for this long, s."""
    reconnect_min_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 0.5
    """Shortest pause between attempts to reopen a live source, s. The pause doubles, with jitter."""
    reconnect_max_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 30.0
    """Longest pause between attempts to reopen a live source, s."""
    audio_delay_ms: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Measured delay of sound against pictures, ms, positive when sound is late (`streamav sync-check`); it is taken out."""
    reconnect: bool = True
    """False: when a live source is lost, the run ends with exit code 3."""
    isolate: bool | None = None
    """True reads each file or network stream in a process of its own, so that a crash of FFmpeg ends one source and not the run.
    None: network streams, where there are several sources. Each process takes about 45 MB (docs/adr/0015)."""
    decoder: DecoderChoice = "software"
    """What decodes pictures: the processor, the named device, or with auto the first device that works."""
    retry_start: bool | None = None
    """True: a live source that cannot be opened at the start is tried again, as after a loss. False: it ends the run with exit code 3.
    None: True where there are several sources, so that one dead camera does not keep the others from running."""


class ModelSettings(Options):
    """Which networks run, and on which engine."""

    name: str = "auto"
    """auto, starter, edge, paper, a name in the model cache, or the folder of a bundle. auto: edge where its encoders are, else starter."""
    weights_dir: Path | None = None
    """Folder of the encoders that a bundle names but does not contain (edge, paper)."""
    engine: EngineChoice = "auto"
    """What runs the networks; auto is the fastest engine that works on this machine."""
    precision: PrecisionChoice = "auto"
    """Precision of the networks' numbers; auto is the engine's default."""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads of the CPU engine; None for one thread a core."""
    frames_per_second: Annotated[int, Field(ge=1, le=16)] | None = None
    """Frames of a segment that the networks process; None for the number in the model card."""
    early: bool | Literal["auto"] = "auto"
    """True encodes the pictures of a segment as they come, false at its end; auto by the engine's recorded cost. A busy machine waits."""
    gather_ms: Annotated[int, Field(ge=0, le=500)] = 0
    """How long a finished segment waits for other sources' segments that are due, to run as one batch (ms); 0 for no wait."""


class LabelSettings(Options):
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


class OneOfSources(SourceSettings):
    """One `[[sources]]` table: a source and its own settings. What it leaves out is taken from `detection` and `capture`."""

    id: Annotated[str, Field(pattern=SOURCE_ID_PATTERN)]
    """Topic level. It must be unique and must stay the same for a source."""
    node: Annotated[str, Field(min_length=1)] | None = None
    """With --cluster: the only machine that can open this source, by its Ray node name, host name, address or custom resource."""
    detection: DetectionSettings = DetectionSettings()
    capture: CaptureSettings = CaptureSettings()


class Settings(Options):
    """All settings of `streamav run`."""

    source: SourceSettings = SourceSettings()
    """The only source; refused together with `sources`."""
    sources: Annotated[tuple[OneOfSources, ...], Field(max_length=MOST_CLUSTER_SOURCES)] = ()
    """Several sources, instead of `source`."""
    capture: CaptureSettings = CaptureSettings()
    model: ModelSettings = ModelSettings()
    detection: DetectionSettings = DetectionSettings()
    labels: dict[LabelSlug, LabelSettings] = Field(default_factory=dict)
    """Labels by definition, by slug."""
    clips: ClipSettings = ClipSettings()
    mqtt: MqttSettings | None = None
    view: ViewSettings = ViewSettings()
    http: HttpSettings = HttpSettings()
    journal: JournalSettings = JournalSettings()
    log: LogSettings = LogSettings()
    jsonl: str | None = None
    """File for events, one JSON object a line; "-" for standard output."""
    state_dir: Path | None = None
    """Folder of the journal, of waiting messages and of the client id; None: $XDG_STATE_HOME/streamav or ~/.local/state/streamav."""

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if "background" in self.labels:
            msg = "labels.background must have another name: background is what is left when no label holds"
            raise ValueError(msg)
        if self.mqtt is not None and self.mqtt.snapshot != "off" and (self.clips.dir is None or not self.clips.snapshots):
            msg = f"mqtt.snapshot = {self.mqtt.snapshot} needs clips.dir and clips.snapshots, which make the pictures; set them"
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
