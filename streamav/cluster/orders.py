"""Defines the messages between controller and worker, about one a second: an order says what should run, a report says what runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PERIOD_S", "Order", "Phase", "Report", "SourceOrder", "SourceReport"]

PERIOD_S = 1.0
"""Time between two orders to a worker, s."""
Phase = Literal["starting", "muted", "running", "releasing", "ended", "failed"]
"""starting: being opened; muted: it fills its window while another worker publishes; releasing: its last messages are on their way;
ended: the file has ended; failed: it could not be opened, or was lost for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOrder:
    """One source that a worker should run."""

    epoch: int
    """Number of this assignment: a later one of the same source is greater."""
    begin_s: int = 0
    """Where a file goes on, s."""
    muted: bool = False
    left_open: tuple[bytes, ...] = ()
    """Newest messages of the events that its last worker left open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that a worker should do. It is complete: what it does not name must not run."""

    epoch: int
    """Epoch of the worker's lease. A new one means: forget everything and start again."""
    client_id: str
    """Client id at the broker; it holds the epoch."""
    anchor_ns: int | None
    """The worker's own time in the newest report of this epoch; the lease lasts from then. None in the first order."""
    lease_s: float
    sources: Mapping[str, SourceOrder]
    quiet: frozenset[str] = frozenset()
    """Sources to release only while they have no open event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """The state of one source."""

    phase: Phase
    epoch: int
    state: str = ""
    """As in `<source>/status`."""
    segments: int = 0
    events: int = 0
    dropped: int = 0
    thinned: int = 0
    busy_s: float = 0.0
    """Processing time since the start."""
    latency_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of a worker."""

    now_ns: int
    """Its own time when it wrote this."""
    epoch: int
    over: bool
    """True when its lease has ended and its sources are closed."""
    processor_s: float
    """Processor seconds of the process since its start."""
    sources: Mapping[str, SourceReport] = field(default_factory=dict)
    engine: str = ""
    error: str | None = None
    """Why the worker cannot run at all."""
