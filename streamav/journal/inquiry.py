"""Answers why a second was or was not an event, from the scores and events of the journal.

It opens no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamav.journal.explain import Surroundings, explain
from streamav.journal.query import EventQuery
from streamav.thresholds import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.journal.history import History
    from streamav.tracker import LabelOptions
    from streamav.types import FinalScores

__all__ = ["AROUND_S", "DRIFT_NS", "explain_moment"]

AROUND_S: Final = 2 * LONGEST
"""Seconds of scores on each side of a second that can decide about it: an event may need that many segments and hold that long a pause."""
DRIFT_NS: Final = 1_000_000_000
"""The clock of a live source is corrected all the time, by far less than this around a second. A new start moves it further."""
_LONGEST_EVENT_S: Final = 86_400.0
"""An event that began longer ago than a day is not looked for around a second."""
_NS: Final = 1_000_000_000


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
    run = _stretch(known, here)
    ended_ns = _ended(around, here.epoch_ns, run[0].start_ns)
    found = explain(
        run, round(at_s * _NS) - here.epoch_ns, labels_of(tuple(here.labels)), Surroundings(grid=(grid, grid), ended_ns=ended_ns)
    )
    return {**found, "source": source, "events": covering}


def _stretch(known: Sequence[FinalScores], here: FinalScores) -> list[FinalScores]:
    """Return the scores of the same run and labels around a segment, by media time, also across steps of the wall clock."""
    alike = [one for one in known if one.labels.keys() == here.labels.keys()]
    found = _beside(alike, here)
    for edge, step_ns in ((0, -_NS), (-1, _NS)):
        while (beyond := _continued(alike, found[edge], step_ns)) is not None:
            more = [one for one in _beside(alike, beyond) if (one.start_ns - beyond.start_ns) * step_ns >= 0]
            found = more + found if step_ns < 0 else found + more
    return found


def _beside(alike: Sequence[FinalScores], here: FinalScores) -> list[FinalScores]:
    """Return the scores whose media clock shows the same UTC as that of *here*, by media time."""
    return sorted((one for one in alike if abs(one.epoch_ns - here.epoch_ns) < DRIFT_NS), key=lambda one: one.start_ns)


def _continued(alike: Sequence[FinalScores], edge: FinalScores, step_ns: int) -> FinalScores | None:
    """Return the segment that a step of the wall clock has cut off from *edge*: next to it in media time, and with nothing on this side."""
    for one in alike:
        if one.start_ns == edge.start_ns + step_ns and not any(other.start_ns == edge.start_ns for other in _beside(alike, one)):
            return one
    return None


def _ended(events: Sequence[dict[str, Any]], epoch_ns: int, before_ns: int) -> dict[str, int]:
    """Return label -> end of its last confirmed event before a time; all in ns on the media clock whose zero is *epoch_ns*."""
    ends = [(one["label"], round(one["end_ts"] * _NS) - epoch_ns) for one in events if one["confirmed"] and one["end_ts"] is not None]
    return {label: end for label, end in sorted(ends, key=lambda one: one[1]) if end <= before_ns}


def _covers(event: dict[str, Any], at_s: float) -> bool:
    return bool(event["start_ts"] <= at_s < event["start_ts"] + event["duration_s"])


def _outline(event: dict[str, Any]) -> dict[str, object]:
    return {key: event[key] for key in ("id", "label", "media_start_s", "duration_s", "top_score", "confirmed", "end_reason")}
