"""The state of one stream of time stamps: where it has come to, what continues it, and what is held because it leaps.

Pure: it uses no container and no clock. `timeline` judges the leaps of two streams together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median, median_low
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["IN_STEP_NS", "PATIENCE_NS", "SECOND_NS", "SLOW_NS", "SMALL_NS", "Held", "Kind", "StampStream", "steady_start"]

Kind = Literal["sound", "picture"]
ItemT = TypeVar("ItemT")

SECOND_NS = 1_000_000_000
_TOLERANCE_NS: dict[Kind, int] = {"sound": 40_000_000, "picture": 100_000_000}
"""Rounding and jitter of time stamps are smaller than this."""
SLOW_NS = SECOND_NS // 2
"""A picture may be late by the usual distance of pictures, at most by this, without being a leap."""
SMALL_NS = SECOND_NS // 2
"""A lasting leap of one kind that is smaller than this is accepted, because bursts of packets hide smaller ones."""
PATIENCE_NS = 10 * SECOND_NS
"""How long the other kind is waited for when a file stores it much later; the segmenter waits as long."""
IN_STEP_NS = SECOND_NS // 20
"""Offsets of both kinds that differ by less than this are the same."""


def steady_start(stamps: Sequence[tuple[int | None, int]]) -> int | None:
    """Return the stream time, ns, at which one stream begins, even where its first time stamps are wrong.

    Args:
        stamps: time stamp (None where it is missing) and length, ns, of the first items; the length of a picture is 0.

    Returns:
        The first time stamp, less what came before it; where most of the others contradict it, what they say. None
        without a time stamp.
    """
    known = [time for time, _ in stamps if time is not None]
    gaps = [after - before for before, after in pairwise(known)]
    gap = max(0, round(median(gaps))) if gaps else 0
    begins, elapsed = [], 0
    for time, length in stamps:
        if time is not None:
            begins.append(time - elapsed)
        elapsed += length or gap
    if not begins:
        return None
    steady = median_low(begins)
    agreed = sum(abs(begin - steady) <= 2 * IN_STEP_NS for begin in begins)
    doubted = abs(begins[0] - steady) > (2 * IN_STEP_NS if stamps[0][1] else SMALL_NS)
    return steady if doubted and 2 * agreed > len(begins) else begins[0]  # pictures need not come evenly


@dataclass(slots=True)
class Held(Generic[ItemT]):
    """One item whose time stamp is doubted."""

    time_ns: int
    length_ns: int
    item: ItemT
    beside_ns: int | None
    """How far the other kind had come at that moment, media time, ns; None when none of it was placed yet."""


@dataclass(slots=True)
class StampStream(Generic[ItemT]):
    """The state of one kind. Times are media times, ns, unless they are called stream times."""

    kind: Kind
    offset_ns: int
    next_ns: int | None = None
    """Expected start of the next item."""
    last_ns: int | None = None
    """Begin of the newest item placed."""
    gap_ns: int = SECOND_NS // 25
    """Usual distance of pictures."""
    spread_ns: int = SLOW_NS // 5
    """Usual deviation from it; large until enough pictures have come."""
    young: bool = True
    """True until the distance of two pictures is known."""
    lead_ns: float | None = None
    """Usual distance to the other kind when an item of this one arrives."""
    held: list[Held[ItemT]] = field(default_factory=list)
    strays: int = 0

    @property
    def reached_ns(self) -> int | None:
        """Return how far the stream has come for certain."""
        return self.next_ns if self.kind == "sound" else self.last_ns

    @property
    def line_ns(self) -> int:
        """Return the stream time at which the held items would go on."""
        newest = self.held[-1]
        return newest.time_ns + self.step_ns(newest.length_ns)

    @property
    def span_ns(self) -> int:
        """Return how much time the held items fill by their time stamps."""
        return self.line_ns - self.held[0].time_ns

    @property
    def filled_ns(self) -> int:
        """Return how much time the held items fill by their number."""
        return sum(self.step_ns(one.length_ns) for one in self.held)

    @property
    def came_ns(self) -> int | None:
        """Return how far the stream has come, held items included; None when none was placed yet."""
        if self.last_ns is None or self.next_ns is None:
            return None
        return self.next_ns + (self.span_ns if self.held else 0)

    @property
    def leap_ns(self) -> int:
        """Return by how much the first held item leaves its place."""
        return self.held[0].time_ns + self.offset_ns - (self.next_ns or 0)

    def step_ns(self, length_ns: int) -> int:
        """Return the distance from an item of this length to the next one."""
        return length_ns or self.gap_ns

    def fits(self, time_ns: int, expected_ns: int, slack_ns: int = 0) -> bool:
        """Return whether a time continues the stream; pictures may be *slack_ns* earlier or later."""
        early = late = _TOLERANCE_NS[self.kind]
        if self.kind == "picture":
            uneven = min(8 * self.spread_ns, PATIENCE_NS)  # eight times the mean deviation: exponential distances are within it
            early, late = early + slack_ns + self.gap_ns, late + slack_ns + min(self.gap_ns, SLOW_NS) + uneven
        return expected_ns - early <= time_ns <= expected_ns + late
