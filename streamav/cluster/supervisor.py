"""Supervises the workers of a cluster: one on each node or GPU, until each has certainly stopped publishing.

It starts workers, takes their reports and notices which are gone or silent. It decides nothing about sources.

    starting --model loaded--> ready --silent for a lease--> fencing --> lost --it answers again, new epoch--> starting
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamav.cluster.fleet import WorkerDiedError
from streamav.cluster.members import Member, worker_name
from streamav.cluster.pauses import Pauses
from streamav.cluster.placement import Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamav.cluster.fleet import Fleet, Node
    from streamav.cluster.orders import Report

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
MOST_TRIES = 3
"""Nothing can run when every worker has ended this often before it could load the model: a machine without streamav, or another version."""
_LEAST_CORES = 0.1
"""Least cores of a worker in the computation of loads, which divides by them."""


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """The workers of one run."""

    fleet: Fleet
    base: str
    """First topic level of the run; it is part of the client ids."""
    next_epoch: Callable[[], int]
    fence: Callable[[str], Awaitable[None]]
    """Makes the broker close the connection of a client id."""
    reported: Callable[[Member, Report], None]
    """Called with each report of a worker's present epoch."""
    freed: Callable[[str, float], None]
    """Called with the name of a worker that certainly publishes nothing any more, and the time, s."""
    members: dict[str, Member] = field(default_factory=dict)
    pauses: Pauses = field(default_factory=Pauses)

    @property
    def hopeless(self) -> bool:
        """True when every worker has failed, and none is being tried."""
        members, count = self.members.values(), self.pauses.count
        if members:
            return all(member.state not in {"starting", "ready"} and count(member.name) > 0 for member in members)
        return bool(self.pauses.reasons) and all(count(name) >= MOST_TRIES for name in self.pauses.reasons)

    def meet(self, nodes: Sequence[Node], now_s: float) -> None:
        """Start a worker on each node that has none, or one for each of its GPUs."""
        for node in nodes:
            if any(member.node.id == node.id for member in self.members.values()):
                continue
            for number in range(node.gpus) or (None,):
                name = worker_name(node, number, frozenset(self.members))
                if self.pauses.over(name, now_s):
                    self._start(node, name, now_s, gpu=number is not None)

    def _start(self, node: Node, name: str, now_s: float, *, gpu: bool) -> None:
        slot = Slot(name, node.names | {name}, max(_LEAST_CORES, node.cores / max(1, node.gpus)))
        handle = self.fleet.start(node, name, gpu=gpu)
        epoch = self.next_epoch()
        self.members[name] = Member(slot, node, handle, epoch, self._client_id(name, epoch), now_s)
        _log.info("node joined node=%s worker=%s cores=%.1f epoch=%d", node.name, name, slot.cores, epoch)

    def _client_id(self, worker: str, epoch: int) -> str:
        digest = hashlib.sha256(self.base.encode()).hexdigest()[:4]
        return f"streamav-{digest}-{worker[:34]}-e{epoch}"

    def watch(self, now_s: float) -> None:
        """Take the reports that have come, and follow the workers that are gone or silent."""
        for member in list(self.members.values()):
            self.collect(member, now_s)
            self._fence_if_gone(member, now_s)
            self._release_if_fenced(member, now_s)
            if member.state == "lost" and member.died is not None:
                member.handle.kill()
                del self.members[member.name]

    def collect(self, member: Member, now_s: float) -> None:
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
            self._restart(member, now_s)
        elif member.state != "fencing":
            self._take(member, report, now_s)

    def _restart(self, member: Member, now_s: float) -> None:
        """Start a new epoch of a lost worker that answers again, once its pause is over."""
        member.heard_s = now_s
        if not self.pauses.over(member.name, now_s):
            return
        epoch = self.next_epoch()
        member.begin(epoch, self._client_id(member.name, epoch))
        _log.warning("a lost worker answers, it starts again worker=%s epoch=%d", member.name, epoch)

    def _take(self, member: Member, report: Report, now_s: float) -> None:
        was = member.state
        member.hear(report, now_s)
        if member.state == "ready" and was == "starting":
            _log.info("worker ready worker=%s engine=%s", member.name, report.engine)
            self.pauses.forget(member.name)
        if member.state == "failed" and was != "failed":
            self._fail(member, report.error or "it failed", now_s)
        if report.epoch == member.epoch:
            self.reported(member, report)

    def _fence_if_gone(self, member: Member, now_s: float) -> None:
        """Let the broker close the connection of a worker whose lease is over, or that has ended."""
        over = member.report is not None and member.report.over and member.report.epoch == member.epoch
        gone = member.lease_over(now_s) if member.anchor_ns is not None else member.died is not None
        if member.state not in {"starting", "ready", "failed"} or not (over or gone):
            return
        if member.state == "starting" and member.died is not None:
            self._fail(member, member.died, now_s)
        elif member.state != "failed":
            _log.warning("worker is %s worker=%s epoch=%d", member.died or "silent, its lease is over", member.name, member.epoch)
        member.state = "fencing"
        member.fence = asyncio.ensure_future(self.fence(member.client_id))

    def _release_if_fenced(self, member: Member, now_s: float) -> None:
        """Let others have the sources of a worker whose connection the broker has closed; its lease is over in any case."""
        if member.state != "fencing" or member.fence is None or not member.fence.done():
            return
        if not member.fence.cancelled() and (error := member.fence.exception()) is not None:
            _log.warning("the broker could not be asked to close a connection, whose lease is over client=%s: %s", member.client_id, error)
        member.fence, member.state, member.report = None, "lost", None
        self.freed(member.name, now_s)

    def _fail(self, member: Member, reason: str, now_s: float) -> None:
        pause_s = self.pauses.fail(member.name, reason, now_s)
        _log.error("worker cannot run, it is tried again in %.0f s worker=%s reason=%s", pause_s, member.name, reason)

    def kill(self) -> None:
        """End all workers at once."""
        for member in self.members.values():
            for task in (member.calling, member.fence):
                if task is not None:
                    task.cancel()
            member.handle.kill()
