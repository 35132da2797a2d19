"""Compares the events that arrived in `streamav demo` with those of the scene, and prints both with the measurements of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamav.cli.demo_programs import say
from streamav.cli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Found", "compare", "sum_up"]

_LEAST_FOUND: Final = 0.75
"""The demonstration succeeds when at least this share of the scene's events arrives."""
_LEAST_OVERLAP: Final = 1 / 3
"""An event counts as found from this overlap on: shared time divided by the time that either of the two covers."""


@dataclass(frozen=True, slots=True)
class Found:
    """One event of the scene and the event that was found for it."""

    label: str
    onset_s: float
    offset_s: float
    seen_s: tuple[float, float] | None
    """Start and end that the subscriber received; None when no event matches."""


def compare(truth: Sequence[tuple[str, float, float]], seen: Sequence[dict[str, object]]) -> tuple[list[Found], int]:
    """Match the true events with the confirmed events that arrived.

    Args:
        truth: label, onset and offset of each event, in seconds.
        seen: events with label, media_start_s, media_end_s and confirmed; each is matched with at most one true event.

    Returns:
        Each true event with its match, and the number of confirmed events without a match.
    """
    left = [event for event in seen if event.get("confirmed") and event.get("media_end_s") is not None]
    found = []
    for label, onset_s, offset_s in truth:
        fits = [event for event in left if event["label"] == label and _overlap(event, onset_s, offset_s) >= _LEAST_OVERLAP]
        best = max(fits, key=lambda event: _overlap(event, onset_s, offset_s), default=None)
        if best is not None:
            left.remove(best)
        found.append(Found(label, onset_s, offset_s, None if best is None else _span(best)))
    return found, len(left)


def sum_up(truth: Sequence[tuple[str, float, float]], seen: dict[str, object], run: dict[str, object]) -> int:
    """Print the scene's events with their matches, and the measurements; return the exit status."""
    events = seen["events"]
    found, others = compare(truth, events if isinstance(events, list) else [])
    say("")
    for one in found:
        told = "missed" if one.seen_s is None else f"found {one.seen_s[0]:5.1f} - {one.seen_s[1]:5.1f} s"
        say(f"  {one.label:<12} {one.onset_s:5.1f} - {one.offset_s:5.1f} s   {told}")
    hits = sum(one.seen_s is not None for one in found)
    say(f"{hits} of {len(found)} events found, {counted(others, 'false event')}, {run['retracted']} retracted")
    arrival = seen["arrival_latency_s"]
    if isinstance(arrival, dict) and arrival.get("p50") is not None:
        say(f"latency from the end of a segment to the subscriber: p50 {arrival['p50']:.3f} s, p95 {arrival['p95']:.3f} s")
    if run["latency_p50_s"] is not None and run["latency_p95_s"] is not None:
        say(f"of it until the run hands its events over: p50 {run['latency_p50_s']:.3f} s, p95 {run['latency_p95_s']:.3f} s")
    say(
        f"real-time factor {run['realtime_factor']:.3f}, {counted(int(str(run['dropped_segments'])), 'segment')} dropped, "
        f"peak memory {run['peak_memory_mb']:.0f} MB, {seen['messages']} messages, {seen['invalid']} invalid"
    )
    return 0 if found and hits >= _LEAST_FOUND * len(found) and not seen["invalid"] else 1


def _span(event: dict[str, object]) -> tuple[float, float]:
    return float(str(event["media_start_s"])), float(str(event["media_end_s"]))


def _overlap(event: dict[str, object], onset_s: float, offset_s: float) -> float:
    """Return the shared time divided by the time that either covers; an event that is far too long does not count as found."""
    start_s, end_s = _span(event)
    shared_s = min(end_s, offset_s) - max(start_s, onset_s)
    return max(0.0, shared_s) / (max(end_s, offset_s) - min(start_s, onset_s))
