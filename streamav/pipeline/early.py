"""Decides when the pictures of running segments are encoded before their segments are complete.

Pure: it takes loads, times and how long segments waited for their scores. It uses no segment, source or clock.

    closed   until some whole segments have shown what they cost and how long they wait; then for a while that doubles
    open     while the load is at most 0.6, all frames are processed, and scores come sooner than they did while it was closed

So a machine that is full, or that gains nothing, works exactly as without early pictures.
"""

from __future__ import annotations

from statistics import median

__all__ = ["EARLY_LOAD", "PARTS", "EarlyGate"]

PARTS = 4
"""A segment's pictures are looked at in this many parts; what is left at its end is about one of them."""
EARLY_LOAD = 0.6
"""Above this load, s of work in a second, pictures wait for the end of their segment: larger batches cost less, and throughput counts."""
OPEN_LOAD = 0.5
"""It opens only below this load, because more and smaller batches add to the load."""
GAIN = 0.9
"""Scores must come after at most this share of the time that whole segments take; less gain is not worth more batches (our choice)."""
LEAST_WHOLE = 8
"""It opens after this many whole segments, and at least two of each source."""
COMPARED = 32
"""Number of segments with early pictures that are compared with the whole ones before."""
HOLD_S = 10.0
"""It stays closed for this time, s; doubled each time that it had not stayed open for TRIAL_S, up to MOST_HOLD_S."""
MOST_HOLD_S = 640.0
TRIAL_S = 120.0
"""If early pictures went on for this time, the next pause is `HOLD_S` again, s."""


class EarlyGate:
    """Whether pictures are encoded early now. It begins closed."""

    def __init__(self) -> None:
        """Begin closed, without knowledge."""
        self.open = False
        """True while pictures are encoded as they come."""
        self._waits_s: list[float] = []
        self._whole_s = 0.0
        self._hold_s = HOLD_S
        self._since_s = 0.0
        self._closed_before = False

    def saw(self, wait_s: float) -> None:
        """Record how long a segment waited for its scores after it was complete, s."""
        self._waits_s.append(wait_s)

    def decide(self, load: float, *, full: bool, sources: int, now_s: float) -> bool:
        """Decide again and return `open`.

        Args:
            load: predicted seconds of work in one second.
            full: True when fewer than all frames are processed.
            sources: number of running sources.
            now_s: monotonic time, s.
        """
        if not self.open:
            self._decide_closed(load, full=full, sources=sources, now_s=now_s)
        elif full or load > EARLY_LOAD or self._gains_nothing():
            self._close(now_s)
        return self.open

    def _decide_closed(self, load: float, *, full: bool, sources: int, now_s: float) -> None:
        if full or load > OPEN_LOAD:
            self._waits_s.clear()  # what a busy machine takes says nothing about one at leisure
            return
        held = self._closed_before and now_s - self._since_s < self._hold_s
        least = max(LEAST_WHOLE, 2 * sources)
        del self._waits_s[: -2 * least]
        if not held and len(self._waits_s) >= least:
            self._whole_s = median(self._waits_s)
            self.open, self._since_s = True, now_s
            self._waits_s.clear()

    def _gains_nothing(self) -> bool:
        """Return whether the last segments took about as long as whole ones, and begin to measure the next ones."""
        if len(self._waits_s) < COMPARED:
            return False
        found = median(self._waits_s)
        self._waits_s.clear()
        return found > GAIN * self._whole_s

    def _close(self, now_s: float) -> None:
        stayed = now_s - self._since_s >= TRIAL_S
        self._hold_s = HOLD_S if stayed or not self._closed_before else min(2.0 * self._hold_s, MOST_HOLD_S)
        self.open, self._closed_before, self._since_s = False, True, now_s
        self._waits_s.clear()
