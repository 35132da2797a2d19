"""Reads the questions that people ask the journal, from the command line or over HTTP: times, and why a second was an event.

It opens no file.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from streamav.errors import SettingsError
from streamav.journal.explain import Surroundings, explain
from streamav.journal.query import EventQuery
from streamav.thresholds import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.journal.history import History
    from streamav.tracker import LabelOptions

__all__ = ["AROUND_S", "explain_moment", "read_time"]

AROUND_S: Final = 2 * LONGEST
"""Seconds of scores on each side of a second that can decide about it: an event may need that many segments and hold that long a pause."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LAST_S: Final = 253_402_300_799.0
"""End of the year 9999, the last that ISO 8601 writes with four digits."""
_LONGEST_TIME: Final = 64
_LONGEST_EVENT_S: Final = 86_400.0
"""An event that began longer ago than a day is not looked for around a second."""
_NS: Final = 1_000_000_000


def read_time(name: str, text: str | None, now_s: float) -> float | None:
    """Return a time as seconds since 1970, from ISO 8601 (local without a zone), seconds, or an age; None for None.

    Args:
        name: of the option or parameter, for the message.
        text: what was given.
        now_s: seconds since 1970.

    Raises:
        SettingsError: when it is none of these, or beyond the year 9999.
    """
    if text is None:
        return None
    found = _time(text, now_s) if len(text) <= _LONGEST_TIME else None
    if found is None or abs(found) > _LAST_S:
        shown = ascii(text if len(text) <= _LONGEST_TIME else text[:_LONGEST_TIME] + "...")
        msg = f"{name} must be a time like 2026-09-14T10:00Z, seconds since 1970, or an age like 90m, 2h or 7d, got {shown}"
        raise SettingsError(msg)
    return found


def _time(text: str, now_s: float) -> float | None:
    if age := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text):
        return now_s - float(age[1]) * _UNITS[age[2]]
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def explain_moment(
    history: History, source: str, at_s: float, labels_of: Callable[[Sequence[str]], Sequence[LabelOptions]], grid: int
) -> dict[str, object]:
    """Return why the second at a time did or did not become an event, from the scores of the journal, as JSON values.

    Args:
        history: the open journal.
        source: id of the source.
        at_s: UTC, seconds since 1970.
        labels_of: returns thresholds and rules to apply for some labels; those that it leaves out are not judged.
        grid: rows, and columns, of the model's attention.
    """
    known = history.scores(source, at_s - AROUND_S, at_s + AROUND_S)
    here = next((one for one in known if 0 <= at_s * _NS - one.epoch_ns - one.start_ns < _NS), None)
    around = history.find(EventQuery(since=at_s - _LONGEST_EVENT_S, until=at_s + 1.0, source=source))
    covering = [_outline(one) for one in around if _covers(one, at_s)]
    if here is None:
        return {**explain([], 0, ()), "at_s": at_s, "source": source, "events": covering}
    run = [one for one in known if one.epoch_ns == here.epoch_ns and one.labels.keys() == here.labels.keys()]
    ended_ns = _ended(around, here.epoch_ns, run[0].start_ns)
    found = explain(
        run, round(at_s * _NS) - here.epoch_ns, labels_of(tuple(here.labels)), Surroundings(grid=(grid, grid), ended_ns=ended_ns)
    )
    return {**found, "source": source, "events": covering}


def _ended(events: Sequence[dict[str, Any]], epoch_ns: int, before_ns: int) -> dict[str, int]:
    """Return label -> end of its last confirmed event before a time; all in ns on the media clock whose zero is *epoch_ns*."""
    ends = [(one["label"], round(one["end_ts"] * _NS) - epoch_ns) for one in events if one["confirmed"] and one["end_ts"] is not None]
    return {label: end for label, end in sorted(ends, key=lambda one: one[1]) if end <= before_ns}


def _covers(event: dict[str, Any], at_s: float) -> bool:
    return bool(event["start_ts"] <= at_s < event["start_ts"] + event["duration_s"])


def _outline(event: dict[str, Any]) -> dict[str, object]:
    return {key: event[key] for key in ("id", "label", "media_start_s", "duration_s", "top_score", "confirmed", "end_reason")}
