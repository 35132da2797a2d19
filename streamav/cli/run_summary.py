"""Prints the summary of a run: how much was processed, what was found, how fast it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.cli.console import say
from streamav.cli.wording import counted
from streamav.pipeline import SourceSummary
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from rich.console import Console

    from streamav.pipeline import RunSummary

__all__ = ["failed_at_once", "tell"]


def tell(console: Console, summary: RunSummary, engine: str) -> None:
    """Print the summary of the run on standard error, unless it failed at once; *engine* is the one that ran at the end."""
    if failed_at_once(summary):
        return
    parts = [f"{summary.media_s:.0f} s of media in {summary.wall_s:.1f} s on {engine}", *_counts(summary)]
    if summary.realtime_factor is not None:
        parts.append(f"real-time factor {summary.realtime_factor:.3f}")
    parts.append(f"peak memory {summary.peak_memory_mb:.0f} MB")
    say(console, ", ".join(parts))
    if not summary.events and summary.media_s >= WINDOW_SEGMENTS:
        say(console, "no event: `streamav explain` says why a second was none, and --view shows what the model sees and hears")
    for one in summary.sources if len(summary.sources) > 1 else ():
        line = ", ".join([f"{one.media_s:.0f} s of media", *_counts(one)])
        say(console, f"  {one.id}: {line}" + ("" if one.error is None else f"; failed: {one.error}"))


def failed_at_once(summary: RunSummary) -> bool:
    """Return whether a source failed before anything was processed; the error that ends the run says all about such a run."""
    return not summary.media_s and any(one.error is not None for one in summary.sources)


def _counts(part: RunSummary | SourceSummary) -> list[str]:
    """Return the counts that a run and each of its sources share, in words."""
    words = [counted(part.events, "event")]
    if part.retracted:
        words.append(f"{part.retracted} retracted")
    if part.latency_p50_s is not None and part.latency_p95_s is not None:
        words.append(f"latency {part.latency_p50_s:.2f} s (p95 {part.latency_p95_s:.2f} s)")
    words.append(f"{counted(part.dropped_segments, 'segment')} dropped")
    if part.thinned_segments:
        words.append(f"{counted(part.thinned_segments, 'segment')} with fewer pictures")
        if isinstance(part, SourceSummary) and part.looked_frames_per_second is not None:
            words[-1] += f" ({part.looked_frames_per_second:.1f} frames per second on average)"
    return words
