"""Schedules the sources of a cluster: assigns waiting sources to workers, moves them to even out the load, and takes them back.

It follows the reports of the workers and writes what each of them should run. It calls no worker.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamav.cluster.assignments import QUIET_S, Assignment
from streamav.cluster.orders import PERIOD_S
from streamav.cluster.placement import next_move, place
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streamav.cluster.members import Member
    from streamav.cluster.orders import Report, SourceOrder
    from streamav.cluster.outside import Outside
    from streamav.cluster.placement import Cost

__all__ = ["Scheduler"]

_log = logging.getLogger(__name__)
MOST_NAMED = 8
"""Most sources that one line of the log names."""
START_S = 60.0
"""The first sources are placed when all workers are ready, or some of them after this time, s."""
MOST_MOVES = 4
"""Most sources that move at the same time: each runs twice meanwhile."""


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """The sources of one run."""

    sources: Mapping[str, str | None]
    """Source -> the only node that may run it, or None."""
    outside: Outside
    next_epoch: Callable[[], int]
    start_s: float
    """When the run began, by the controller's clock."""
    assignments: dict[str, Assignment] = field(init=False)
    _began: bool = False
    """True once the first sources were placed."""

    def __post_init__(self) -> None:
        """Begin with every source waiting."""
        self.assignments = {source: Assignment(source, node) for source, node in self.sources.items()}

    @property
    def ended(self) -> bool:
        """True when every source was a file and has ended."""
        return all(one.ended for one in self.assignments.values())

    def schedule(self, members: Mapping[str, Member], now_s: float) -> None:
        """Decide for the next second what each worker should run."""
        self._settle(members, now_s)
        self._place(members, now_s)
        self._move(members, now_s)

    def take(self, member: Member, report: Report) -> None:
        """Take what a worker reports of its sources, and measure their cost."""
        running = [one for one in report.sources.values() if one.phase in {"running", "muted"}]
        for source, one in report.sources.items():
            assignment = self.assignments.get(source)
            if assignment is None or assignment.worker != member.name:
                continue
            assignment.report = one
            before_s = member.busy.get(source)
            if before_s is not None and one.phase == "running" and one.segments >= WINDOW_SEGMENTS:
                assignment.measure(member.cores_used / len(running), max(0.0, one.busy_s - before_s) / PERIOD_S)
            member.busy[source] = one.busy_s

    def take_last(self, member: Member, report: Report) -> None:
        """Take the last report of a worker that has ended in order."""
        for source, one in report.sources.items():
            if source in self.assignments and self.assignments[source].worker == member.name:
                self.assignments[source].report = one

    def free(self, worker: str, now_s: float) -> None:
        """Take the sources from a worker that publishes nothing any more."""
        for one in self.assignments.values():
            if one.target == worker:
                again = one.leaving_s is not None
                one.cancel()
                if again and one.worker is not None:  # its worker may already have released it
                    one.put(one.worker, one.order_at(now_s, self.next_epoch()))
            if one.worker == worker:
                one.restarts += 1
                if one.target is not None and one.target_order is not None:  # it already runs there
                    one.arrive(self.next_epoch())
                    self._hand_over(one)
                else:
                    one.drop()
                    self.outside.lost(one.source, "its worker is lost")

    def _hand_over(self, one: Assignment) -> None:
        """Pass the events that the old worker of a source left open to the new one."""
        left_open = self.outside.left_open(one.source)
        if one.order is not None and left_open:
            order = one.order
            one.order = type(order)(epoch=order.epoch, begin_s=order.begin_s, left_open=left_open)
        self.outside.placed(one.source)

    # What the reports say

    def _settle(self, members: Mapping[str, Member], now_s: float) -> None:
        """Follow the reports: files that have ended, sources that failed, moves that go on."""
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
                self._follow_move(one, members, now_s)

    def _follow_move(self, one: Assignment, members: Mapping[str, Member], now_s: float) -> None:
        target, origin = members.get(one.target or ""), members.get(one.worker or "")
        if target is None or target.report is None or origin is None or origin.report is None:
            return
        there = target.report.sources.get(one.source)
        if there is not None and there.phase == "failed":
            one.cancel()
        elif one.leaving_s is None and there is not None and there.phase == "muted" and there.segments >= WINDOW_SEGMENTS:
            one.leaving_s = now_s
        elif one.leaving_s is not None and one.source not in origin.report.sources and origin.state == "ready":
            _log.info("source moved source=%s from=%s to=%s", one.source, one.worker, one.target)
            one.arrive(self.next_epoch())

    # Where sources run

    def _place(self, members: Mapping[str, Member], now_s: float) -> None:
        """Assign the sources that wait to workers."""
        ready = [member.slot for member in members.values() if member.able]
        more_come = any(member.state == "starting" for member in members.values()) and now_s - self.start_s < START_S
        if not ready or (not self._began and more_come):
            return
        self._began = True
        waiting = self._waiting(members, now_s)
        found = place(waiting, ready, self._placed(), self._costs(), self._bound())
        for source, worker in found.items():
            self._put(self.assignments[source], worker, now_s)
        _tell_placed(found)
        for source in waiting:
            self._tell_waiting(self.assignments[source], members)

    def _waiting(self, members: Mapping[str, Member], now_s: float) -> list[str]:
        """Return the sources that need a worker now; one that a worker still reports is held until it is released there."""
        held = {source for member in members.values() if member.report is not None for source in member.report.sources}
        return [
            one.source
            for one in self.assignments.values()
            if one.worker is None and not one.ended and now_s >= one.retry_s and one.source not in held
        ]

    def _put(self, one: Assignment, worker: str, now_s: float) -> None:
        left_open = self.outside.left_open(one.source)
        one.put(worker, one.order_at(now_s, self.next_epoch(), left_open=left_open))
        self.outside.placed(one.source)
        one.told_waiting = False

    def _tell_waiting(self, one: Assignment, members: Mapping[str, Member]) -> None:
        """Say once that no worker may run a source."""
        if one.worker is not None or one.told_waiting:
            return
        one.told_waiting = True
        there = ", ".join(sorted(member.node.name for member in members.values()))
        _log.warning("source waits for its node, which is not in the cluster source=%s node=%s there=%s", one.source, one.node, there)
        self.outside.lost(one.source, f"its node {one.node} is not in the cluster")

    def _move(self, members: Mapping[str, Member], now_s: float) -> None:
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
        ready = [member.slot for member in members.values() if member.able]
        found = next_move(ready, aims, self._costs(), self._bound(), frozenset(moving | young))
        if found is not None:
            one = self.assignments[found.source]
            one.target, one.target_order = found.target, one.order_at(now_s, self.next_epoch(), muted=True)
            _log.info("source moves source=%s from=%s to=%s", found.source, found.origin, found.target)

    def _costs(self) -> dict[str, Cost]:
        """Return the cost of each source; one that was not measured yet has the cost of `assignments.FIRST_COST`."""
        return {one.source: one.cost for one in self.assignments.values()}

    def _placed(self) -> dict[str, str]:
        return {one.source: one.worker for one in self.assignments.values() if one.worker is not None}

    def _bound(self) -> dict[str, str]:
        """Return the sources that only one node may run, with its name."""
        return {source: node for source, node in self.sources.items() if node is not None}

    def wanted(self, worker: str, now_s: float) -> tuple[dict[str, SourceOrder], frozenset[str]]:
        """Return what a worker should run, by source, and the sources that it should release while they have no open event."""
        sources: dict[str, SourceOrder] = {}
        quiet = set()
        for one in self.assignments.values():
            if one.target == worker and one.target_order is not None:
                sources[one.source] = one.target_order
            elif one.worker == worker and one.order is not None:
                if one.leaving_s is None:
                    sources[one.source] = one.order
                elif now_s - one.leaving_s < QUIET_S:
                    quiet.add(one.source)
        return sources, frozenset(quiet)


def _tell_placed(found: Mapping[str, str]) -> None:
    """Write one line for each worker that has got sources."""
    for worker in sorted(set(found.values())):
        mine = sorted(source for source, name in found.items() if name == worker)
        _log.info("sources placed worker=%s count=%d sources=%s", worker, len(mine), _first_names(mine))


def _first_names(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:MOST_NAMED] + ["..."] * (len(names) > MOST_NAMED))
