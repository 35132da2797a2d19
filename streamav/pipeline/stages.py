"""The stages of one source behind the extractor: window, aggregation, tracker, and the state of the source.

It knows no thread and no network; the loop calls it from one place at a time.
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
"""So many seconds in a row without any sound, or without any picture, make a source degraded."""
_WELL_SEGMENTS = 10
"""So many good seconds in a row make it online again."""


class SourceStages:
    """From features to events, for one source."""

    def __init__(
        self,
        options: TrackerOptions,
        latency_segments: int,
        epoch_ns: Callable[[], int],
        on_final: Callable[[SegmentScores], None] | None = None,
    ) -> None:
        """Begin empty.

        Args:
            options: of the tracker, all but the epoch.
            latency_segments: L: a segment is final at age L - 1.
            epoch_ns: UTC, ns since 1970, of the media clock's zero; asked whenever there are scores, for the
                events that they open.
            on_final: told the scores of each segment once they are final; None: nobody.
        """
        self._options = options
        self._epoch_ns = epoch_ns
        self._on_final = on_final
        self._ring = WindowRing()
        self._aggregation = Aggregation(latency_segments)
        self._tracker: Tracker | None = None
        self._last: SegmentFeatures | None = None
        self._silent = self._unseen = 0
        self._well = 0
        self.state = SourceState.WARMING_UP
        """State that was announced last."""
        self.changes: list[tuple[SourceState, str]] = []
        """Changes of the state with their reasons; whoever publishes them takes them out."""

    def push(self, features: SegmentFeatures) -> tuple[Window | None, list[Event]]:
        """Take the features of the next segment; give the window to score, and what a break in the source ended.

        A segment that was dropped on the way stands in the window with the features of the one before it: restarting the
        window would cost ten more seconds. Where a whole window is missing, a new stretch begins.
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
        """Give the one short window of a source that ended before its tenth second."""
        self._last = None
        return self._ring.close()

    def score(self, scores: WindowScores) -> list[Event]:
        """Take the scores of the window that push() or last_window() gave."""
        return self._follow(self._aggregation.push(scores))

    def interrupt(self, reason: EndReason) -> list[Event]:
        """End all events and forget the window; the next segment begins a new stretch."""
        self._ring.reset()
        self._last, self._silent, self._unseen = None, 0, 0
        rest = self._aggregation.close()
        self._tell(rest)
        return self._track().close(rest, reason) if rest or self._tracker is not None else []

    def announce(self, state: SourceState, reason: str) -> None:
        """Change the state of the source, unless it is that already."""
        if state is not self.state:
            self.state = state
            self.changes.append((state, reason))

    def _follow(self, scores: Sequence[SegmentScores]) -> list[Event]:
        self._tell(scores)
        tracker = self._track()
        tracker.follow(self._epoch_ns())
        return tracker.push(scores)

    def _tell(self, scores: Sequence[SegmentScores]) -> None:
        if self._on_final is None:
            return
        for one in scores:
            if one.final:
                self._on_final(one)

    def _track(self) -> Tracker:
        if self._tracker is None:
            self._tracker = Tracker(replace(self._options, epoch_ns=self._epoch_ns()))
        return self._tracker

    def _judge(self, quality: Quality, dropped: int) -> None:
        """Find the state of the source from what arrives (MQTT contract, section 6)."""
        self._silent = self._silent + 1 if quality.missing_samples >= SAMPLES_PER_SEGMENT else 0
        self._unseen = self._unseen + 1 if quality.picture_missing else 0
        unwell = dropped > 0 or max(self._silent, self._unseen) >= _UNWELL_SEGMENTS
        self._well = 0 if unwell else self._well + 1
        if not self._ring.full:
            self.announce(SourceState.WARMING_UP, "fewer than ten seconds so far")
        elif unwell:
            self.announce(SourceState.DEGRADED, f"{dropped} s skipped, the machine is behind" if dropped else self._lacking())
        elif not quality.one_sided and (self.state is not SourceState.DEGRADED or self._well >= _WELL_SEGMENTS):
            self.announce(SourceState.ONLINE, "sound and picture arrive")

    def _lacking(self) -> str:
        """Say what has not arrived for how long."""
        lacks = {"sound": self._silent, "picture": self._unseen}
        return " and ".join(f"no {what} for {seconds} s" for what, seconds in lacks.items() if seconds >= _UNWELL_SEGMENTS)
