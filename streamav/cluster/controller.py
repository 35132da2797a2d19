"""Keeps every source of a cluster running on one worker, and never on two.

Once a second it asks for the nodes, lets the supervisor follow the workers and the scheduler decide about the sources, and sends each
worker a complete order. A worker that is gone or silent keeps its sources until its lease is certainly over and the broker has closed
its connection; then others get them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamav.cluster.fleet import WorkerDiedError
from streamav.cluster.lease import LEASE_S
from streamav.cluster.orders import PERIOD_S, Order
from streamav.cluster.scheduler import Scheduler
from streamav.cluster.status import status_of
from streamav.cluster.supervisor import Supervisor
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamav.cluster.assignments import Assignment
    from streamav.cluster.fleet import Fleet
    from streamav.cluster.members import Member
    from streamav.cluster.outside import Outside

__all__ = ["Controller"]

STOP_S = 20.0
"""How long workers may take to end in order, s."""


@dataclass(slots=True)
class Controller:
    """Controls the workers of one run."""

    fleet: Fleet
    outside: Outside
    sources: Mapping[str, str | None]
    """Source -> the only node that may run it, or None."""
    base: str = "streamav"
    clock: Callable[[], float] = time.monotonic
    first_epoch: int = field(default_factory=lambda: int(time.time()))
    """Greater than every epoch of an earlier run of the same sources: UTC in seconds."""
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _scheduler: Scheduler = field(init=False)
    _supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        """Begin with every source waiting, and without workers."""
        epochs = itertools.count(self.first_epoch)
        self._scheduler = Scheduler(sources=self.sources, outside=self.outside, next_epoch=epochs.__next__, start_s=self.clock())
        self._supervisor = Supervisor(
            fleet=self.fleet,
            base=self.base,
            next_epoch=epochs.__next__,
            fence=self.outside.fence,
            reported=self._scheduler.take,
            freed=self._scheduler.free,
        )

    @property
    def members(self) -> dict[str, Member]:
        """The workers, by name."""
        return self._supervisor.members

    @property
    def assignments(self) -> dict[str, Assignment]:
        """Where each source runs, by its id."""
        return self._scheduler.assignments

    def stop(self) -> None:
        """End the run soon and in order."""
        self._stopped.set()

    async def run(self) -> None:
        """Run until stop(), or until all files have ended.

        Raises:
            EngineError: when no worker can run.
        """
        try:
            while not self._stopped.is_set() and not self._scheduler.ended:
                await self.tick()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), PERIOD_S)
        finally:
            await self._end()

    async def tick(self) -> None:
        """Do everything once.

        Raises:
            EngineError: when no worker can run.
        """
        nodes = await self.fleet.nodes()
        now_s = self.clock()
        self._supervisor.meet(nodes, now_s)
        self._supervisor.watch(now_s)
        self._scheduler.schedule(self.members, now_s)
        for member in self.members.values():
            self._send(member)
        self.fleet.tell(json.dumps(self.status()))
        if self._supervisor.hopeless:
            msg = f"no worker of the cluster can run: {'; '.join(sorted(set(self._supervisor.pauses.reasons.values())))}"
            raise EngineError(msg)

    def _send(self, member: Member) -> None:
        """Send a worker its order, unless it has not answered the last one."""
        if member.calling is None and member.died is None and member.state in {"starting", "ready", "lost"}:
            member.calling = asyncio.ensure_future(member.handle.beat(self._order_of(member)))

    def _order_of(self, member: Member) -> Order:
        sources, quiet = self._scheduler.wanted(member.name, self.clock()) if member.state == "ready" else ({}, frozenset())
        return Order(
            epoch=member.epoch,
            client_id=member.client_id,
            anchor_ns=None if member.state == "lost" else member.anchor_ns,
            lease_s=LEASE_S,
            sources=sources,
            quiet=quiet,
        )

    async def _end(self) -> None:
        """End all workers in order, within a bounded time; kill those that do not end, and those that have not begun to publish.

        Leases are renewed meanwhile: the last messages may take longer than a lease on a busy machine.
        """
        able = [member for member in self.members.values() if member.died is None and member.state in {"ready", "failed"}]
        stops = {asyncio.ensure_future(member.handle.stop()): member for member in able}
        open_stops, periods = set(stops), STOP_S / PERIOD_S
        while open_stops and periods > 0:
            _, open_stops = await asyncio.wait(open_stops, timeout=PERIOD_S)
            periods -= 1
            for member in [stops[task] for task in open_stops]:
                self._supervisor.collect(member, self.clock())
                self._send(member)
        for task in stops.keys() - open_stops:
            with suppress(WorkerDiedError):
                self._scheduler.take_last(stops[task], task.result())
        self._supervisor.kill()
        for task in open_stops:
            task.cancel()
        self.fleet.tell(json.dumps(self.status()))

    def status(self) -> dict[str, object]:
        """Return nodes, sources, load, dropped segments and restarts, as JSON values."""
        told = status_of(self.members.values(), self.assignments.values(), self._supervisor.pauses.reasons, self.clock())
        return {"base": self.base, **told}
