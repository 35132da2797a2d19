"""What a run reads from clocks, turn by turn, so that a recorded run can be run again with the same readings.

Everything else of a run follows from its items and its settings. One turn reads each clock once for a source: all messages of the turn
agree on UTC and on the moment of their hand-over.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamav.pipeline.world_time import WorldTime

__all__ = ["LiveTimes", "Replay", "ReplayedTimes", "SourceReplay", "TurnBook", "TurnRecord", "TurnTimes", "Turns"]

TurnItem = Literal["segment", "note", "finished"]
"""A note is what a source says between its segments: that it was lost, is back, or lacks sound or picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """What one turn took from one source, and what it read from the clocks."""

    source: str
    item: TurnItem
    index: int | None = None
    """Of the segment."""
    frames: int | None = None
    """How many of its frames the networks processed; None for all."""
    epoch_ns: int | None = None
    """UTC of the media clock's zero; None when the turn did not need it."""
    lag_ns: int = 0
    """Time from the completion of the item to the hand-over of the turn's messages; with `by_media`, from the media clock's zero."""
    by_media: bool = False
    """True where media time passes in real time."""
    skew_ms: int | None = None
    stopped: bool = False
    """True when the run was asked to stop before this item."""


class Reading(NamedTuple):
    """What one turn read from the clocks: these values of its record."""

    epoch_ns: int | None
    lag_ns: int
    by_media: bool
    skew_ms: int | None


class TurnBook(Protocol):
    """Takes what every turn did (session). It is called on the loop, after the events of the turn were handed to the sinks."""

    def note(self, turn: Sequence[TurnRecord]) -> None:
        """Take one turn; a turn without items is not told."""


class TurnTimes(Protocol):
    """Times of one source in a turn. The inference thread and the loop call it, never at the same time."""

    def begin(self, given_ns: int) -> None:
        """Begin a turn with an item that was complete at *given_ns*, monotonic."""

    def hand_over(self) -> None:
        """Set the moment at which the messages of this turn are handed over."""

    def epoch_ns(self) -> int:
        """Return UTC of the media clock's zero, ns since 1970; the same for the whole turn."""

    def latency_s(self, end_ns: int) -> float:
        """Return the time from a media time to the hand-over, s, at least 0."""

    @property
    def skew_ms(self) -> int | None:
        """Measured delay of sound against picture, ms."""

    @property
    def frames(self) -> int | None:
        """Frames of this turn's segment that a recorded run processed; None for all, or when this run decides."""

    @property
    def stopped(self) -> bool:
        """True when a recorded run was asked to stop before this turn."""

    @property
    def reading(self) -> Reading:
        """What the turn read."""


class LiveTimes:
    """Reads the clocks."""

    frames = None
    stopped = False

    def __init__(self, world: WorldTime, skew_ms: Callable[[], int | None]) -> None:
        """Read UTC and latency from *world*, and the skew from the source."""
        self._world, self._skew = world, skew_ms
        self._given_ns = self._lag_ns = 0
        self._epoch_ns: int | None = None
        self._by_media = False
        self.skew_ms: int | None = None

    def begin(self, given_ns: int) -> None:
        """Forget the readings of the turn before."""
        self._given_ns, self._epoch_ns = given_ns, None

    def hand_over(self) -> None:
        """Read how late the messages are, and the skew."""
        self._lag_ns, self._by_media = self._world.lag_ns(self._given_ns)
        self.skew_ms = self._skew()

    def epoch_ns(self) -> int:
        """Read UTC at the first call of a turn."""
        if self._epoch_ns is None:
            self._epoch_ns = self._world.epoch_ns()
        return self._epoch_ns

    def latency_s(self, end_ns: int) -> float:
        """Return the latency at the hand-over."""
        return max(0, self._lag_ns - (end_ns if self._by_media else 0)) / 1e9

    @property
    def reading(self) -> Reading:
        """What this turn read."""
        return Reading(self._epoch_ns, self._lag_ns, self._by_media, self.skew_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReplay:
    """The recorded turns of one source."""

    turns: tuple[TurnRecord, ...]
    epoch_ns: int
    """UTC of the media clock's zero, for turns before any record of it."""
    timed: bool
    """Whether media time passed in real time, so that schedules hold."""

    @property
    def finished(self) -> bool:
        """True when the recorded run came to its end; False when its recording was cut off."""
        return bool(self.turns) and self.turns[-1].item == "finished"

    def processed(self) -> Callable[[int], bool]:
        """Return whether the recorded run processed a segment, by its index. What comes after the cut of a recording is processed."""
        indices = {turn.index for turn in self.turns if turn.index is not None}
        last = max(indices, default=-1)
        return lambda index: index in indices or (index > last and not self.finished)


@dataclass(frozen=True, slots=True)
class Replay:
    """The recorded turns of a run."""

    sources: Mapping[str, SourceReplay]
    """By id."""
    script: tuple[tuple[str, ...], ...]
    """Ids of the sources of each turn."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Whether the turns of a run are written down, and whether they repeat those of a recorded run."""

    book: TurnBook | None = None
    """Takes what every turn took and read; None for none."""
    replay: Replay | None = None
    """What the turns of a recorded run did; None when this run decides."""


class ReplayedTimes:
    """Returns what the turns of a recorded run read; after the end of its record, the last readings, and no latency."""

    def __init__(self, replay: SourceReplay) -> None:
        """Start before the first turn."""
        self._left: deque[TurnRecord] = deque(replay.turns)
        self._epoch_ns = replay.epoch_ns
        self._now: TurnRecord | None = None
        self.skew_ms: int | None = None

    def begin(self, given_ns: int) -> None:  # noqa: ARG002 - the protocol requires it
        """Take the record of the next turn."""
        self._now = self._left.popleft() if self._left else None
        if self._now is not None and self._now.epoch_ns is not None:
            self._epoch_ns = self._now.epoch_ns

    def hand_over(self) -> None:
        """Use the recorded skew."""
        if self._now is not None:
            self.skew_ms = self._now.skew_ms

    def epoch_ns(self) -> int:
        """Return the recorded UTC."""
        return self._epoch_ns

    def latency_s(self, end_ns: int) -> float:
        """Return the recorded latency, or 0 where none was recorded."""
        if self._now is None:
            return 0.0
        return max(0, self._now.lag_ns - (end_ns if self._now.by_media else 0)) / 1e9

    @property
    def frames(self) -> int | None:
        """The recorded number of frames."""
        return None if self._now is None else self._now.frames

    @property
    def stopped(self) -> bool:
        """Whether the recorded run was asked to stop."""
        return self._now is not None and self._now.stopped

    @property
    def reading(self) -> Reading:
        """The recorded readings."""
        now = self._now
        return Reading(self._epoch_ns, 0 if now is None else now.lag_ns, now is not None and now.by_media, self.skew_ms)
