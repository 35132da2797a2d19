"""When a label is listened for: local times of day on days of the week, in a time zone.

    "22:00-06:00"            every day from 22:00 to 06:00 of the next day
    "mon-fri 08:00-18:00"    on five days
    "sat,sun"                two whole days

Only UTC is turned into local time, never the reverse. So each instant has one answer, also in the hour that a change of the clocks skips or
repeats: 02:30 on such a night never comes, or comes twice, and both times count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MOST_SPANS", "Schedule", "Span", "read_schedule", "read_time_zone"]

MOST_SPANS: Final = 50
"""Most entries of one schedule (our choice: seven for each day)."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 24 * 60
_TIMES: Final = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)")
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """One entry of a schedule."""

    days: frozenset[int]
    """Days on which it begins, Monday is 0."""
    begin: int
    """Minutes since midnight, 0 to 1439."""
    end: int
    """Minutes since midnight, 1 to 1440; at most `begin`: it ends on the next day."""

    def holds(self, day: int, minute: int) -> bool:
        """Return whether a minute of a day of the week lies in it; the minute of its end does not."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times at which a label is listened for."""

    spans: tuple[Span, ...]
    zone: tzinfo | None = None
    """None for the time zone of this machine."""

    def holds(self, utc_ns: int) -> bool:
        """Return whether an instant (UTC, ns since 1970) lies in one of the spans."""
        local = datetime.fromtimestamp(utc_ns // _NS, UTC).astimezone(self.zone)
        return any(span.holds(local.weekday(), 60 * local.hour + local.minute) for span in self.spans)


def read_schedule(entries: Sequence[str], zone: tzinfo | None = None) -> Schedule:
    """Read the entries of a schedule: days, times of day, or both.

    Raises:
        ValueError: when there is none, there are more than 50, or one cannot be read.
    """
    if not 1 <= len(entries) <= MOST_SPANS:
        msg = f'a schedule must have 1 to {MOST_SPANS} entries such as "mon-fri 22:00-06:00", got {len(entries)}; leave it out for always'
        raise ValueError(msg)
    return Schedule(tuple(_span(entry) for entry in entries), zone)


def read_time_zone(name: str | None) -> tzinfo | None:
    """Return a time zone by its name in the tz database; None for that of this machine.

    Raises:
        ValueError: when there is no such zone.
    """
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = f"a time zone must be a name such as Europe/Berlin or UTC, got {name!r}; if the name is right, install the package tzdata"
        raise ValueError(msg) from None


def _span(entry: str) -> Span:
    words = entry.lower().split()
    times = [word for word in words if ":" in word]
    days = [word for word in words if ":" not in word]
    if not words or len(times) > 1 or len(days) > 1:
        msg = f'an entry of a schedule must be days, times, or both, such as "mon-fri 22:00-06:00", got {entry!r}'
        raise ValueError(msg)
    begin, end = _minutes(times[0], entry) if times else (0, _DAY)
    return Span(_days(days[0], entry) if days else frozenset(range(7)), begin, end)


def _minutes(word: str, entry: str) -> tuple[int, int]:
    found = _TIMES.fullmatch(word)
    begin, end = (-1, -1) if found is None else (60 * int(found[1]) + int(found[2]), 60 * int(found[3]) + int(found[4]))
    if not (0 <= begin < _DAY and 0 <= end <= _DAY) or begin == end:
        msg = f'times of a schedule must be two different times from 00:00 to 24:00, such as "22:00-06:00", got {entry!r}'
        raise ValueError(msg)
    return begin, end


def _days(word: str, entry: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            msg = f'days of a schedule must be {", ".join(DAYS)}, such as "mon-fri" or "sat,sun", got {entry!r}'
            raise ValueError(msg)
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)
