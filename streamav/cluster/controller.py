"""Keeps every source of a cluster running on one worker, and never on two.

Once a second it looks at the nodes, takes the reports, gives sources to workers and sends each worker a complete order. Ray starts
workers and says which are gone. A worker that is gone or silent keeps its sources until its lease is certainly over and the broker has
closed its connection; then others get them.

    starting --model loaded--> ready --silent for a lease--> fencing --> lost --it answers again, new epoch--> starting
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamav.cluster.assignments import QUIET_S, Assignment
from streamav.cluster.fleet import WorkerDiedError
from streamav.cluster.lease import LEASE_S
from streamav.cluster.members import Member, worker_name
from streamav.cluster.orders import Order, Report
from streamav.cluster.pauses import Pauses
from streamav.cluster.placement import Slot, next_move, place
from streamav.cluster.status import status_of
from streamav.errors import EngineError
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from streamav.cluster.fleet import Fleet, Node
    from streamav.cluster.placement import Cost

__all__ = ["Controller", "Outside"]

_log = logging.getLogger(__name__)
PERIOD_S = 1.0
MOST_NAMED = 8
"""Most sources that one line of the log names."""
START_S = 60.0
"""The first sources are placed when all workers are ready, or some of them after this time, s."""
STOP_S = 20.0
MOST_TRIES = 3
"""The run ends when every worker has ended this often before it could load the model: a machine without streamav, or another version."""
MOST_MOVES = 4
"""Most sources that move at the same time: each runs twice meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the controller does at the broker."""

    fence: Callable[[str], Awaitable[None]]
    """Makes the broker close the connection of a client id."""
    left_open: Callable[[str], tuple[bytes, ...]]
    """Returns the newest messages of a source's events that have no end."""
    lost: Callable[[str, str], None]
    """Says that no worker runs a source, and why."""
    placed: Callable[[str], None]
    """Says nothing about a source any more, because a worker does."""


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
    members: dict[str, Member] = field(default_factory=dict)
    assignments: dict[str, Assignment] = field(default_factory=dict)
    pauses: Pauses = field(default_factory=Pauses)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _began: bool = False
    _start_s: float = 0.0
    _epochs: itertools.count[int] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with every source waiting."""
        self._epochs = itertools.count(self.first_epoch)
        self.assignments = {source: Assignment(source, node) for source, node in self.sources.items()}
        self._start_s = self.clock()

    def stop(self) -> None:
        """End the run soon and in order."""
        self._stopped.set()

    async def run(self) -> None:
        """Run until stop(), or until all files have ended.

        Raises:
            EngineError: when no worker can run.
        """
        try:
            while not self._stopped.is_set() and not all(one.ended for one in self.assignments.values()):
                await self.tick()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), PERIOD_S)
        finally:
            await self._end()

    async def tick(self) -> None:
        """Do everything once."""
        for node in await self.fleet.nodes():
            self._meet(node)
        now_s = self.clock()
        for member in list(self.members.values()):
            self._collect(member, now_s)
            self._watch(member, now_s)
        self._settle(now_s)
        self._place(now_s)
        self._move(now_s)
        for member in self.members.values():
            self._send(member)
        self.fleet.tell(json.dumps(self.status()))
        if self._hopeless():
            msg = f"no worker of the cluster can run: {'; '.join(sorted(set(self.pauses.reasons.values())))}"
            raise EngineError(msg)

    def _hopeless(self) -> bool:
        """Return whether every worker has failed, and none is being tried."""
        members, count = self.members.values(), self.pauses.count
        if members:
            return all(member.state not in {"starting", "ready"} and count(member.name) > 0 for member in members)
        return bool(self.pauses.reasons) and all(count(name) >= MOST_TRIES for name in self.pauses.reasons)

    # Workers

    def _meet(self, node: Node) -> None:
        """Start a worker on a node that has none, or one for each of its GPUs."""
        if any(member.node.id == node.id for member in self.members.values()):
            return
        for number in range(node.gpus) or (None,):
            name = worker_name(node, number, frozenset(self.members))
            if not self.pauses.over(name, self.clock()):
                continue
            slot = Slot(name, node.names | {name}, max(0.1, node.cores / max(1, node.gpus)))
            handle = self.fleet.start(node, name, gpu=number is not None)
            epoch = next(self._epochs)
            self.members[name] = Member(slot, node, handle, epoch, self._client_id(name, epoch), self.clock())
            _log.info("node joined node=%s worker=%s cores=%.1f epoch=%d", node.name, name, slot.cores, epoch)

    def _client_id(self, worker: str, epoch: int) -> str:
        digest = hashlib.sha256(self.base.encode()).hexdigest()[:4]
        return f"streamav-{digest}-{worker[:34]}-e{epoch}"

    def _collect(self, member: Member, now_s: float) -> None:
        """Take the answer of a worker's last call, if it has come."""
        task = member.calling
        if task is None or not task.done():
            return
        member.calling = None
        try:
            report = task.result()
        except WorkerDiedError as exc:
            member.died = member.died or str(exc)
            return
        if member.state == "lost":
            member.heard_s = now_s
            if not self.pauses.over(member.name, now_s):
                return
            epoch = next(self._epochs)
            member.begin(epoch, self._client_id(member.name, epoch))
            _log.warning("worker answers again, it begins anew worker=%s epoch=%d", member.name, epoch)
            return
        if member.state != "fencing":
            self._heard(member, report, now_s)

    def _heard(self, member: Member, report: Report, now_s: float) -> None:
        was = member.state
        member.hear(report, now_s)
        if member.state == "ready" and was == "starting":
            _log.info("worker ready worker=%s engine=%s", member.name, report.engine)
            self.pauses.forget(member.name)
        if member.state == "failed" and was != "failed":
            self._fail(member, report.error or "it failed", now_s)
        if report.epoch != member.epoch:
            return
        running = [one for one in report.sources.values() if one.phase in {"running", "muted"}]
        for source, one in report.sources.items():
            assignment = self.assignments.get(source)
            if assignment is not None and assignment.worker == member.name:
                assignment.report = one
                before_s = member.busy.get(source)
                if before_s is not None and one.phase == "running" and one.segments >= WINDOW_SEGMENTS:
                    assignment.measure(member.cores_used / len(running), max(0.0, one.busy_s - before_s) / PERIOD_S)
                member.busy[source] = one.busy_s

    def _watch(self, member: Member, now_s: float) -> None:
        """Follow a worker that is gone or silent until its sources can go to others."""
        over = member.report is not None and member.report.over and member.report.epoch == member.epoch
        gone = member.lease_over(now_s) if member.anchor_ns is not None else member.died is not None
        if member.state in {"starting", "ready", "failed"} and (over or gone):
            if member.state == "starting" and member.died is not None:
                self._fail(member, member.died, now_s)
            elif member.state != "failed":
                _log.warning("worker is %s worker=%s epoch=%d", member.died or "silent, its lease is over", member.name, member.epoch)
            member.state = "fencing"
            member.fence = asyncio.ensure_future(self.outside.fence(member.client_id))
        if member.state == "fencing" and member.fence is not None and member.fence.done():
            if not member.fence.cancelled() and (error := member.fence.exception()) is not None:
                _log.warning(
                    "the broker could not be asked to close a connection, whose lease is over client=%s: %s", member.client_id, error
                )
            member.fence, member.state, member.report = None, "lost", None
            self._free(member.name, now_s)
        if member.state == "lost" and member.died is not None:
            member.handle.kill()
            del self.members[member.name]

    def _fail(self, member: Member, reason: str, now_s: float) -> None:
        pause_s = self.pauses.fail(member.name, reason, now_s)
        _log.error("worker cannot run, it is tried again in %.0f s worker=%s reason=%s", pause_s, member.name, reason)

    def _free(self, worker: str, now_s: float) -> None:
        """Take the sources from a worker that publishes nothing any more."""
        for one in self.assignments.values():
            if one.target == worker:
                again = one.leaving_s is not None
                one.cancel()
                if again and one.worker is not None:  # its worker may already have released it
                    one.put(one.worker, one.order_at(now_s, next(self._epochs)))
            if one.worker == worker:
                one.restarts += 1
                if one.target is not None and one.target_order is not None:  # it already runs there
                    one.arrive(next(self._epochs))
                    self._hand_over(one)
                else:
                    one.drop()
                    self.outside.lost(one.source, "its worker is lost")

    def _hand_over(self, one: Assignment) -> None:
        """Give the new worker of a source the events that the old one left open."""
        left_open = self.outside.left_open(one.source)
        if one.order is not None and left_open:
            order = one.order
            one.order = type(order)(epoch=order.epoch, begin_s=order.begin_s, left_open=left_open)
        self.outside.placed(one.source)

    # Sources

    def _ready(self) -> dict[str, Member]:
        return {name: member for name, member in self.members.items() if member.state == "ready" and member.died is None}

    def _settle(self, now_s: float) -> None:
        """Follow what the reports say: files that have ended, sources that failed, moves that go on."""
        for one in self.assignments.values():
            report = one.report
            if report is not None and report.phase == "ended":
                one.ended = True
                one.cancel()
                one.drop()
            elif report is not None and report.phase == "failed":
                _log.error("source failed source=%s worker=%s reason=%s", one.source, one.worker, report.error)
                one.fail(now_s, report.error)
                self.outside.lost(one.source, report.error or "failed")
            elif report is not None and report.segments >= WINDOW_SEGMENTS:
                one.failures, one.error = 0, None
            if one.target is not None:
                self._follow_move(one, now_s)

    def _follow_move(self, one: Assignment, now_s: float) -> None:
        target, origin = self.members.get(one.target or ""), self.members.get(one.worker or "")
        if target is None or target.report is None or origin is None or origin.report is None:
            return
        there = target.report.sources.get(one.source)
        if there is not None and there.phase == "failed":
            one.cancel()
        elif one.leaving_s is None and there is not None and there.phase == "muted" and there.segments >= WINDOW_SEGMENTS:
            one.leaving_s = now_s
        elif one.leaving_s is not None and one.source not in origin.report.sources and origin.state == "ready":
            _log.info("source moved source=%s from=%s to=%s", one.source, one.worker, one.target)
            one.arrive(next(self._epochs))

    def _place(self, now_s: float) -> None:
        """Give the sources that wait to workers."""
        ready = self._ready()
        waits = any(member.state == "starting" for member in self.members.values()) and now_s - self._start_s < START_S
        if not ready or (not self._began and waits):
            return
        self._began = True
        held = {source for member in self.members.values() if member.report is not None for source in member.report.sources}
        waiting = [
            one.source
            for one in self.assignments.values()
            if one.worker is None and not one.ended and now_s >= one.retry_s and one.source not in held
        ]
        slots = [member.slot for member in ready.values()]
        found = place(waiting, slots, self._placed(), self.costs(), self._nodes())
        for source, name in found.items():
            one = self.assignments[source]
            left_open = self.outside.left_open(source)
            one.put(name, one.order_at(now_s, next(self._epochs), left_open=left_open))
            self.outside.placed(source)
            one.told_waiting = False
        for name in sorted(set(found.values())):
            mine = sorted(source for source, worker in found.items() if worker == name)
            _log.info(
                "sources placed worker=%s count=%d sources=%s",
                name,
                len(mine),
                ", ".join(mine[:MOST_NAMED] + ["..."] * (len(mine) > MOST_NAMED)),
            )
        for source in waiting:
            one = self.assignments[source]
            if one.worker is None and not one.told_waiting:
                one.told_waiting = True
                there = ", ".join(sorted(member.node.name for member in self.members.values()))
                _log.warning("source waits for its node, which is not in the cluster source=%s node=%s there=%s", source, one.node, there)
                self.outside.lost(source, f"its node {one.node} is not in the cluster")

    def _move(self, now_s: float) -> None:
        """Start a move where it evens the load out."""
        moving = {one.source for one in self.assignments.values() if one.target is not None}
        if len(moving) >= MOST_MOVES or any(one.worker is None and one.node is None and not one.ended for one in self.assignments.values()):
            return
        young = {
            one.source
            for one in self.assignments.values()
            if one.report is None or one.report.segments < WINDOW_SEGMENTS or one.report.phase != "running"
        }
        aims = {one.source: one.target or one.worker or "" for one in self.assignments.values() if one.worker is not None}
        found = next_move([member.slot for member in self._ready().values()], aims, self.costs(), self._nodes(), frozenset(moving | young))
        if found is not None:
            one = self.assignments[found.source]
            one.target, one.target_order = found.target, one.order_at(now_s, next(self._epochs), muted=True)
            _log.info("source moves source=%s from=%s to=%s", found.source, found.origin, found.target)

    def costs(self) -> dict[str, Cost]:
        """Return the cost of each source; one that was not measured yet costs as much as the others on average."""
        return {one.source: one.cost for one in self.assignments.values()}

    def _placed(self) -> dict[str, str]:
        return {one.source: one.worker for one in self.assignments.values() if one.worker is not None}

    def _nodes(self) -> dict[str, str]:
        return {source: node for source, node in self.sources.items() if node is not None}

    # Orders

    def _send(self, member: Member) -> None:
        """Send a worker its order, unless it has not answered the last one."""
        if member.calling is None and member.died is None and member.state in {"starting", "ready", "lost"}:
            member.calling = asyncio.ensure_future(member.handle.beat(self.order_of(member)))

    def order_of(self, member: Member) -> Order:
        """Return the order of a worker."""
        sources, quiet = {}, set()
        now_s = self.clock()
        for one in self.assignments.values() if member.state == "ready" else ():
            if one.target == member.name and one.target_order is not None:
                sources[one.source] = one.target_order
            elif one.worker == member.name and one.order is not None:
                if one.leaving_s is None:
                    sources[one.source] = one.order
                elif now_s - one.leaving_s < QUIET_S:
                    quiet.add(one.source)
        return Order(
            epoch=member.epoch,
            client_id=member.client_id,
            anchor_ns=None if member.state == "lost" else member.anchor_ns,
            lease_s=LEASE_S,
            sources=sources,
            quiet=frozenset(quiet),
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
                self._collect(member, self.clock())
                self._send(member)
        for task in stops.keys() - open_stops:
            with suppress(WorkerDiedError):
                self._last(stops[task], task.result())
        for member in self.members.values():
            for open_task in (member.calling, member.fence):
                if open_task is not None:
                    open_task.cancel()
            member.handle.kill()
        for task in open_stops:
            task.cancel()
        self.fleet.tell(json.dumps(self.status()))

    def _last(self, member: Member, report: Report) -> None:
        for source, one in report.sources.items():
            if source in self.assignments and self.assignments[source].worker == member.name:
                self.assignments[source].report = one

    # What a person sees

    def status(self) -> dict[str, object]:
        """Return nodes, sources, load, dropped segments and restarts, as JSON values."""
        return {"base": self.base, **status_of(self.members.values(), self.assignments.values(), self.pauses.reasons, self.clock())}
