"""When the scores of a class become an event: four values, their ranges, and which of several places they are taken from.

It knows no class, no score and no event; `streamav.tracker` applies the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from streamav.errors import SettingsError, ShapeError

__all__ = ["FIELDS", "LONGEST", "PartialThresholds", "Probability", "Thresholds", "resolve"]

LONGEST: Final = 60
"""Largest `min_segments` and `gap_segments`."""
FIELDS: Final = ("on", "off", "min_segments", "gap_segments")

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How one class becomes events: the rule of the live tracker, and of everything that is measured offline."""

    on: float
    """An event begins at this probability, 0 to 1."""
    off: float
    """An event goes on at this probability, 0 to `on`."""
    min_segments: int = 1
    """Segments at or above `on` that confirm an event, 1 to `LONGEST`; they need not follow each other."""
    gap_segments: int = 1
    """Longest pause below `off` inside an event, segments, 0 to `LONGEST`."""

    def __post_init__(self) -> None:
        """Check all ranges.

        Raises:
            ShapeError: when a value is out of range.
        """
        if not (0.0 <= self.off <= self.on <= 1.0 and 1 <= self.min_segments <= LONGEST and 0 <= self.gap_segments <= LONGEST):
            msg = f"thresholds need 0 <= off <= on <= 1, min_segments of 1 to {LONGEST} and gap_segments of 0 to {LONGEST}, got {self}"
            raise ShapeError(msg)


class PartialThresholds(BaseModel):
    """Thresholds as a user or a model card writes them; None means: as the next more general place says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    on: Probability | None = None
    """An event begins where the probability of its class is at least this."""
    off: Probability | None = None
    """An event goes on while the probability of its class is at least this; at most `on`."""
    min_segments: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    """Segments at or above `on` that confirm an event."""
    gap_segments: Annotated[int, Field(ge=0, le=LONGEST)] | None = None
    """Longest pause below `off` inside one event, segments."""


def resolve(
    label: str,
    *,
    card: PartialThresholds,
    card_class: PartialThresholds | None = None,
    general: PartialThresholds | None = None,
    own: PartialThresholds | None = None,
) -> Thresholds:
    """Return the thresholds of one class: each value from the first place that has it.

    Args:
        label: slug of the class, for the message.
        card: what the model card says of all classes; holds every value.
        card_class: what it says of this one.
        general: what the settings say of all classes.
        own: what they say of this one; comes first.

    Raises:
        SettingsError: when the settings put `off` above `on`. Where they only lower `on`, the card's `off` follows it.
    """
    asked = _written(general) | _written(own)
    found = _written(card) | _written(card_class) | asked
    if found["off"] > found["on"]:
        if "off" in asked:
            msg = f"detection.off of {label} must be at most on ({found['on']}), got {found['off']}"
            raise SettingsError(msg)
        found["off"] = found["on"]
    return Thresholds(**found)


def _written(place: PartialThresholds | None) -> dict[str, Any]:
    return {} if place is None else {name: value for name in FIELDS if (value := getattr(place, name)) is not None}
