"""Holds the workers of a cluster as the controller sees them: which exist, when each last reported, and whose lease is over.

It sends nothing and decides nothing about sources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from streamav.cluster.lease import LEASE_S, MARGIN_S

if TYPE_CHECKING:
    import asyncio

    from streamav.cluster.fleet import Node, WorkerHandle
    from streamav.cluster.orders import Report
    from streamav.cluster.placement import Slot

__all__ = ["Member", "MemberState", "worker_name"]

MemberState = Literal["starting", "ready", "fencing", "lost", "failed"]
"""starting: it loads the model; ready: it may get sources; fencing: its lease is over, its connection is being closed at the broker;
lost: it does not answer; failed: it cannot run."""


@dataclass(slots=True, eq=False)
class Member:
    """One worker."""

    slot: Slot
    node: Node
    handle: WorkerHandle
    epoch: int
    client_id: str
    heard_s: float
    """When its last report arrived, by the controller's clock."""
    state: MemberState = "starting"
    anchor_ns: int | None = None
    """Its own time in the newest report of this epoch."""
    report: Report | None = None
    """Newest report of this epoch."""
    calling: asyncio.Task[Report] | None = None
    fence: asyncio.Task[None] | None = None
    died: str | None = None
    """Why it has ended."""
    processor: tuple[float, float] = (0.0, 0.0)
    """Time and processor seconds of the report before, for the load."""
    cores_used: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the worker."""
        return self.slot.name

    @property
    def able(self) -> bool:
        """True while it may get sources."""
        return self.state == "ready" and self.died is None

    def lease_over(self, now_s: float) -> bool:
        """Return whether it certainly publishes nothing any more, unless it gets a new epoch."""
        return now_s > self.heard_s + LEASE_S + MARGIN_S

    def begin(self, epoch: int, client_id: str) -> None:
        """Begin a new life under another epoch."""
        self.epoch, self.client_id = epoch, client_id
        self.state, self.anchor_ns, self.report, self.busy = "starting", None, None, {}

    def hear(self, report: Report, now_s: float) -> None:
        """Take a report."""
        self.heard_s = now_s
        if report.epoch != self.epoch:
            return
        before_s, processor_s = self.processor
        if before_s and now_s > before_s:
            share = (report.processor_s - processor_s) / (now_s - before_s)
            self.cores_used = share if not self.cores_used else 0.7 * self.cores_used + 0.3 * share
        self.processor = (now_s, report.processor_s)
        self.anchor_ns, self.report = report.now_ns, report
        if report.error is not None:
            self.state = "failed"
        elif self.state == "starting" and report.engine:
            self.state = "ready"


def worker_name(node: Node, gpu: int | None, taken: frozenset[str]) -> str:
    """Return a name for a worker: one topic level, made from its node's name, different from those that are taken."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "-", node.name)[:40] or "node"
    name += "" if gpu is None else f"-gpu{gpu}"
    return name if name not in taken else f"{name}-{node.id[:6]}"
