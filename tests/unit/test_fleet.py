"""Tests the simulation of a large cluster (docs/scale.md) on small ones."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from bench.fleet import Plan, World

SMALL = Plan(streams=300, nodes=8, cores=2.0, days=60.0, days_between_failures=20.0, seed=3)


def outcome(plan: Plan) -> dict[str, float]:
    found = asdict(World(plan).run())
    del found["place_s"]  # a time of this machine
    return found


def test_the_same_seed_gives_the_same_outcome() -> None:
    """The simulation is exact: a figure in the documentation can be computed again."""
    assert outcome(SMALL) == outcome(SMALL)
    assert outcome(SMALL) != outcome(Plan(**{**asdict(SMALL), "seed": 4}))


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_is_never_on_two_machines_and_never_forgotten(seed: int) -> None:
    """At the end every stream is placed once, except those that wait for their own machine."""
    world = World(Plan(**{**asdict(SMALL), "seed": seed}))
    found = world.run()
    assert found.doubles == 0
    assert found.failures > 0
    assert set(world.costs) - set(world.placed) <= {source for source, node in world.bound.items() if node not in world.up}
    assert set(world.placed.values()) <= set(world.up)


def test_the_lost_time_is_that_of_the_failures() -> None:
    """Without streams that are bound to a machine each failover costs its time, and nothing else is lost."""
    plan = Plan(**{**asdict(SMALL), "bound_share": 0.0})
    found = World(plan).run()
    assert found.waiting_stream_s == 0.0
    assert found.lost_stream_s == pytest.approx(found.failovers * (plan.failover_s + plan.warm_up_s))


def test_no_failure_loses_nothing() -> None:
    """Machines that never fail keep their streams."""
    found = World(Plan(**{**asdict(SMALL), "days_between_failures": 1e9})).run()
    assert (found.failures, found.moves, found.lost_stream_s) == (0, 0, 0.0)
