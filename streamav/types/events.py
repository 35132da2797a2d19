"""Defines a message about an event, and the words in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from streamav.types.media import Box

__all__ = ["EndReason", "Event", "EventPhase", "Location", "Modality", "ScoredSegment"]

Modality = Literal["sound", "picture"]


class EventPhase(StrEnum):
    """Kind of message about an event (mqtt contract, section 5.2)."""

    NEW = "new"
    UPDATE = "update"
    END = "end"


class EndReason(StrEnum):
    """Why an event ended (mqtt contract, section 5.2)."""

    ENDED = "ended"
    RETRACTED = "retracted"
    SOURCE_LOST = "source_lost"
    DISABLED = "disabled"
    SHUTDOWN = "shutdown"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSegment:
    """One segment of an event."""

    start_ns: int
    score: float
    relevance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Place in the picture; coordinates 0 to 1 from the top left corner."""

    grid: tuple[int, int]
    """Rows and columns of the attention; the place is not known more finely."""
    peak: tuple[float, float]
    """x, y of the strongest cell's centre."""
    box: Box | None
    """Box around the cells above threshold that touch the peak; None when attention is flat."""
    heat: tuple[tuple[float, ...], ...] = field(default=(), compare=False, repr=False)
    """The attention, row by row, summing to 1; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One message about one label at one source over consecutive segments; it can be read without the other messages."""

    id: str
    """ULID, 26 characters."""
    sequence: int
    """1, 2, 3 ... for each id."""
    phase: EventPhase
    source: str
    label: str
    label_name: str
    class_id: int | None
    """Number of the class in the model; None for a label that is none of the model's classes."""
    start_ns: int
    """Start of the first segment, media clock."""
    end_ns: int | None
    """End of the last segment, media clock; None while the event is active."""
    newest_end_ns: int
    """End of the newest segment that this message covers, media clock."""
    epoch_ns: int
    """UTC, ns since 1970, of the media clock's zero, as known when the event began: the only wall-clock time inside streamav."""
    score: float
    top_score: float
    relevance: float
    agreement: float
    segments: tuple[ScoredSegment, ...]
    """The last 1 to 10 segments of the event, oldest first."""
    location: Location | None
    level_dbfs: float | None
    skew_ms: int | None
    """Measured delay of sound against picture, positive when sound is late; None when not measured."""
    confirmed: bool
    end_reason: EndReason | None
    modalities: tuple[Modality, ...] = ("sound", "picture")
    """In what the event was found: heard and seen, or heard alone."""
    trained: bool = True
    """False for a label by definition, whose thresholds are less certain."""
    zones: tuple[str, ...] = ()
    """Names of the zones that the event has touched so far, in the order in which it did."""
