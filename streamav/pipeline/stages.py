"""Runs the stages of one source behind the extractor: window, aggregation, tracker, and the state of the source.

It uses no thread and no network; only one thread may call it at a time.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from streamav.aggregation import Aggregation
from streamav.pipeline.health import Health
from streamav.tracker import Tracker
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS, WINDOW_SEGMENTS, EndReason, Quality, SourceContent, SourceState
from streamav.window import LEAST_SEGMENTS, WindowRing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.control import SourcePlan
    from streamav.tracker import TrackerOptions
    from streamav.types import Event, SegmentFeatures, SegmentScores, Window, WindowScores

__all__ = ["SourceStages"]

_log = logging.getLogger(__name__)

_WELL_SEGMENTS = 10
"""This many good segments in a row make a source online again."""
_SHORT_LOSS_SEGMENTS = 3
"""After a loss of at most this length the window goes on, because seven of its ten segments are still true."""
_ARRIVES = {
    "": "sound and picture arrive",
    "sound": "pictures arrive; the source has no sound, so no event can be heard and seen",
    "picture": "sound arrives; the source has no picture, so no event can be heard and seen",
}
"""Reason of the state online, by what the source lacks."""
_ABSENT = Quality(missing_samples=SAMPLES_PER_SEGMENT, picture_missing=True)


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
        self._ring = WindowRing(LEAST_SEGMENTS)
        self._aggregation = Aggregation(latency_segments)
        self._tracker: Tracker | None = None
        self._last: SegmentFeatures | None = None
        self._lost = False
        self._health = Health()
        self._well = 0
        self._content = SourceContent()
        self._reason = ""
        self._missing: str | None = None  # why the source is lost, noted while it is switched off
        self.enabled = True
        """False while the source is switched off; then push() must not be called."""
        self.state = SourceState.STARTING
        """State that was announced last."""
        self.changes: list[tuple[SourceState, str]] = []
        """Changes of the state with their reasons; the publisher removes them."""

    def push(self, features: SegmentFeatures) -> tuple[Window | None, list[Event]]:
        """Take the features of the next segment; return the window to score, and the events that a break in the source ended.

        A dropped segment, or one of a short loss, gets the features of the segment before it in the window: restarting the window would
        cost more. Those of a loss are background. When a whole window is missing, or the loss was longer, a new stretch begins.
        """
        events: list[Event] = []
        missing = 0 if self._last is None else features.index - self._last.index - 1
        if self._lost and missing > _SHORT_LOSS_SEGMENTS:
            self._forget()
        elif missing >= WINDOW_SEGMENTS:
            events = self.interrupt(EndReason.SOURCE_LOST)
            self.announce(SourceState.WARMING_UP, f"{missing} s of the source are missing")
        elif self._last is not None:
            quality = _ABSENT if self._lost else self._last.quality
            for index in range(self._last.index + 1, features.index):
                start_ns = features.start_ns - (features.index - index) * SEGMENT_NS
                self._ring.push(replace(self._last, index=index, start_ns=start_ns, quality=quality))
        dropped = 0 if self._lost or missing >= WINDOW_SEGMENTS else missing
        self._last, self._lost = features, False
        window = self._ring.push(features)
        self._judge(features.quality, dropped)
        return window, events

    @property
    def quiet(self) -> bool:
        """True while no event is open."""
        return self._tracker is None or not self._tracker.open_events

    def expect(self, content: SourceContent) -> None:
        """Take what the source consists of: it is not unwell because of what it lacks."""
        self._content = content
        self._health.expect(content)

    def last_window(self) -> Window | None:
        """Return the one window of a source that ended before any window, else None."""
        self._last = None
        return self._ring.close()

    def score(self, scores: WindowScores) -> list[Event]:
        """Take the scores of the window that push() or last_window() returned; return the events."""
        return self._follow(self._aggregation.push(scores))

    def interrupt(self, reason: EndReason) -> list[Event]:
        """End all events and forget the window; the next segment begins a new stretch."""
        self._forget()
        return self._end(reason)

    def lose(self) -> list[Event]:
        """End all events, because the source is lost; the window is kept in case the source is soon back."""
        self._lost = self._last is not None
        self._health.reset()
        return self._end(EndReason.SOURCE_LOST)

    def _forget(self) -> None:
        self._ring.reset()
        self._last, self._lost = None, False
        self._health.reset()

    def _end(self, reason: EndReason) -> list[Event]:
        rest = self._aggregation.close()
        self._tell(rest)
        return self._track().close(rest, reason) if rest or self._tracker is not None else []

    def change(self, plan: SourcePlan) -> list[Event]:
        """Detect by a new plan from now on; return the events that it ends."""
        self._aggregation.set_latency(plan.latency_segments)
        events: list[Event] = []
        if not plan.enabled and self.enabled:
            events = self.interrupt(EndReason.DISABLED)
            self._missing = self._reason if self.state is SourceState.LOST else None
            self.announce(SourceState.DISABLED, "switched off")
        if self._tracker is not None:
            events += self._tracker.change(plan.labels)
        self._options = replace(self._options, labels=plan.labels)
        if plan.enabled and not self.enabled:
            self.enabled = True
            if self._missing is None:
                self.announce(SourceState.WARMING_UP, "switched on")
            else:
                self.announce(SourceState.LOST, self._missing)
        self.enabled = plan.enabled
        return events

    def announce(self, state: SourceState, reason: str) -> None:
        """Change the state of the source, unless it already has this state; another reason for trouble is announced, too.

        A source that is switched off stays `disabled`; whether it is lost is noted, and announced when it is switched on.
        """
        if not self.enabled:
            self._missing = reason if state is SourceState.LOST else None
            return
        if state is not self.state or (state in {SourceState.DEGRADED, SourceState.LOST} and reason != self._reason):
            self.state, self._reason = state, reason
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
        complaint = self._health.push(quality, dropped)
        self._well = 0 if complaint else self._well + 1
        if not self._ring.full:
            self.announce(SourceState.WARMING_UP, "events are provisional until ten segments have arrived")
        elif complaint:
            self.announce(SourceState.DEGRADED, complaint)
        elif self._whole(quality) and (self.state is not SourceState.DEGRADED or self._well >= _WELL_SEGMENTS):
            self.announce(SourceState.ONLINE, _ARRIVES[self._content.lacks])

    def _whole(self, quality: Quality) -> bool:
        """Return whether all arrived that the source consists of."""
        return not (self._content.sound and quality.sound_missing) and not (self._content.picture and quality.picture_missing)
