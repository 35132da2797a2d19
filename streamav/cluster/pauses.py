"""Decides when a worker that could not run is tried again. Pure: it takes the time."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamav.backoff import doubled_s

__all__ = ["Pauses"]

FIRST_S, MOST_S = 5.0, 60.0
"""Shortest and longest pause before a worker is tried again, s (our choice)."""


@dataclass(slots=True)
class Pauses:
    """Failures in a row by the name of a worker, also of one that is gone."""

    reasons: dict[str, str] = field(default_factory=dict)
    """Why each could not run, the last time."""
    _counts: dict[str, int] = field(default_factory=dict)
    _until_s: dict[str, float] = field(default_factory=dict)

    def fail(self, worker: str, reason: str, now_s: float) -> float:
        """Note a failure and return the pause before the next attempt, s; it doubles with each."""
        count = self._counts[worker] = self.count(worker) + 1
        pause_s = doubled_s(FIRST_S, MOST_S, count - 1)
        self.reasons[worker], self._until_s[worker] = reason, now_s + pause_s
        return pause_s

    def forget(self, worker: str) -> None:
        """Note that a worker runs."""
        for one in (self.reasons, self._counts, self._until_s):
            one.pop(worker, None)

    def count(self, worker: str) -> int:
        """Return how often in a row a worker could not run."""
        return self._counts.get(worker, 0)

    def over(self, worker: str, now_s: float) -> bool:
        """Return whether a worker may be tried now."""
        return now_s >= self._until_s.get(worker, 0.0)
