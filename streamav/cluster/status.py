"""Makes what `streamav cluster status` shows of a run. Pure: it takes what the controller knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.cluster.placement import load_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streamav.cluster.assignments import Assignment
    from streamav.cluster.members import Member

__all__ = ["status_of"]


def status_of(
    members: Collection[Member], assignments: Collection[Assignment], reasons: Mapping[str, str], now_s: float
) -> dict[str, object]:
    """Return workers and sources as JSON values.

    Args:
        members: the workers.
        assignments: the sources.
        reasons: why a worker cannot run, by its name; also of one that is gone.
        now_s: the controller's time, s.
    """
    return {
        "workers": [_worker(member, assignments, reasons.get(member.name), now_s) for member in members],
        "sources": [_source(one) for one in assignments],
    }


def _worker(member: Member, assignments: Collection[Assignment], reason: str | None, now_s: float) -> dict[str, object]:
    mine = [one.cost for one in assignments if one.worker == member.name]
    return {
        "worker": member.name,
        "node": member.node.name,
        "state": member.state,
        "epoch": member.epoch,
        "engine": "" if member.report is None else member.report.engine,
        "sources": len(mine),
        "load": round(load_of(member.slot, mine), 3),
        "cores_used": round(member.cores_used, 3),
        "cores": member.slot.cores,
        "silent_s": round(max(0.0, now_s - member.heard_s), 1),
        "error": reason,
    }


def _source(one: Assignment) -> dict[str, object]:
    report = one.report
    state = "ended" if one.ended else "waiting" if one.worker is None else "starting" if report is None else report.state or report.phase
    return {
        "source": one.source,
        "worker": one.worker,
        "moving_to": one.target,
        "state": state if one.error is None else "failed",
        "epoch": None if one.order is None else one.order.epoch,
        "events": one.events + (0 if report is None else report.events),
        "dropped": one.dropped + (0 if report is None else report.dropped),
        "thinned": one.thinned + (0 if report is None else report.thinned),
        "restarts": one.restarts,
        "moves": one.moves,
        "cost_cores": round(one.cost.cores, 4),
        "latency_s": None if report is None else report.latency_s,
        "error": one.error,
    }
