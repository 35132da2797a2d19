"""Holds the four values that decide when the scores of a class become an event, their ranges, and the order of their sources.

It handles no class, score or event; `streamav.tracker` applies the values.
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
    """How one class becomes events. The live tracker and every offline measurement use this rule."""

    on: float
    """An event begins at this probability, 0 to 1."""
    off: float
    """An event continues at this probability, 0 to `on`."""
    min_segments: int = 1
    """Segments at or above `on` that confirm an event, 1 to `LONGEST`; they need not be consecutive."""
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
    """Thresholds as a user or a model card writes them; None means: the value of the next more general place."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    on: Probability | None = None
    """An event begins where the probability of its class is at least this."""
    off: Probability | None = None
    """An event continues while the probability of its class is at least this; at most `on`."""
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
    """Return the thresholds of one class. Each value is taken from the first place that has it.

    Args:
        label: slug of the class, for the message.
        card: values of the model card for all classes; holds every value.
        card_class: values of the model card for this class.
        general: values of the settings for all classes.
        own: values of the settings for this class; they come first.

    Raises:
        SettingsError: when the settings put `off` above `on`. If they only lower `on`, the card's `off` is lowered with it.
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
