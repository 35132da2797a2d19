"""Runs the stages of one source behind the extractor: window, aggregation, tracker, and the state of the source.

It uses no thread and no network; only one thread may call it at a time.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from streamav.aggregation import Aggregation
from streamav.tracker import Tracker
from streamav.types import SAMPLES_PER_SEGMENT, WINDOW_SEGMENTS, EndReason, SourceState
from streamav.window import WindowRing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.tracker import TrackerOptions
    from streamav.types import Event, Quality, SegmentFeatures, SegmentScores, Window, WindowScores

__all__ = ["SourceStages"]

_log = logging.getLogger(__name__)

_UNWELL_SEGMENTS = 3
"""This many segments in a row without any sound, or without any picture, make a source degraded."""
_WELL_SEGMENTS = 10
"""This many good segments in a row make it online again."""


class SourceStages:
    """Turns features into events, for one source."""

    def __init__(
        self,
        options: TrackerOptions,
        latency_segments: int,
        epoch_ns: Callable[[], int],
        on_final: Callable[[SegmentScores], None] | None = None,
        on_scores: Callable[[Sequence[SegmentScores]], None] | None = None,
    ) -> None:
        """Start empty.

        Args:
            options: options of the tracker, except for the epoch.
            latency_segments: L: a segment is final at age L - 1.
            epoch_ns: returns UTC, ns since 1970, of the media clock's zero; called for every set of scores, for the
                events that they open.
            on_final: receives the scores of each segment once they are final; None for no receiver.
            on_scores: receives all scores of each turn, provisional ones too; None for no receiver.
        """
        self._options = options
        self._epoch_ns = epoch_ns
        self._on_final = on_final
        self._on_scores = on_scores
        self._ring = WindowRing()
        self._aggregation = Aggregation(latency_segments)
        self._tracker: Tracker | None = None
        self._last: SegmentFeatures | None = None
        self._silent = self._unseen = 0
        self._well = 0
        self.state = SourceState.WARMING_UP
        """State that was announced last."""
        self.changes: list[tuple[SourceState, str]] = []
        """Changes of the state with their reasons; the publisher removes them."""

    def push(self, features: SegmentFeatures) -> tuple[Window | None, list[Event]]:
        """Take the features of the next segment; return the window to score, and the events that a break in the source ended.

        A dropped segment gets the features of the segment before it in the window: restarting the window would cost ten more
        segments. When a whole window is missing, a new stretch begins.
        """
        events: list[Event] = []
        missing = 0 if self._last is None else features.index - self._last.index - 1
        if missing >= WINDOW_SEGMENTS:
            events = self.interrupt(EndReason.SOURCE_LOST)
            self.announce(SourceState.WARMING_UP, f"{missing} s of the source are missing")
        elif self._last is not None:
            for step in range(1, missing + 1):
                lost = self._last.index + step
                self._ring.push(replace(self._last, index=lost, start_ns=features.start_ns - (features.index - lost) * 1_000_000_000))
        self._last = features
        window = self._ring.push(features)
        self._judge(features.quality, missing if missing < WINDOW_SEGMENTS else 0)
        return window, events

    def last_window(self) -> Window | None:
        """Return the one short window of a source that ended before its tenth segment, else None."""
        self._last = None
        return self._ring.close()

    def score(self, scores: WindowScores) -> list[Event]:
        """Take the scores of the window that push() or last_window() returned; return the events."""
        return self._follow(self._aggregation.push(scores))

    def interrupt(self, reason: EndReason) -> list[Event]:
        """End all events and forget the window; the next segment begins a new stretch."""
        self._ring.reset()
        self._last, self._silent, self._unseen = None, 0, 0
        rest = self._aggregation.close()
        self._tell(rest)
        return self._track().close(rest, reason) if rest or self._tracker is not None else []

    def announce(self, state: SourceState, reason: str) -> None:
        """Change the state of the source, unless it already has this state."""
        if state is not self.state:
            self.state = state
            self.changes.append((state, reason))

    def _follow(self, scores: Sequence[SegmentScores]) -> list[Event]:
        self._tell(scores)
        tracker = self._track()
        tracker.follow(self._epoch_ns())
        return tracker.push(scores)

    def _tell(self, scores: Sequence[SegmentScores]) -> None:
        if self._on_scores is not None:
            self._on_scores(scores)
        if self._on_final is None:
            return
        for one in scores:
            if one.final:
                self._on_final(one)

    def _track(self) -> Tracker:
        if self._tracker is None:
            self._tracker = Tracker(self._options)
            self._tracker.follow(self._epoch_ns())
        return self._tracker

    def _judge(self, quality: Quality, dropped: int) -> None:
        """Determine the state of the source from what arrives (MQTT contract, section 6)."""
        self._silent = self._silent + 1 if quality.missing_samples >= SAMPLES_PER_SEGMENT else 0
        self._unseen = self._unseen + 1 if quality.picture_missing else 0
        unwell = dropped > 0 or max(self._silent, self._unseen) >= _UNWELL_SEGMENTS
        self._well = 0 if unwell else self._well + 1
        if not self._ring.full:
            self.announce(SourceState.WARMING_UP, "fewer than ten segments so far")
        elif unwell:
            self.announce(SourceState.DEGRADED, f"{dropped} s skipped, the machine is behind" if dropped else self._lacking())
        elif not quality.one_sided and (self.state is not SourceState.DEGRADED or self._well >= _WELL_SEGMENTS):
            self.announce(SourceState.ONLINE, "sound and picture arrive")

    def _lacking(self) -> str:
        """Return what has not arrived, and for how long."""
        lacks = {"sound": self._silent, "picture": self._unseen}
        return " and ".join(f"no {what} for {seconds} s" for what, seconds in lacks.items() if seconds >= _UNWELL_SEGMENTS)
