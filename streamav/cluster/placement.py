"""Decides which worker runs which source. Pure: it takes costs and sizes, and uses no Ray, no clock and no source.

    load of a worker = max( cores its sources use / its cores,  inference seconds in a second / 0.8 )

Sources that run stay where they are. A source that waits goes to the least loaded worker that may run it, the costliest source first.
When workers differ much, one source after the other moves from the fullest to the emptiest, as when a machine has joined.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Cost", "Move", "Slot", "allowed", "load_of", "next_move", "place"]

INFERENCE_LIMIT = 0.8
"""Share of a second in which the one inference thread of a worker should work; the limit of the frame budget."""
GAP = 2.0
"""A source moves when the fullest worker is above the emptiest by at least this many times its own share; less would move it back again."""
_ROUNDING = 1e-9
"""Relative error of the sums of costs that is ignored."""
LEAST_GAP = 0.25
"""... and by at least this share of the fullest worker's load, because measured costs vary."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one source takes of a machine."""

    cores: float
    """Cores in use: processor seconds in one second, capture included."""
    work_s: float
    """Seconds of the inference thread in one second."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker, which may get sources."""

    name: str
    names: frozenset[str]
    """What a source may call the worker's machine (`node` of a source)."""
    cores: float
    """Cores of the machine, or its share of them where a machine has a worker for each GPU; above 0."""


@dataclass(frozen=True, slots=True)
class Move:
    """A source that should change from one worker to another."""

    source: str
    origin: str
    target: str


def allowed(slot: Slot, node: str | None) -> bool:
    """Return whether a source with the constraint *node* (None for none) may run there."""
    return node is None or node in slot.names


def load_of(slot: Slot, costs: Iterable[Cost]) -> float:
    """Return the load of a worker that runs sources of these costs; 1 is all it can carry."""
    cores = work_s = 0.0
    for cost in costs:
        cores += cost.cores
        work_s += cost.work_s
    return _load(slot, cores, work_s)


def _load(slot: Slot, cores: float, work_s: float) -> float:
    return max(cores / slot.cores, work_s / INFERENCE_LIMIT)


def place(
    waiting: Iterable[str],
    slots: Iterable[Slot],
    placed: Mapping[str, str],
    costs: Mapping[str, Cost],
    nodes: Mapping[str, str],
) -> dict[str, str]:
    """Return the worker of each waiting source; a source that no worker may run is left out.

    Args:
        waiting: sources without a worker.
        slots: workers that may get sources.
        placed: source -> worker, for those that run.
        costs: cost of every source.
        nodes: source -> the only machine that may run it; sources that may run anywhere are left out.
    """
    known = {slot.name: slot for slot in slots}
    sums = {name: [0.0, 0.0] for name in known}
    for source, name in placed.items():
        if name in sums:
            _add(sums[name], costs[source])
    heap = [(_load(slot, *sums[name]), name) for name, slot in sorted(known.items())]
    heapq.heapify(heap)
    found: dict[str, str] = {}

    def put(source: str, name: str) -> None:
        found[source] = name
        _add(sums[name], costs[source])
        heapq.heappush(heap, (_load(known[name], *sums[name]), name))

    order = sorted(waiting, key=lambda one: (one not in nodes, -max(costs[one].cores, costs[one].work_s), one))
    for source in order:  # those with a constraint first: they have the least choice
        if source in nodes:
            fits = [name for name, slot in known.items() if allowed(slot, nodes[source])]
            if fits:
                put(source, min(fits, key=lambda name: (_load(known[name], *sums[name]), name)))
            continue
        while heap:
            load, name = heapq.heappop(heap)
            if load == _load(known[name], *sums[name]):  # else the worker has received sources since, and is in the heap again
                put(source, name)
                break
    return found


def _add(sums: list[float], cost: Cost) -> None:
    sums[0] += cost.cores
    sums[1] += cost.work_s


def next_move(
    slots: Iterable[Slot],
    placed: Mapping[str, str],
    costs: Mapping[str, Cost],
    nodes: Mapping[str, str],
    still: frozenset[str] = frozenset(),
) -> Move | None:
    """Return the move that evens the load out best, or None when no move is worth it.

    Args:
        slots: workers that may get sources.
        placed: source -> worker, for those that run.
        costs: cost of every source.
        nodes: source -> the only machine that may run it.
        still: sources that must not move now.
    """
    known = {slot.name: slot for slot in slots}
    of: dict[str, list[str]] = {name: [] for name in known}
    for source, name in placed.items():
        if name in of:
            of[name].append(source)
    loads = {name: load_of(known[name], (costs[one] for one in of[name])) for name in known}
    for full in sorted(known, key=lambda name: -loads[name]):
        for empty in sorted(known, key=lambda name: loads[name]):
            gap = loads[full] - loads[empty]
            if gap <= LEAST_GAP * loads[full]:
                break
            able = [one for one in of[full] if one not in still and allowed(known[empty], nodes.get(one))]
            shares = {one: load_of(known[empty], [costs[one]]) for one in able}
            fitting = [one for one in able if gap >= GAP * shares[one] * (1.0 - _ROUNDING)]
            if fitting:
                return Move(min(fitting, key=lambda one: (abs(gap / 2.0 - shares[one]), one)), full, empty)
    return None
