"""Defines the state of a source, and the figures of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, cast

if TYPE_CHECKING:
    from streamav.types.media import Segment
    from streamav.types.scores import SegmentScores

__all__ = [
    "TRYING_AGAIN",
    "Observation",
    "PublishedState",
    "SourceContent",
    "SourceState",
    "StageTimes",
    "StateChange",
    "Telemetry",
    "has_failed",
]

PublishedState = Literal["warming_up", "online", "degraded", "lost", "disabled"]
"""States of a source in MQTT messages (mqtt contract, section 6)."""


class SourceState(StrEnum):
    """State of a source (mqtt contract, section 6)."""

    STARTING = "starting"
    """Nothing has arrived yet. The contract has no such word, so MQTT publishes it as `warming_up`."""
    WARMING_UP = "warming_up"
    ONLINE = "online"
    DEGRADED = "degraded"
    LOST = "lost"
    DISABLED = "disabled"

    @property
    def published(self) -> PublishedState:
        """The word that MQTT publishes."""
        return cast("PublishedState", "warming_up" if self is SourceState.STARTING else self.value)


TRYING_AGAIN: Final = "; trying again"
"""End of the reason of a source that is lost and is opened again. Without it the source has failed and does not come back in this run."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A source was lost, or is back."""

    state: SourceState
    reason: str = ""
    """Why, and what to do, for people; without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContent:
    """What a source consists of. A source that lacks one of the two says so before its first item; it has both until it says so."""

    sound: bool = True
    picture: bool = True

    @property
    def lacks(self) -> str:
        """Return "sound" or "picture", whichever it lacks; empty when it has both."""
        return "" if self.sound and self.picture else "picture" if self.sound else "sound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """State of a source in numbers, every ten seconds."""

    frames_per_second: float
    level_dbfs: float | None
    latency_s: float
    """From the end of the newest segment to the hand-over of its events."""
    skew_ms: int | None
    realtime_factor: float
    """Processing time over media time; below 1 the run keeps up."""
    dropped_segments: int
    """Segments dropped since the start."""
    looked_frames_per_second: float = 0.0
    """Frames of a segment that the networks process; fewer than the model's while the machine cannot process more."""
    thinned_segments: int = 0
    """Segments since the start of which the networks processed fewer frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Where the time from the end of a segment to the hand-over of its events was spent, s. The sum is the latency."""

    capture_s: float
    """From the end of the segment until it was complete in this process."""
    wait_s: float
    """In the queue, until the networks took it."""
    features_s: float
    """In the encoders, with the other segments of the batch."""
    model_s: float
    """In the localizer, the aggregation and the tracker."""
    publish_s: float
    """Until all sinks had taken the events."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Observation:
    """What one turn of the loop did for one source; for display only."""

    segment: Segment | None
    """The segment of this turn, with the frames that the networks processed; None when the turn only ended or lost the source."""
    scores: tuple[SegmentScores, ...]
    """Every segment that this turn scored, oldest first: provisional ones, and those that became final."""
    times: StageTimes | None
    """None without a segment."""
    busy_s: float
    """Processing time of the segment: its share of the batch, s. Divided by 1 s it is the real-time factor."""
    epoch_ns: int
    """UTC, ns since 1970, of the media clock's zero."""
    skew_ms: int | None
    """As in Telemetry."""
    dropped_segments: int
    """As in Telemetry."""


def has_failed(state: SourceState, reason: str) -> bool:
    """Return whether a source is lost for the rest of the run: it is not tried again."""
    return state is SourceState.LOST and not reason.endswith(TRYING_AGAIN)
