"""Defines the model card: everything about a model except its weights, checked on construction.

This module opens no file and builds no network: `store` reads and writes cards, `engines` builds the networks that they name.
"""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from streamav.errors import DataError, ModelError
from streamav.slugs import NAME_SIZE, SLUG_SIZE, slug
from streamav.thresholds import LONGEST, PartialThresholds, Probability, Thresholds, resolve

__all__ = [
    "SCHEMA",
    "AudioCard",
    "ClassEntry",
    "ClassName",
    "DetectionCard",
    "EvidenceCard",
    "Kind",
    "LocalizerCard",
    "Metrics",
    "ModelCard",
    "TrainingData",
    "VisualCard",
    "card_name",
    "parse_card",
]

SCHEMA: Final = "streamav.model/1"
"""Name and version of the card's format; any other version is refused."""
MAX_CLASSES = 1000
"""Most classes of a model (our choice: AudioSet has 527)."""

Count = Annotated[int, Field(ge=1, le=65_536)]
Side = Annotated[int, Field(ge=1, le=1024)]
"""Height or width of a picture. 16 pictures of 1024 x 1024 are 50 MB a second; the networks take 112 to 224."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
WeightsFile = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}\.safetensors$")]
"""A file name without folders, so that it cannot point outside the bundle's folder."""
Slug = Annotated[str, Field(pattern=rf"^[a-z0-9_]{{1,{SLUG_SIZE}}}$")]
"""The form of the names that `streamav.slugs.slug` returns."""


Kind = Literal["audio-visual", "sound"]
"""Whether an event of a label is heard and seen by the same thing, or heard alone."""
ClassName = Annotated[str, Field(min_length=1, max_length=NAME_SIZE)]
"""Name of a class that an encoder scores, as in `streamav.vocabulary`."""


class _Part(BaseModel):
    """Frozen part of a card; refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class ClassEntry(_Part):
    """One foreground class; its index in the list is its class_id."""

    slug: Slug
    """Label in topics and events; it never changes after release."""
    name: Annotated[str, Field(min_length=1, max_length=NAME_SIZE)]
    """Name for display, as in the data set."""
    kind: Kind = "audio-visual"
    hear: tuple[ClassName, ...] = ()
    """AudioSet classes whose sound is this label's; empty in a model without evidence."""
    see: tuple[ClassName, ...] = ()
    """ImageNet classes, groups of them, or the model's own picture classes, that this label shows; empty for a sound."""
    offset: float = 0.0
    """Added to the logit of this label's evidence: how much more often than others it is right. 0 for a label that was never trained."""


class EvidenceCard(_Part):
    """How the class scores of the encoders become logits of labels (`streamav.evidence`), fitted on real recordings."""

    bias: float
    heard: float
    """Weight of what is heard in the segment, per logit."""
    heard_peak: float
    """Weight of the largest that is heard in the segment and its neighbours, per logit."""
    seen: float
    """Weight of what is seen, mean of the segment and its neighbours, per standard deviation."""
    sound_bias: float
    """Bias of labels that are only heard."""
    sound_scale: float = 1.0
    """Factor of the weights of what is heard, for labels that are only heard, because no picture adds to them."""
    motion: float = 0.0
    """Weight of the motion inside a segment, mean of the segment and its neighbours, for labels that are heard and seen."""
    heard_and_seen: float = 0.0
    """Weight of what is heard and seen at once (`streamav.evidence.heard_and_seen`): the product, to which either alone adds nothing."""
    network: float = 0.0
    """Weight of the localizer's own logits, class minus background, for the labels that it was trained on."""
    probes: tuple[ClassName, ...] = ()
    """Names of the picture classes that the bundle adds to ImageNet's, such as face."""
    own: tuple[Slug, ...] = ()
    """Labels learned from a user's own clips, in the order of the rows of `own.weight`. They take no probability from the others."""
    replaced: tuple[ClassEntry, ...] = ()
    """What own labels of the same slug took the place of. It competes with the other labels as before, so that their scores stay."""


class AudioCard(_Part):
    """The audio encoder and its front end."""

    network: Literal["compact_audio", "yamnet", "vggish"]
    options: dict[str, JsonValue] = {}
    """Constructor arguments of the network."""
    log_mel_offset: Annotated[float, Field(gt=0.0, le=1.0)]
    """Added to the mel magnitudes before the logarithm: 0.01 for VGGish, 0.001 for YAMNet."""
    least_dbfs: Annotated[float, Field(ge=-60.0, le=-10.0)] | None = None
    """A segment below this RMS level is amplified to it before the front end; None amplifies nothing, as the paper's VGGish."""
    size: Count
    """A: length of the audio feature."""
    external: bool = False
    """True: its weights are not in the bundle; the user provides them or runs `streamav models pull`."""


class VisualCard(_Part):
    """The visual encoder and its input pictures."""

    network: Literal["compact_visual", "mobilenetv2", "efficientnet_lite0", "vgg19"]
    options: dict[str, JsonValue] = {}
    """Constructor arguments of the network."""
    picture: tuple[Side, Side]
    """Height and width of the network's input pictures, pixels."""
    frames_per_second: Annotated[int, Field(ge=1, le=16)]
    """F: frames of each segment that are encoded; the settings may override it."""
    cuts_bars: bool = False
    """True: bars at the edges of a picture are cut off first (`streamav.features.bars`); false as in the paper."""
    least_contrast: Annotated[int, Field(ge=20, le=200)] | None = None
    """A picture whose brightness spans fewer grey levels is stretched to them (`streamav.features.contrast`); None stretches nothing."""
    size: Count
    """V: length of the visual feature of one grid cell."""
    grid: Annotated[int, Field(ge=1, le=64)]
    """G: cells on each side of the visual grid."""
    external: bool = False
    """True: its weights are not in the bundle; the user provides them or runs `streamav models pull`."""


class LocalizerCard(_Part):
    """The network that scores windows."""

    network: Literal["vscg"] = "vscg"
    options: dict[str, JsonValue]
    """`VSCGOptions` as a dictionary."""


class DetectionCard(PartialThresholds):
    """Thresholds and durations that turn scores into events, tuned for this model; the settings may override them."""

    on: Probability
    off: Probability
    min_segments: Annotated[int, Field(ge=1, le=LONGEST)] = 1
    gap_segments: Annotated[int, Field(ge=0, le=LONGEST)] = 1
    latency_segments: Annotated[int, Field(ge=1, le=10)] = 1
    """L: a segment's scores are final after L windows have scored it."""
    classes: dict[Slug, PartialThresholds] = Field(default_factory=dict)
    """Values that differ for single classes, by slug."""

    def thresholds(
        self, slug: str, general: PartialThresholds | None = None, own: PartialThresholds | None = None, *, trained: bool = True
    ) -> Thresholds:
        """Return the thresholds of one class: those of the card, overridden by the settings for all classes, then by those for this class.

        With *trained* false, for a label that is none of the model's classes, the card's values for single classes are not used.

        Raises:
            SettingsError: when the settings put `off` above `on`.
        """
        return resolve(slug, card=self, card_class=self.classes.get(slug) if trained else None, general=general, own=own)

    @model_validator(mode="after")
    def _check(self) -> DetectionCard:
        pairs = {"detection": (self.on, self.off)}
        for label, entry in self.classes.items():
            pairs[label] = (self.on if entry.on is None else entry.on, self.off if entry.off is None else entry.off)
        for name, (on, off) in pairs.items():
            if off > on:
                msg = f"{name}: off must be at most on ({on}), got {off}"
                raise ValueError(msg)
        return self


class TrainingData(_Part):
    """One data set that the weights were trained on."""

    name: str
    source: str
    licence: str
    note: str = ""


class Metrics(_Part):
    """Measured figures and the command that measured them."""

    command: str = ""
    values: dict[str, float] = {}


class ModelCard(_Part):
    """Describes a bundle: its classes, networks, settings, training data, licence, figures and hashes."""

    schema_name: Literal["streamav.model/1"] = Field(default=SCHEMA, alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    profile: Literal["starter", "edge", "paper", "custom"]
    classes: Annotated[tuple[ClassEntry, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    """C foreground classes in class_id order; background is index C and is not listed. Own labels that no network knows are last."""
    audio: AudioCard
    visual: VisualCard
    localizer: LocalizerCard
    evidence: EvidenceCard | None = None
    """None for a model whose localizer alone decides."""
    detection: DetectionCard
    training_data: tuple[TrainingData, ...] = ()
    licence_note: str
    """What users may do with the weights, in one or two sentences."""
    metrics: Metrics = Metrics()
    weights: dict[WeightsFile, Sha256] = {}
    """SHA-256 of each weights file; filled in by `write_bundle`."""

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, classes: tuple[ClassEntry, ...]) -> tuple[ClassEntry, ...]:
        slugs = [entry.slug for entry in classes]
        doubled = sorted({slug for slug in slugs if slugs.count(slug) > 1})
        if doubled:
            msg = f"slugs must differ; these occur twice: {', '.join(doubled)}"
            raise ValueError(msg)
        if "background" in slugs:
            msg = "background must not be listed: it is always the index after the last class"
            raise ValueError(msg)
        return classes

    @model_validator(mode="after")
    def _check(self) -> ModelCard:
        own = () if self.evidence is None else self.evidence.own
        for where, names in (("detection.classes", self.detection.classes), ("evidence.own", own)):
            unknown = sorted(set(names) - {entry.slug for entry in self.classes})
            if unknown:
                msg = f"{where} names classes that the model does not have: {', '.join(unknown)}"
                raise ValueError(msg)
        wanted: dict[str, int] = {
            "audio_size": self.audio.size,
            "visual_size": self.visual.size,
            "grid": self.visual.grid,
            "classes": len(self.classes) - len(self._beyond_network(own)),
        }
        for key, value in wanted.items():
            got = self.localizer.options.get(key, value)
            if got != value:
                msg = f"localizer.options.{key} must agree with the rest of the card ({value}), got {got!r}"
                raise ValueError(msg)
        return self

    def _beyond_network(self, own: tuple[str, ...]) -> tuple[ClassEntry, ...]:
        """Return the last classes that the localizer was not trained for: own labels beyond its options' number of classes."""
        count = self.localizer.options.get("classes")
        if not isinstance(count, int) or not 0 < count < len(self.classes):
            return ()
        beyond = self.classes[count:]
        return beyond if all(entry.slug in own for entry in beyond) else ()

    @property
    def background(self) -> int:
        """Index of background: C, the last column of class probabilities."""
        return len(self.classes)

    @property
    def slugs(self) -> tuple[str, ...]:
        """The C slugs in class_id order."""
        return tuple(entry.slug for entry in self.classes)

    def thresholds(self) -> tuple[Thresholds, ...]:
        """Return the card's thresholds of every class, in class_id order."""
        return tuple(self.detection.thresholds(slug) for slug in self.slugs)

    def to_json(self) -> str:
        """Return the card as indented JSON text that ends with a newline."""
        tree = self.model_dump(mode="json", by_alias=True)
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def card_name(text: str, otherwise: str) -> str:
    """Return a valid card name made from any text, such as a folder's name; return *otherwise* when no character of it is usable."""
    try:
        return slug(text[:SLUG_SIZE], "-")
    except DataError:
        return otherwise


def parse_card(text: str | bytes, where: str) -> ModelCard:
    """Read a card from JSON text.

    Args:
        text: content of a model.json.
        where: path of the card, for messages.

    Raises:
        ModelError: when the text is not JSON or has another schema, or a field is missing, unknown or out of range.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as exc:
        msg = f"the model card {where} must be JSON: {exc}; the bundle is damaged: download or write it again"
        raise ModelError(msg) from exc
    schema = tree.get("schema") if isinstance(tree, dict) else None
    if schema != SCHEMA:
        msg = f"the model card {where} must have schema {SCHEMA!r}, got {schema!r}; this version of streamav cannot read it"
        raise ModelError(msg)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as exc:
        lines = (f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors(include_url=False))
        msg = f"the model card {where} is not valid:\n" + "\n".join(lines)
        raise ModelError(msg) from None
