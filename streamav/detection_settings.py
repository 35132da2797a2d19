"""Defines the settings that decide what becomes an event: thresholds, rules, zones and labels, for a source and for single classes.

`streamav.config` holds the settings of inputs and models, and re-exports these.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from streamav.privacy_modes import PrivacySetting  # noqa: TC001 - pydantic reads it
from streamav.rules import read_polygon, read_schedule, read_time_zone
from streamav.thresholds import PartialThresholds

__all__ = ["LONGEST_COOLDOWN_S", "ClassSettings", "DetectionSettings", "RuleSettings", "ZoneName"]

LONGEST_COOLDOWN_S = 86_400.0
"""Longest cooldown: a day."""
ZONE_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
"""One topic level."""


def _words(value: object) -> object:
    """Read words between commas."""
    return tuple(word for part in value.split(",") if (word := part.strip())) if isinstance(value, str) else value


def _one_entry(value: object) -> object:
    """Read one entry without brackets; entries hold commas between days, so a text is not split."""
    return (value,) if isinstance(value, str) else value


def _checked_zone(value: str | None) -> str | None:
    read_time_zone(value)
    return value


_WORDS = BeforeValidator(_words)
ZoneName = Annotated[str, Field(pattern=ZONE_PATTERN)]
Corner = tuple[float, float]


class RuleSettings(PartialThresholds):
    """Thresholds and rules; None means: the value of the next more general place."""

    cooldown_s: Annotated[float, Field(ge=0.0, le=LONGEST_COOLDOWN_S)] | None = None
    """After a confirmed event of a class none begins for this long, s, rounded up to whole segments; None: 0."""
    schedule: Annotated[tuple[str, ...], BeforeValidator(_one_entry)] | None = None
    """Local times at which an event may be, such as "mon-fri 22:00-06:00"; None: always. It holds where media time is the time of day: for
    live sources, and files at their own pace."""
    min_agreement: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    """Least agreement of sound and picture (`av_similarity` of the scores) of a segment; None: any. Not for sounds."""
    inside: Annotated[tuple[ZoneName, ...], _WORDS] | None = None
    """Zones of which one must hold the place of a segment; None or empty: anywhere. Not for sounds."""
    outside: Annotated[tuple[ZoneName, ...], _WORDS] | None = None
    """Zones that must not hold the place of a segment. Not for sounds."""

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None:
            read_schedule(value)
        return value


class ClassSettings(RuleSettings):
    """What differs for one class; None means: the value of `detection`, or of the model card."""

    enabled: bool = True
    """False: this class makes no events."""


class DetectionSettings(RuleSettings):
    """How scores become events; None means: the value of the model card."""

    enabled: bool = True
    """False: the source is switched off: its sound and pictures do not reach the networks."""
    labels: Annotated[tuple[str, ...], _WORDS, Field(min_length=1)] | None = None
    """Presets (home, ave28, all24; model for the model's own) and single labels. Where only presets are named, labels by definition
    (`labels`) join them; where single labels are named, exactly these are used. None: home for cameras and network streams, else model."""
    latency_segments: Annotated[int, Field(ge=1, le=10)] | None = None
    """Latency L: a segment is final once L windows have scored it, L seconds after its start (MQTT contract, section 5.3)."""
    privacy: PrivacySetting = ()
    """What is kept of people in clips, snapshots and the live page: `blur` hides faces, `mute_speech` silences seconds with a voice,
    `blur,mute_speech` does both, `metadata_only` keeps no picture and no sound; `off`, or an empty list, keeps everything."""
    time_zone: Annotated[str | None, AfterValidator(_checked_zone)] = None
    """Time zone of all schedules, such as Europe/Berlin; None: that of this machine."""
    zones: Annotated[dict[ZoneName, tuple[Corner, ...]], Field(max_length=64)] = Field(default_factory=dict)
    """Named parts of the picture: at least three corners [x, y], 0 to 1 from the top left corner. An event names the zones it touched."""
    classes: dict[str, ClassSettings] = Field(default_factory=dict)
    """Settings of single classes, by label."""

    @field_validator("zones")
    @classmethod
    def _check_zones(cls, value: dict[str, tuple[Corner, ...]]) -> dict[str, tuple[Corner, ...]]:
        for name, corners in value.items():
            try:
                read_polygon(corners)
            except ValueError as exc:
                msg = f"{name}: {exc}"
                raise ValueError(msg) from None
        return value
