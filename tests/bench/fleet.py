"""Simulates a cluster of many streams for some weeks: placement, failures of machines, repairs and moves, with the real placement rules.

    python -m tests.bench.fleet --streams 10000 --nodes 180 --days 30

Nothing runs: costs are drawn around measured ones, and a failover takes the time that `make bench-cluster` measured. The numbers
answer how many machines are needed, how full they get when some are gone, and how much of the time a stream is not looked at.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import time
from dataclasses import asdict, dataclass

from streamav.cluster.placement import Cost, Slot, load_of, next_move, place

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is simulated."""

    streams: int = 10_000
    nodes: int = 180
    cores: float = 4.0
    days: float = 30.0
    seed: int = 0
    mean_cores: float = 0.04
    """Processor time of a stream, with its decoding (docs/scale.md)."""
    mean_work_s: float = 0.008
    spread: float = 0.5
    """Streams differ: each costs between 1 - spread and 1 + spread of the mean, evenly."""
    bound_share: float = 0.02
    """Share of the streams that only one machine can open."""
    days_between_failures: float = 60.0
    """Of one machine; exponentially distributed."""
    repair_s: float = 2 * HOUR_S
    failover_s: float = 10.0
    """From the failure of a machine until its streams run elsewhere."""
    warm_up_s: float = 3.0
    """Until a stream is scored again."""


@dataclass(kw_only=True)
class Outcome:
    """What came out."""

    failures: int = 0
    failovers: int = 0
    """Streams that changed machine because theirs failed."""
    moves: int = 0
    """Streams that moved to a machine that came back; these lose nothing."""
    lost_stream_s: float = 0.0
    """Time in which a stream was not scored, all streams together."""
    waiting_stream_s: float = 0.0
    """Part of it for streams that wait for their own machine."""
    unseen_share: float = 0.0
    peak_load: float = 0.0
    """Greatest planned load of any machine."""
    mean_load: float = 0.0
    most_down: int = 0
    most_failed_over_at_once: int = 0
    place_s: float = 0.0
    """Longest time that one placement took here, s."""
    doubles: int = 0
    """Streams on two machines at once; always 0."""


class World:
    """Machines and streams over time."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.outcome = plan, Outcome()
        self._dice = random.Random(plan.seed)
        self.slots = {name: Slot(name, frozenset({name}), plan.cores) for name in (f"n{number}" for number in range(plan.nodes))}
        draw = self._dice.uniform
        factors = {f"s{number}": draw(1 - plan.spread, 1 + plan.spread) for number in range(plan.streams)}
        self.costs = {name: Cost(plan.mean_cores * factor, plan.mean_work_s * factor) for name, factor in factors.items()}
        bound = self._dice.sample(sorted(self.costs), round(plan.bound_share * plan.streams))
        self.bound = {name: self._dice.choice(sorted(self.slots)) for name in bound}
        self.up = dict(self.slots)
        self.placed: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self._events: list[tuple[float, int, str, str]] = []

    def run(self) -> Outcome:
        """Simulate the whole time and return what came out."""
        plan, outcome = self.plan, self.outcome
        self._place(list(self.costs), 0.0)
        outcome.mean_load = sum(self._load(name) for name in self.up) / len(self.up)
        for name in self.slots:
            self._push(self._until_failure(), "fail", name)
        end_s = plan.days * DAY_S
        while self._events and self._events[0][0] < end_s:
            now_s, _, what, name = heapq.heappop(self._events)
            if what == "fail":
                self._fail(name, now_s)
            else:
                self._repair(name, now_s)
        for source, since_s in self._since.items():
            self._lose(end_s - since_s, waiting=source in self.bound)
        outcome.unseen_share = outcome.lost_stream_s / (plan.streams * end_s)
        return outcome

    def _push(self, at_s: float, what: str, name: str) -> None:
        heapq.heappush(self._events, (at_s, len(self._events), what, name))

    def _until_failure(self) -> float:
        return self._dice.expovariate(1.0 / (self.plan.days_between_failures * DAY_S))

    def _load(self, name: str) -> float:
        return load_of(self.up[name], (self.costs[source] for source, where in self.placed.items() if where == name))

    def _fail(self, name: str, now_s: float) -> None:
        outcome = self.outcome
        del self.up[name]
        outcome.failures += 1
        outcome.most_down = max(outcome.most_down, len(self.slots) - len(self.up))
        gone = [source for source, where in self.placed.items() if where == name]
        for source in gone:
            del self.placed[source]
        outcome.failovers += len(gone)
        outcome.most_failed_over_at_once = max(outcome.most_failed_over_at_once, len(gone))
        self._place(gone, now_s)
        self._push(now_s + self.plan.repair_s, "repair", name)

    def _repair(self, name: str, now_s: float) -> None:
        self.up[name] = self.slots[name]
        self._place([source for source in self._since if self.bound.get(source) == name], now_s)
        while (move := next_move(self.up.values(), self.placed, self.costs, self.bound)) is not None:
            self.placed[move.source] = move.target
            self.outcome.moves += 1
        self._push(now_s + self._until_failure(), "fail", name)

    def _place(self, waiting: list[str], now_s: float) -> None:
        began_s = time.perf_counter()
        found = place(waiting, self.up.values(), self.placed, self.costs, self.bound)
        self.outcome.place_s = max(self.outcome.place_s, time.perf_counter() - began_s)
        self.outcome.doubles += len(found.keys() & self.placed.keys())
        self.placed |= found
        for source in waiting:
            if source not in found:
                self._since.setdefault(source, now_s)
                continue
            since_s = self._since.pop(source, None)
            if since_s is not None:
                self._lose(now_s - since_s, waiting=True)
            elif now_s:
                self._lose(self.plan.failover_s + self.plan.warm_up_s, waiting=False)
        touched = set(found.values())
        self.outcome.peak_load = max([self.outcome.peak_load, *(self._load(name) for name in touched)])

    def _lose(self, seconds: float, *, waiting: bool) -> None:
        self.outcome.lost_stream_s += seconds
        self.outcome.waiting_stream_s += seconds if waiting else 0.0


def main() -> None:
    """Read the options, simulate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=180)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    plan = Plan(streams=asked.streams, nodes=asked.nodes, days=asked.days, seed=asked.seed)
    found = asdict(World(plan).run())
    rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in found.items()}
    sys.stdout.write(json.dumps({"plan": asdict(plan), "outcome": rounded}, indent=1) + "\n")


if __name__ == "__main__":
    main()
