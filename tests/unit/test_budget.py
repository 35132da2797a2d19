"""Tests the frame budget: it follows the measured cost of turns, and it does not swing."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases

from streamav.errors import ShapeError
from streamav.pipeline.budget import HOLD_S, LIMIT, RAISE_LIMIT, BudgetChange, Demand, FrameBudget, TurnCost

FRAMES = 16


class Machine:
    """A machine with its live sources, on which a segment costs fixed + per_frame * frames."""

    def __init__(self, fixed_s: float, frame_s: float, sources: int = 1, *, noise: float = 0.0, replays: int = 0) -> None:
        self.fixed_s, self.frame_s, self.sources, self.replays, self.noise = fixed_s, frame_s, sources, replays, noise
        self.budget = FrameBudget(FRAMES)
        self.random = random.Random(1)
        self.now_s = 0.0

    def load(self, frames: int | None = None) -> float:
        """Return the true load."""
        looked = self.budget.frames if frames is None else frames
        return self.sources * (self.fixed_s + self.frame_s * looked) + self.replays * (self.fixed_s + self.frame_s * FRAMES)

    def second(self, *, behind: bool = False) -> list[BudgetChange]:
        """Simulate one second: one turn for each source."""
        changes = []
        for number in range(self.sources + self.replays):
            demand = Demand(live=self.sources, replays=self.replays, behind=behind)
            change = self.budget.choose(demand, self.now_s)
            changes += [] if change is None else [change]
            frames = self.budget.frames if number < self.sources else FRAMES
            cost_s = (self.fixed_s + self.frame_s * frames) * (1.0 + self.noise * self.random.uniform(-1.0, 1.0))
            self.budget.spent(cost_s, 1, frames)
            self.now_s += 1.0 / (self.sources + self.replays)
        return changes

    def seconds(self, count: int) -> list[BudgetChange]:
        return [change for _ in range(count) for change in self.second()]


machines = st.tuples(st.floats(0.0, 0.5), st.floats(0.0005, 0.4), st.integers(1, 8))


@cases(50)
@given(machines)
def test_a_machine_of_constant_speed_settles_and_stays(machine: tuple[float, float, int]) -> None:
    """After two minutes nothing changes any more, the true load is within the limit, and more frames would not fit."""
    made = Machine(*machine)
    made.seconds(120)
    assert made.seconds(600) == []
    budget = made.budget
    assert made.load() <= LIMIT * 1.02 or budget.frames == 1
    above = [level for level in budget.levels if level > budget.frames]
    assert not above or made.load(above[0]) > RAISE_LIMIT * 0.98


@cases(20)
@given(machines, st.floats(0.0, 0.1))
@pytest.mark.slow
def test_noise_does_not_make_it_swing(machine: tuple[float, float, int], noise: float) -> None:
    """If turns cost up to a tenth more or less than usual, it changes at most twice in an hour after two minutes."""
    made = Machine(*machine, noise=noise)
    made.seconds(120)
    assert len(made.seconds(3600)) <= 2


@given(machines)
def test_two_seconds_are_enough_where_frames_are_what_costs(machine: tuple[float, float, int]) -> None:
    """Without a fixed part the third segment already has a number of frames that fits."""
    _, frame_s, sources = machine
    made = Machine(0.0, frame_s, sources)
    made.seconds(3)
    assert made.load() <= LIMIT * 1.001 or made.budget.frames == 1


def test_a_capable_machine_is_never_thinned() -> None:
    """At a load of one half all frames are processed."""
    assert Machine(0.01, 0.03).seconds(600) == []


def test_seconds_that_wait_make_room_at_once() -> None:
    """While segments wait, one measured turn is enough, and the load is planned so that the queue can be worked off."""
    made = Machine(0.0, 0.3)
    made.second()
    (change,) = made.second(behind=True)
    assert (change.before, change.after) == (16, 1)
    assert change.load_before == pytest.approx(4.8, rel=0.01)
    assert change.load <= 0.78  # a tenth of the cost of a segment counts as fixed until frames have changed once


def test_a_burst_that_is_no_overload_takes_nothing_away() -> None:
    """Segments of a burst wait too, but their measured cost shows that the machine keeps up."""
    made = Machine(0.01, 0.005)
    made.seconds(5)
    assert [made.second(behind=True) for _ in range(4)] == [[], [], [], []]


def test_turns_that_are_disturbed_now_and_then_take_nothing_away() -> None:
    """Every eighth turn costs four times as much because of other work; the mean load is 0.6, and nothing waits."""
    made = Machine(0.0, 0.00273, 10)
    changes = []
    for number in range(3000):
        changes.append(made.budget.choose(Demand(live=10), made.now_s))
        made.budget.spent(0.0437 * (4.0 if number % 8 == 0 else 1.0), 1, 16)
        made.now_s += 0.1
    assert [change for change in changes if change is not None] == []


def test_a_machine_that_becomes_slow_is_believed_once_seconds_wait() -> None:
    """If the machine becomes five times slower at once, the first turn with a backlog is enough to detect most of it."""
    made = Machine(0.0, 0.02)
    made.seconds(30)
    made.frame_s = 0.1
    made.second()
    (change,) = [*made.second(behind=True), *made.second(behind=True)]
    assert change.after <= 4


def test_what_a_loaded_machine_gave_up_comes_back_step_by_step() -> None:
    """Each step waits until the load was low for a while and the next number of frames is predicted to fit."""
    made = Machine(0.0, 0.35)
    made.seconds(30)
    assert made.budget.frames == 2
    made.frame_s = 0.02
    started_s = made.now_s
    changes = made.seconds(120)
    assert [change.after for change in changes] == [4, 8, 16]
    assert all(change.load <= RAISE_LIMIT for change in changes)
    assert made.now_s - started_s >= 3 * HOLD_S


def test_giving_too_early_is_paid_with_patience() -> None:
    """If the cost is not linear in frames, the pause between attempts doubles."""
    made = Machine(0.0, 0.0)
    times: list[float] = []
    for _ in range(3000):
        made.fixed_s = 0.9 if made.budget.frames > 4 else 0.3  # cheap up to four frames, then too expensive
        times += [made.now_s for change in made.second() if change.after > change.before]
    assert len(times) <= 14  # with ten seconds each it would be 270
    assert all(later - earlier >= HOLD_S for earlier, later in pairwise(times))


def test_replays_count_but_are_not_thinned() -> None:
    """A file at its own pace counts with its full load, and live sources share the rest."""
    made = Machine(0.0, 0.02, 1, replays=1)
    made.seconds(60)
    assert made.budget.frames == 16  # 0.64
    made = Machine(0.0, 0.03, 1, replays=1)
    made.seconds(60)
    assert made.budget.frames == 8  # 0.48 + 0.24
    alone = Machine(0.0, 0.5, 0, replays=2)
    assert alone.seconds(60) == []


@given(st.integers(1, 60))
def test_levels_are_powers_of_two_and_all(most: int) -> None:
    """For any number of frames of a segment, all of them and a single one are possible choices."""
    levels = FrameBudget(most).levels
    assert levels == tuple(sorted(set(levels)))
    assert (levels[0], levels[-1]) == (1, most)


def test_a_segment_has_frames() -> None:
    """A segment without frames is refused."""
    with pytest.raises(ShapeError, match="at least 1, got 0"):
        FrameBudget(0)


@given(st.floats(0.001, 1.0), st.floats(0.001, 1.0), st.integers(1, 8))
def test_two_numbers_of_frames_tell_both_parts(fixed_s: float, frame_s: float, batch: int) -> None:
    """A few turns with each number of frames, in batches of any size, are enough to estimate both parts."""
    cost = TurnCost()
    for frames in (16, 16, 4, 4, 4, 16, 4, 1, 1):
        cost.learn(batch * (fixed_s + frame_s * frames), batch, batch * frames)
    for frames in (1, 4, 16):
        assert cost.work_s(frames) == pytest.approx(fixed_s + frame_s * frames, abs=0.15 * (fixed_s + 16 * frame_s))
