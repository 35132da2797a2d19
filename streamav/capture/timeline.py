"""Maps the time stamps of a sound and a picture stream to one media clock. Single wrong stamps change nothing.

Pure: it uses no container and no clock. A time stamp that continues its stream is accepted at once. A time stamp that leaps is
held until the next ones show the cause:

    the next stamps come back              outliers   they are placed where they arrived; nothing else changes
    the other kind is as far ahead         a gap      is kept (lost packets, pictures at an irregular rate)
    both kinds leap ahead, below a minute  a pause    is kept
    both kinds leap back, or further       a restart  both continue where they were, in step
    one kind leaps alone, and stays        a step     it continues where it was, in step with the other kind
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median, median_low
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Kind", "Timeline", "steady_start"]

Kind = Literal["sound", "picture"]
ItemT = TypeVar("ItemT")

_SECOND_NS = 1_000_000_000
_TOLERANCE_NS: dict[Kind, int] = {"sound": 40_000_000, "picture": 100_000_000}
"""Rounding and jitter of time stamps are smaller than this."""
_SLOW_NS = _SECOND_NS // 2
"""A picture may be late by the usual distance of pictures, at most by this, without being a leap."""
_SMALL_NS = _SECOND_NS // 2
"""A lasting leap of one kind that is smaller than this is accepted, because bursts of packets hide smaller ones."""
_PAUSE_NS = 60 * _SECOND_NS
"""A leap ahead of both kinds that is smaller than this is a pause of the recording, and is kept."""
_AGREED_NS = _SECOND_NS // 2
"""A leap that both kinds share is followed after this time."""
_ALONE_NS = _SECOND_NS
"""A leap of one kind that the other kind contradicts is followed after this time."""
_PASSED_NS = 3 * _SECOND_NS // 10
"""A kind that continued this long past the place of the other one's leap does not share it. A kind that leapt for this long does."""
_UNSURE_NS = 2 * _SECOND_NS
"""A leap is followed after this time when nothing arrives of the other kind."""
_PATIENCE_NS = 10 * _SECOND_NS
"""How long the other kind is waited for when a file stores it much later; the segmenter waits as long."""
_IN_STEP_NS = _SECOND_NS // 20
"""Offsets of both kinds that differ by less than this are the same."""
_STRAYS = 3
"""At most this many time stamps in a row may leave a leap that is being judged."""


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
    agreed = sum(abs(begin - steady) <= 2 * _IN_STEP_NS for begin in begins)
    doubted = abs(begins[0] - steady) > (2 * _IN_STEP_NS if stamps[0][1] else _SMALL_NS)
    return steady if doubted and 2 * agreed > len(begins) else begins[0]  # pictures need not come evenly


@dataclass(slots=True)
class _Held(Generic[ItemT]):
    """One item whose time stamp is doubted."""

    time_ns: int
    length_ns: int
    item: ItemT
    beside_ns: int | None
    """How far the other kind had come at that moment, media time, ns; None when none of it was placed yet."""


@dataclass(slots=True)
class _Stream(Generic[ItemT]):
    """The state of one kind. Times are media times, ns, unless they are called stream times."""

    kind: Kind
    offset_ns: int
    next_ns: int | None = None
    """Expected begin of the next item."""
    last_ns: int | None = None
    """Begin of the newest item placed."""
    gap_ns: int = _SECOND_NS // 25
    """Usual distance of pictures."""
    spread_ns: int = _SLOW_NS // 5
    """Usual deviation from it; large until enough pictures have come."""
    young: bool = True
    """True until the distance of two pictures is known."""
    lead_ns: float | None = None
    """Usual distance to the other kind when an item of this one arrives."""
    held: list[_Held[ItemT]] = field(default_factory=list)
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
            uneven = min(8 * self.spread_ns, _PATIENCE_NS)  # eight times the mean deviation: exponential distances are within it
            early, late = early + slack_ns + self.gap_ns, late + slack_ns + min(self.gap_ns, _SLOW_NS) + uneven
        return expected_ns - early <= time_ns <= expected_ns + late


class Timeline(Generic[ItemT]):
    """Gives items of both kinds their media times; the items of one kind keep their order.

    An ordinary item is returned at once. A doubted item is returned with the next one of its kind, or after one second of items.
    """

    def __init__(self, first_ns: Mapping[Kind, int], origin_ns: int, keep: Callable[[ItemT], ItemT] | None = None) -> None:
        """Map the earliest stream time to media time *origin_ns*.

        Args:
            first_ns: where each kind begins, stream time, ns; at least one kind.
            origin_ns: media time of the earliest of them, ns.
            keep: is applied to an item that is held, to make it smaller; None for nothing.
        """
        offset = origin_ns - min(first_ns.values())
        self._streams: dict[Kind, _Stream[ItemT]] = {"sound": _Stream("sound", offset), "picture": _Stream("picture", offset)}
        for kind, first in first_ns.items():
            self._streams[kind].next_ns = first + offset
        self._keep = keep
        self.leaps = 0
        """How often an offset was changed."""
        self.outliers = 0
        """How many time stamps were outliers."""

    def push(self, kind: Kind, time_ns: int | None, length_ns: int, item: ItemT) -> list[tuple[int, Kind, ItemT]]:
        """Take the next item of one kind and return those whose media time is known now: media time ns, kind, item.

        Args:
            kind: of the item.
            time_ns: its time stamp, stream time, ns; None when it has none. Without any before it, the item is dropped.
            length_ns: how long it lasts, ns; 0 for a picture.
            item: comes back with its media time.
        """
        stream, other = self._streams[kind], self._streams["picture" if kind == "sound" else "sound"]
        if time_ns is None:
            if stream.next_ns is None:
                return []
            time_ns = stream.line_ns if stream.held else stream.next_ns - stream.offset_ns
        placed = self._settle(stream, other, time_ns, length_ns, item)
        for one, two in ((stream, other), (other, stream)):
            if one.held:
                placed += self._judge(one, two)
        return placed

    def offset_ns(self, kind: Kind) -> int:
        """Return what is added to the time stamps of one kind now, ns."""
        return self._streams[kind].offset_ns

    def flush(self) -> list[tuple[int, Kind, ItemT]]:
        """Return what is still held at the end of the streams."""
        sound, picture = self._streams["sound"], self._streams["picture"]
        if sound.held and picture.held and self._same_leap(sound, picture):
            return self._follow_both(sound, picture)
        return [
            one
            for stream, other in ((sound, picture), (picture, sound))
            if stream.held
            for one in (self._follow(stream) if self._is_gap(stream, other) else self._place_outliers(stream))
        ]

    # One item

    def _settle(
        self, stream: _Stream[ItemT], other: _Stream[ItemT], time_ns: int, length_ns: int, item: ItemT
    ) -> list[tuple[int, Kind, ItemT]]:
        """Place an item that continues its stream, with the outliers before it; hold it otherwise."""
        expected, time = stream.next_ns, time_ns + stream.offset_ns
        if expected is None:
            return [self._place(stream, time, length_ns, item)]
        passed = stream.filled_ns
        if stream.kind == "sound" and time == stream.last_ns:
            time = expected  # a repeated time stamp is none
        leaps_on = stream.held and abs(time_ns - stream.line_ns) < abs(time - expected - passed)
        if leaps_on or not stream.fits(time, expected + passed, min(passed, _SLOW_NS) // 2):
            return self._hold(stream, other, time_ns, length_ns, item)
        regular = not stream.held
        placed = self._place_outliers(stream, time)
        if regular:
            self._learn(stream, other, time)
        return [*placed, self._place(stream, time, length_ns, item)]

    @staticmethod
    def _learn(stream: _Stream[ItemT], other: _Stream[ItemT], time_ns: int) -> None:
        """Follow the usual distance of one kind to the other."""
        if other.came_ns is not None and not other.held:
            distance = time_ns - other.came_ns
            stream.lead_ns = distance if stream.lead_ns is None else stream.lead_ns + (distance - stream.lead_ns) / 16

    @staticmethod
    def _place(stream: _Stream[ItemT], time_ns: int, length_ns: int, item: ItemT) -> tuple[int, Kind, ItemT]:
        if stream.kind == "picture" and stream.last_ns is not None and time_ns > stream.last_ns:
            gap = min(time_ns - stream.last_ns, _SLOW_NS * 2 if stream.young else 2 * stream.gap_ns)  # a pause is no distance
            stream.spread_ns += 0 if stream.young else (abs(gap - stream.gap_ns) - stream.spread_ns) // 8
            stream.gap_ns, stream.young = gap if stream.young else stream.gap_ns + (gap - stream.gap_ns) // 8, False
        stream.last_ns, stream.next_ns = time_ns, time_ns + stream.step_ns(length_ns)
        return time_ns, stream.kind, item

    def _hold(
        self, stream: _Stream[ItemT], other: _Stream[ItemT], time_ns: int, length_ns: int, item: ItemT
    ) -> list[tuple[int, Kind, ItemT]]:
        """Hold an item that leaps with those that leapt before it. An item that leaps elsewhere starts a new leap, unless it is a stray."""
        if stream.held and not stream.fits(time_ns, stream.line_ns):
            stream.strays += 1
            if time_ns > stream.line_ns and stream.leap_ns > 0 and self._is_gap(stream, other):  # pictures at an irregular rate
                return self._follow(stream) + self._settle(stream, other, time_ns, length_ns, item)
            if stream.strays > _STRAYS or stream.strays >= len(stream.held):
                return self._place_outliers(stream) + self._settle(stream, other, time_ns, length_ns, item)
            time_ns = stream.line_ns
            self.outliers += 1
        elif stream.held and stream.filled_ns > max(_UNSURE_NS, 2 * stream.span_ns):  # stamps that stand still are none
            return self._place_outliers(stream) + self._settle(stream, other, time_ns, length_ns, item)
        else:
            stream.strays = 0
        stream.held.append(_Held(time_ns, length_ns, self._keep(item) if self._keep else item, other.came_ns))
        return []

    # What a leap is

    def _judge(self, stream: _Stream[ItemT], other: _Stream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Return the held items of a kind, or of both kinds when they share the leap, once its cause is known."""
        if other.held and self._same_leap(stream, other):
            shorter, longer = sorted((stream.span_ns, other.span_ns))
            return self._follow_both(stream, other) if longer >= _AGREED_NS and shorter >= _PASSED_NS else []
        if stream.offset_ns != other.offset_ns and abs(stream.leap_ns + other.offset_ns - stream.offset_ns) < _IN_STEP_NS:
            return self._join(stream, other) if stream.span_ns >= _AGREED_NS else []
        first_ns, now_ns = stream.held[0].beside_ns, other.came_ns
        waited = now_ns - first_ns if now_ns is not None and first_ns is not None else 0
        if self._is_gap(stream, other):
            known = stream.span_ns if stream.kind == "sound" else max(stream.span_ns, waited)  # pictures may be few
            return self._follow(stream) if known >= _AGREED_NS else []
        return self._judge_alone(stream, other, others_ns=waited)

    def _judge_alone(self, stream: _Stream[ItemT], other: _Stream[ItemT], others_ns: int) -> list[tuple[int, Kind, ItemT]]:
        """Judge a leap that the other kind contradicts or does not show; the other kind advanced by *others_ns* meanwhile."""
        span = stream.span_ns
        if span < _ALONE_NS or len(stream.held) < 2:  # noqa: PLR2004 - one item is no line
            return []
        passed = other.reached_ns is not None and other.reached_ns - (stream.next_ns or 0) >= _PASSED_NS
        if passed and not other.held:
            return self._go_on(stream, other)
        if span < (_PATIENCE_NS if others_ns >= _AGREED_NS and not other.held else _UNSURE_NS):
            return []
        pause = not other.held and -_SMALL_NS < stream.leap_ns < _PAUSE_NS
        return self._follow(stream) if pause else self._go_on(stream, other)

    @staticmethod
    def _is_gap(stream: _Stream[ItemT], other: _Stream[ItemT]) -> bool:
        """Return whether a leap is a gap: a small leap, or one that brings the stream nearer to the other kind."""
        leap, lead = stream.leap_ns, stream.lead_ns or 0.0
        then = [one.time_ns + stream.offset_ns - one.beside_ns - lead for one in stream.held if one.beside_ns is not None]
        if abs(leap) < _SMALL_NS or not then or other.came_ns is None:
            return abs(leap) < _SMALL_NS
        now = stream.line_ns + stream.offset_ns - other.came_ns - lead  # by now the other kind may have passed a gap of pictures, too
        return 2 * min(fmean(then), now) < leap if leap > 0 else 2 * fmean(then) > leap

    def _same_leap(self, one: _Stream[ItemT], other: _Stream[ItemT]) -> bool:
        return min(map(abs, self._apart(one, other))) < _SMALL_NS

    @staticmethod
    def _apart(one: _Stream[ItemT], other: _Stream[ItemT]) -> tuple[int, int]:
        """Return how far two leaps lie apart where each kind keeps its offset, and where both have the same from here on."""
        apart = one.leap_ns - other.leap_ns
        return apart, apart - (one.offset_ns - other.offset_ns)

    # What is done with the held items

    def _follow(self, stream: _Stream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Place the held items by their time stamps."""
        held, stream.held, stream.strays = stream.held, [], 0
        return [self._place(stream, one.time_ns + stream.offset_ns, one.length_ns, one.item) for one in held]

    def _follow_both(self, one: _Stream[ItemT], other: _Stream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Keep a pause. After another leap both kinds continue, neither of them earlier than its newest item."""
        kept, same = map(abs, self._apart(one, other))
        if same < kept:  # the time stamps of both began anew: the steps of one kind before are over
            other.offset_ns = one.offset_ns
        if same < kept or not -_SMALL_NS < one.leap_ns < _PAUSE_NS:
            shift = max(-one.leap_ns, -other.leap_ns)
            one.offset_ns += shift
            other.offset_ns += shift
            self.leaps += 2
        return self._follow(one) + self._follow(other)

    def _join(self, stream: _Stream[ItemT], other: _Stream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Give one kind the offset of the other kind, which has passed the same leap before."""
        stream.offset_ns = other.offset_ns
        self.leaps += 1
        return self._follow(stream)

    def _go_on(self, stream: _Stream[ItemT], other: _Stream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Continue one kind where it was, with another offset from here on."""
        offset = stream.offset_ns - stream.leap_ns
        stream.offset_ns = other.offset_ns if abs(offset - other.offset_ns) < _IN_STEP_NS else offset
        self.leaps += 1
        return self._follow(stream)

    def _place_outliers(self, stream: _Stream[ItemT], until_ns: int | None = None) -> list[tuple[int, Kind, ItemT]]:
        """Place the held items where they arrived: sound by its length, pictures evenly up to the next one, if that is known."""
        held, stream.held, stream.strays = stream.held, [], 0
        self.outliers += len(held)
        if stream.kind == "picture" and until_ns is not None and stream.last_ns is not None:
            last, count = stream.last_ns, len(held) + 1
            times = [last + (until_ns - last) * number // count for number in range(1, count)]
            return [self._place(stream, time, one.length_ns, one.item) for time, one in zip(times, held, strict=True)]
        return [self._place(stream, stream.next_ns or 0, one.length_ns, one.item) for one in held]
