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

from statistics import fmean
from typing import TYPE_CHECKING, Generic, TypeVar

from streamav.capture.stamps import IN_STEP_NS, PATIENCE_NS, SECOND_NS, SLOW_NS, SMALL_NS, Held, Kind, StampStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Timeline"]

ItemT = TypeVar("ItemT")

_PAUSE_NS = 60 * SECOND_NS
"""A leap ahead of both kinds that is smaller than this is a pause of the recording, and is kept."""
_AGREED_NS = SECOND_NS // 2
"""A leap that both kinds share is followed after this time."""
_ALONE_NS = SECOND_NS
"""A leap of one kind that the other kind contradicts is followed after this time."""
_PASSED_NS = 3 * SECOND_NS // 10
"""A kind that continued this long past the place of the other one's leap does not share it. A kind that leapt for this long does."""
_UNSURE_NS = 2 * SECOND_NS
"""A leap is followed after this time when nothing arrives of the other kind."""
_STRAYS = 3
"""At most this many time stamps in a row may leave a leap that is being judged."""


class Timeline(Generic[ItemT]):
    """Sets the media times of items of both kinds; the items of one kind keep their order.

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
        self._streams: dict[Kind, StampStream[ItemT]] = {"sound": StampStream("sound", offset), "picture": StampStream("picture", offset)}
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
        self, stream: StampStream[ItemT], other: StampStream[ItemT], time_ns: int, length_ns: int, item: ItemT
    ) -> list[tuple[int, Kind, ItemT]]:
        """Place an item that continues its stream, with the outliers before it; hold it otherwise."""
        expected, time = stream.next_ns, time_ns + stream.offset_ns
        if expected is None:
            return [self._place(stream, time, length_ns, item)]
        passed = stream.filled_ns
        if stream.kind == "sound" and time == stream.last_ns:
            time = expected  # a repeated time stamp is none
        leaps_on = stream.held and abs(time_ns - stream.line_ns) < abs(time - expected - passed)
        if leaps_on or not stream.fits(time, expected + passed, min(passed, SLOW_NS) // 2):
            return self._hold(stream, other, time_ns, length_ns, item)
        regular = not stream.held
        placed = self._place_outliers(stream, time)
        if regular:
            self._learn(stream, other, time)
        return [*placed, self._place(stream, time, length_ns, item)]

    @staticmethod
    def _learn(stream: StampStream[ItemT], other: StampStream[ItemT], time_ns: int) -> None:
        """Follow the usual distance of one kind to the other."""
        if other.came_ns is not None and not other.held:
            distance = time_ns - other.came_ns
            stream.lead_ns = distance if stream.lead_ns is None else stream.lead_ns + (distance - stream.lead_ns) / 16

    @staticmethod
    def _place(stream: StampStream[ItemT], time_ns: int, length_ns: int, item: ItemT) -> tuple[int, Kind, ItemT]:
        if stream.kind == "picture" and stream.last_ns is not None and time_ns > stream.last_ns:
            gap = min(time_ns - stream.last_ns, SLOW_NS * 2 if stream.young else 2 * stream.gap_ns)  # a pause is no distance
            stream.spread_ns += 0 if stream.young else (abs(gap - stream.gap_ns) - stream.spread_ns) // 8
            stream.gap_ns, stream.young = gap if stream.young else stream.gap_ns + (gap - stream.gap_ns) // 8, False
        stream.last_ns, stream.next_ns = time_ns, time_ns + stream.step_ns(length_ns)
        return time_ns, stream.kind, item

    def _hold(
        self, stream: StampStream[ItemT], other: StampStream[ItemT], time_ns: int, length_ns: int, item: ItemT
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
        stream.held.append(Held(time_ns, length_ns, self._keep(item) if self._keep else item, other.came_ns))
        return []

    # What a leap is

    def _judge(self, stream: StampStream[ItemT], other: StampStream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Return the held items of a kind, or of both kinds when they share the leap, once its cause is known."""
        if other.held and self._same_leap(stream, other):
            shorter, longer = sorted((stream.span_ns, other.span_ns))
            return self._follow_both(stream, other) if longer >= _AGREED_NS and shorter >= _PASSED_NS else []
        if stream.offset_ns != other.offset_ns and abs(stream.leap_ns + other.offset_ns - stream.offset_ns) < IN_STEP_NS:
            return self._join(stream, other) if stream.span_ns >= _AGREED_NS else []
        first_ns, now_ns = stream.held[0].beside_ns, other.came_ns
        waited = now_ns - first_ns if now_ns is not None and first_ns is not None else 0
        if self._is_gap(stream, other):
            known = stream.span_ns if stream.kind == "sound" else max(stream.span_ns, waited)  # pictures may be few
            return self._follow(stream) if known >= _AGREED_NS else []
        return self._judge_alone(stream, other, others_ns=waited)

    def _judge_alone(self, stream: StampStream[ItemT], other: StampStream[ItemT], others_ns: int) -> list[tuple[int, Kind, ItemT]]:
        """Judge a leap that the other kind contradicts or does not show; the other kind advanced by *others_ns* meanwhile."""
        span = stream.span_ns
        if span < _ALONE_NS or len(stream.held) < 2:  # noqa: PLR2004 - one item is no line
            return []
        passed = other.reached_ns is not None and other.reached_ns - (stream.next_ns or 0) >= _PASSED_NS
        if passed and not other.held:
            return self._go_on(stream, other)
        if span < (PATIENCE_NS if others_ns >= _AGREED_NS and not other.held else _UNSURE_NS):
            return []
        pause = not other.held and -SMALL_NS < stream.leap_ns < _PAUSE_NS
        return self._follow(stream) if pause else self._go_on(stream, other)

    @staticmethod
    def _is_gap(stream: StampStream[ItemT], other: StampStream[ItemT]) -> bool:
        """Return whether a leap is a gap: a small leap, or one that brings the stream nearer to the other kind."""
        leap, lead = stream.leap_ns, stream.lead_ns or 0.0
        then = [one.time_ns + stream.offset_ns - one.beside_ns - lead for one in stream.held if one.beside_ns is not None]
        if abs(leap) < SMALL_NS or not then or other.came_ns is None:
            return abs(leap) < SMALL_NS
        now = stream.line_ns + stream.offset_ns - other.came_ns - lead  # by now the other kind may have passed a gap of pictures, too
        return 2 * min(fmean(then), now) < leap if leap > 0 else 2 * fmean(then) > leap

    def _same_leap(self, one: StampStream[ItemT], other: StampStream[ItemT]) -> bool:
        return min(map(abs, self._apart(one, other))) < SMALL_NS

    @staticmethod
    def _apart(one: StampStream[ItemT], other: StampStream[ItemT]) -> tuple[int, int]:
        """Return how far two leaps lie apart where each kind keeps its offset, and where both have the same from here on."""
        apart = one.leap_ns - other.leap_ns
        return apart, apart - (one.offset_ns - other.offset_ns)

    # What is done with the held items

    def _follow(self, stream: StampStream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Place the held items by their time stamps."""
        held, stream.held, stream.strays = stream.held, [], 0
        return [self._place(stream, one.time_ns + stream.offset_ns, one.length_ns, one.item) for one in held]

    def _follow_both(self, one: StampStream[ItemT], other: StampStream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Keep a pause. After another leap both kinds continue, neither of them earlier than its newest item."""
        kept, same = map(abs, self._apart(one, other))
        if same < kept:  # the time stamps of both started again: the steps of one kind before are over
            other.offset_ns = one.offset_ns
        if same < kept or not -SMALL_NS < one.leap_ns < _PAUSE_NS:
            shift = max(-one.leap_ns, -other.leap_ns)
            one.offset_ns += shift
            other.offset_ns += shift
            self.leaps += 2
        return self._follow(one) + self._follow(other)

    def _join(self, stream: StampStream[ItemT], other: StampStream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Use the offset of the other kind, which has passed the same leap before."""
        stream.offset_ns = other.offset_ns
        self.leaps += 1
        return self._follow(stream)

    def _go_on(self, stream: StampStream[ItemT], other: StampStream[ItemT]) -> list[tuple[int, Kind, ItemT]]:
        """Continue one kind where it was, with another offset from here on."""
        offset = stream.offset_ns - stream.leap_ns
        stream.offset_ns = other.offset_ns if abs(offset - other.offset_ns) < IN_STEP_NS else offset
        self.leaps += 1
        return self._follow(stream)

    def _place_outliers(self, stream: StampStream[ItemT], until_ns: int | None = None) -> list[tuple[int, Kind, ItemT]]:
        """Place the held items where they arrived: sound by its length, pictures evenly up to the next one, if that is known."""
        held, stream.held, stream.strays = stream.held, [], 0
        self.outliers += len(held)
        if stream.kind == "picture" and until_ns is not None and stream.last_ns is not None:
            last, count = stream.last_ns, len(held) + 1
            times = [last + (until_ns - last) * number // count for number in range(1, count)]
            return [self._place(stream, time, one.length_ns, one.item) for time, one in zip(times, held, strict=True)]
        return [self._place(stream, stream.next_ns or 0, one.length_ns, one.item) for one in held]
