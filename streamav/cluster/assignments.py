"""Holds where each source of a cluster runs, and to which worker it moves. Pure: it takes the time, and sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.backoff import doubled_s
from streamav.cluster.orders import SourceOrder
from streamav.cluster.placement import Cost

if TYPE_CHECKING:
    from streamav.cluster.orders import SourceReport

__all__ = ["Assignment"]

FIRST_COST = Cost(cores=0.05, work_s=0.02)
"""Cost of a source before it was measured: about that of a 720p camera with the starter (docs/many-streams.md)."""
_SMOOTH = 0.05
"""Share of the newest second in the smoothed cost: the average reaches back about 20 s (our choice)."""
_RETRY_S, _MOST_RETRY_S = 5.0, 60.0
"""Shortest and longest pause before a source that could not run is tried again, s (our choice)."""
QUIET_S = 60.0
"""A source that moves is released while it has no event; after this time it is released all the same, s."""


@dataclass(slots=True)
class Assignment:
    """One source."""

    source: str
    node: str | None
    """The only machine that may run it."""
    worker: str | None = None
    order: SourceOrder | None = None
    target: str | None = None
    """Worker that it moves to, where it already runs muted."""
    target_order: SourceOrder | None = None
    leaving_s: float | None = None
    """Since when its worker is asked to release it."""
    first_s: float | None = None
    """When it was placed first: a file goes on where it would be by now."""
    cost: Cost = FIRST_COST
    measured: bool = False
    restarts: int = 0
    moves: int = 0
    failures: int = 0
    retry_s: float = 0.0
    error: str | None = None
    ended: bool = False
    told_waiting: bool = False
    """True once the log has said that no worker may run it."""
    report: SourceReport | None = None
    events: int = 0
    """Events, dropped and thinned segments on the workers before the present one."""
    dropped: int = 0
    thinned: int = 0

    def order_at(self, now_s: float, epoch: int, *, muted: bool = False, left_open: tuple[bytes, ...] = ()) -> SourceOrder:
        """Return the order for a worker that takes it over now."""
        if self.first_s is None:
            self.first_s = now_s
        return SourceOrder(epoch=epoch, begin_s=int(now_s - self.first_s), muted=muted, left_open=left_open)

    def put(self, worker: str, order: SourceOrder) -> None:
        """Assign it to a worker."""
        self.worker, self.order = worker, order

    def drop(self) -> None:
        """Take it from its worker, which no longer runs it."""
        self.keep_counts()
        self.worker = self.order = self.leaving_s = None

    def keep_counts(self) -> None:
        """Add the counts of the present worker to those of the workers before."""
        if self.report is not None:
            self.events += self.report.events
            self.dropped += self.report.dropped
            self.thinned += self.report.thinned
        self.report = None

    def cancel(self) -> None:
        """Cancel a move."""
        self.target = self.target_order = self.leaving_s = None

    def arrive(self, epoch: int) -> None:
        """End a move: the target publishes from now on."""
        if self.target is None or self.target_order is None:
            return
        self.keep_counts()
        begin_s = self.target_order.begin_s
        self.put(self.target, SourceOrder(epoch=epoch, begin_s=begin_s))
        self.moves += 1
        self.cancel()

    def fail(self, now_s: float, error: str | None) -> None:
        """Note that it could not run, and pause before the next attempt."""
        self.failures += 1
        self.error = error
        self.retry_s = now_s + doubled_s(_RETRY_S, _MOST_RETRY_S, self.failures - 1)
        self.cancel()
        self.drop()

    def measure(self, cores: float, work_s: float) -> None:
        """Take what it cost lately."""
        old, share = (self.cost, _SMOOTH) if self.measured else (FIRST_COST, 1.0)
        self.cost = Cost(old.cores + share * (cores - old.cores), old.work_s + share * (work_s - old.work_s))
        self.measured = True
