"""Tests the mapping of media time to wall-clock time: least delays, drifting clocks, jumps of the wall clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.published_events import dice
from rigs.roles import EPOCH_NS, FakeClock, FakeLocalizer, features

from streamav.arrivals import ArrivalOffset
from streamav.pipeline.stages import SourceStages
from streamav.pipeline.wall import WallOffset, read_wall_offset_ns
from streamav.pipeline.world_time import WorldTime
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions, TrackerOptions
from streamav.types import SEGMENT_NS, Event

DAY_S = 86_400
MS = 1_000_000


def live(clock: FakeClock) -> WorldTime:
    return WorldTime(clock, paced=True, live=True)


@dataclass(frozen=True)
class Camera:
    """A network camera: its clock is off by *ppm*, and its media arrive a second apart over a network with 20 ms delay.

    In addition each delivery is late by 40 ms on average. Every ten minutes nothing arrives for five seconds and then everything
    at once. Every hour the network is one second slower for three minutes. As over TCP, the order of deliveries is kept.
    """

    ppm: int
    random: Random

    def deliveries(self, seconds: int) -> Iterator[tuple[int, int, int]]:
        """Yield the time of recording and of arrival, in the world's time, and the media time, all in ns."""
        arrived_ns = 0
        for second in range(seconds):
            recorded_ns = second * SEGMENT_NS
            late_ns = round((0.02 + self.random.expovariate(1 / 0.04)) * SEGMENT_NS)
            if second % 600 < 5:
                late_ns += (600 * (second // 600) + 5) * SEGMENT_NS - recorded_ns
            if 1_000 <= second % 3_600 < 1_180:
                late_ns += SEGMENT_NS
            arrived_ns = max(arrived_ns, recorded_ns + late_ns)
            yield recorded_ns, arrived_ns, recorded_ns + recorded_ns * self.ppm // 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-100, 100])
def test_the_times_of_a_day_follow_a_camera_whose_clock_drifts(ppm: int) -> None:
    """At 100 ppm, 8.6 s a day, UTC of a camera's media is never off by 100 ms, despite drift, jitter and bursts."""
    clock = FakeClock(step_ns=0)
    world = live(clock)
    worst_ns = 0
    for number, (recorded_ns, arrived_ns, media_ns) in enumerate(Camera(ppm, dice(1)).deliveries(DAY_S)):
        clock.now_ns = arrived_ns
        world.arrived(media_ns)
        if number >= 10:  # the first ten seconds are warm-up
            worst_ns = max(worst_ns, abs(world.epoch_ns() + media_ns - EPOCH_NS - recorded_ns))
    assert worst_ns < 100 * MS


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-100, 100])
def test_events_of_a_day_say_when_they_happened(ppm: int) -> None:
    """Every hour an event of five seconds begins: its messages agree on its start, which is right to 0.1 s during the whole day."""
    clock = FakeClock(step_ns=0)
    world = live(clock)
    label = LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=Thresholds(on=0.6, off=0.35))
    stages = SourceStages(TrackerOptions(source="porch", session="s", labels=(label,), media_ids=False), 1, world.epoch_ns)
    events: list[Event] = []
    newest = -1
    for _, arrived_ns, media_ns in Camera(ppm, dice(1)).deliveries(DAY_S):
        clock.now_ns = arrived_ns
        world.arrived(media_ns)
        index = media_ns // SEGMENT_NS - 1
        if index > newest and 600 <= index % 3_600 < 620:
            newest = index
            window, ended = stages.push(features(index, 0.9 if 610 <= index % 3_600 < 615 else 0.1))
            events += [*ended, *(stages.score(FakeLocalizer().localize([window])[0]) if window is not None else [])]
    starts: dict[str, set[int]] = {}
    for event in events:
        starts.setdefault(event.id, set()).add(event.epoch_ns + event.start_ns - EPOCH_NS)
    assert len(starts) == 24
    for hour, said in enumerate(starts.values()):
        (start_ns,) = said
        happened_ns = (3_600 * hour + 610) * SEGMENT_NS * 1_000_000 // (1_000_000 + ppm)
        assert abs(start_ns - happened_ns) < 100 * MS


@given(late_ms=st.lists(st.integers(0, 10_000), min_size=1, max_size=200), seed=st.integers(0, 1_000))
def test_what_is_late_moves_nothing(late_ms: list[int], seed: int) -> None:
    """Arrivals of any delay between prompt arrivals do not change the offset, in any order."""
    arrivals, random = ArrivalOffset(), dice(seed)
    arrivals.push(0, 0)
    now_ns = 0
    for late in late_ms:
        now_ns += random.randrange(1, SEGMENT_NS)
        assert arrivals.push(now_ns, now_ns - late * MS) == 0


@given(steps=st.lists(st.tuples(st.integers(1, 100 * SEGMENT_NS), st.integers(-(10**10), 10**10)), min_size=1, max_size=100))
def test_the_offset_rises_slowly_and_is_never_above_the_newest(steps: list[tuple[int, int]]) -> None:
    """The offset is never above the newest arrival, because nothing arrives before it was recorded; it rises by at most 200 ppm."""
    arrivals = ArrivalOffset()
    now_ns, before = 0, None
    for step_ns, offset_ns in steps:
        now_ns += step_ns
        found = arrivals.push(now_ns, now_ns - offset_ns)
        assert found <= offset_ns
        assert before is None or found <= before + step_ns * 200 // 1_000_000
        before = found


def test_a_network_that_stays_slow_is_no_clock_that_drifts() -> None:
    """Two seconds more delay for half an hour move the times by less than 0.4 s, and the first prompt arrival restores them."""
    arrivals = ArrivalOffset()
    for second in range(600):
        arrivals.push(second * SEGMENT_NS, second * SEGMENT_NS)
    slow = [arrivals.push(second * SEGMENT_NS, (second - 2) * SEGMENT_NS) for second in range(600, 2_400)]
    assert 0 <= max(slow) < 400 * MS
    assert arrivals.push(2_400 * SEGMENT_NS, 2_400 * SEGMENT_NS) == 0


def test_the_wall_clock_of_a_live_source_comes_from_its_least_delay() -> None:
    """The least delayed arrival determines UTC of the media clock, and a step of the wall clock is followed at once."""
    clock = FakeClock(step_ns=0, now_ns=5 * SEGMENT_NS)
    world = live(clock)
    world.arrived(1 * SEGMENT_NS)  # 4 s after it was recorded
    clock.now_ns = 6 * SEGMENT_NS
    world.arrived(5 * SEGMENT_NS)  # 1 s after it was recorded
    assert world.epoch_ns() == EPOCH_NS + 1 * SEGMENT_NS
    clock.epoch_ns += 3600 * SEGMENT_NS
    assert world.epoch_ns() == EPOCH_NS + 3601 * SEGMENT_NS
    assert world.latency_s(5 * SEGMENT_NS, 0) == 0.0
    assert world.latency_s(4 * SEGMENT_NS, 0) == 1.0


def test_after_a_loss_the_clocks_are_compared_anew() -> None:
    """After a loss the source may have another clock: the offset may rise at once."""
    clock = FakeClock(step_ns=0, now_ns=5 * SEGMENT_NS)
    world = live(clock)
    world.arrived(5 * SEGMENT_NS)
    assert world.epoch_ns() == EPOCH_NS
    world.lost()
    clock.epoch_ns += 3600 * SEGMENT_NS
    clock.now_ns = 20 * SEGMENT_NS
    world.arrived(10 * SEGMENT_NS)
    assert world.epoch_ns() == EPOCH_NS + 3600 * SEGMENT_NS + 10 * SEGMENT_NS


def test_a_file_at_its_own_pace_is_mapped_once() -> None:
    """The clock of a file does not drift, so an item that is read late does not change the times of its events."""
    clock = FakeClock(step_ns=0, now_ns=5 * SEGMENT_NS)
    world = WorldTime(clock, paced=True, live=False)
    world.arrived(5 * SEGMENT_NS)
    assert world.epoch_ns() == EPOCH_NS
    clock.now_ns = 4_000 * SEGMENT_NS
    world.arrived(6 * SEGMENT_NS)
    assert world.epoch_ns() == EPOCH_NS


def test_a_fast_replay_is_measured_from_hand_over() -> None:
    """Media time of a fast replay has no pace, so its latency is its processing time."""
    clock = FakeClock(step_ns=0, now_ns=5 * SEGMENT_NS)
    world = WorldTime(clock, paced=False, live=False)
    world.arrived(0)
    world.arrived(100 * SEGMENT_NS)
    assert world.epoch_ns() == EPOCH_NS + 5 * SEGMENT_NS
    assert world.latency_s(100 * SEGMENT_NS, 4 * SEGMENT_NS) == 1.0


# The wall clock


@dataclass
class Porch:
    """A live source whose clock is right, its stages, and the machine's clocks; the event of a run is open while `loud` is true."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(step_ns=0))
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        label = LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=Thresholds(on=0.6, off=0.35))
        self.world = live(self.clock)
        self.stages = SourceStages(TrackerOptions(source="porch", session="s", labels=(label,), media_ids=False), 1, self.world.epoch_ns)
        self.index = 0

    def play(self, seconds: int, *, loud: bool) -> None:
        for _ in range(seconds):
            self.clock.now_ns += SEGMENT_NS
            self.world.arrived((self.index + 1) * SEGMENT_NS)
            window, ended = self.stages.push(features(self.index, 0.9 if loud else 0.1))
            self.events += [*ended, *(self.stages.score(FakeLocalizer().localize([window])[0]) if window is not None else [])]
            self.index += 1

    def starts(self) -> list[int]:
        """Return the UTC start of each event, ns; all messages of an event must agree on it."""
        said: dict[str, set[int]] = {}
        for event in self.events:
            said.setdefault(event.id, set()).add(event.epoch_ns + event.start_ns)
        assert all(len(starts) == 1 for starts in said.values())
        return [start for starts in said.values() for start in starts]


def test_a_board_that_starts_before_ntp_stamps_the_right_time_from_then_on() -> None:
    """The clock says 1970 until NTP sets it in the middle of an event: this event keeps its start, the next one has the right time."""
    porch = Porch()
    porch.clock.epoch_ns = 0
    porch.play(12, loud=False)
    porch.play(3, loud=True)
    porch.clock.epoch_ns = EPOCH_NS
    porch.play(3, loud=True)
    porch.play(5, loud=False)
    porch.play(2, loud=True)
    assert porch.starts() == [12 * SEGMENT_NS, EPOCH_NS + 23 * SEGMENT_NS]


def test_after_a_suspend_events_have_the_right_time() -> None:
    """The monotonic clock stands still for an hour of suspend: events after it are an hour later, as they were."""
    porch = Porch()
    porch.play(12, loud=False)
    porch.play(3, loud=True)
    porch.play(5, loud=False)
    porch.clock.epoch_ns += 3_600 * SEGMENT_NS
    porch.play(2, loud=True)
    assert porch.starts() == [EPOCH_NS + 12 * SEGMENT_NS, EPOCH_NS + 3_620 * SEGMENT_NS]


def test_a_camera_that_went_on_during_the_suspend_is_not_counted_twice() -> None:
    """The media clock of a network camera jumps by the suspend, which the monotonic clock did not see: UTC follows it once, not twice."""
    clock = FakeClock(step_ns=0)
    world = live(clock)
    clock.now_ns = 10 * SEGMENT_NS
    world.arrived(10 * SEGMENT_NS)
    assert world.epoch_ns() == EPOCH_NS
    clock.epoch_ns += 3_600 * SEGMENT_NS
    clock.now_ns += SEGMENT_NS
    world.arrived(3_611 * SEGMENT_NS)
    assert world.epoch_ns() == EPOCH_NS


def test_a_clock_that_is_set_back_moves_new_events_back_only() -> None:
    """The wall clock goes back by an hour in the middle of an event: its start stays, and the next event begins an hour earlier."""
    porch = Porch()
    porch.play(12, loud=False)
    porch.play(3, loud=True)
    porch.clock.epoch_ns -= 3_600 * SEGMENT_NS
    porch.play(2, loud=True)
    porch.play(5, loud=False)
    porch.play(2, loud=True)
    assert porch.starts() == [EPOCH_NS + 12 * SEGMENT_NS, EPOCH_NS + 22 * SEGMENT_NS - 3_600 * SEGMENT_NS]


def test_a_leap_second_that_is_smeared_is_followed() -> None:
    """UTC slews by a second over a day, as a leap smear does: the offset is never off by more than 10 ms."""
    wall, off_ns = WallOffset(), 0
    for second in range(DAY_S):
        off_ns = second * SEGMENT_NS // DAY_S
        assert abs(wall.follow(second * SEGMENT_NS, off_ns) - off_ns) <= 10 * MS
    assert off_ns > 0.99 * SEGMENT_NS


def test_a_small_correction_is_slewed() -> None:
    """NTP corrects the clock by 50 ms: two events ten seconds apart stay so to 5 ms, and after two minutes the correction is complete."""
    wall = WallOffset()
    wall.follow(0, 0)
    assert wall.follow(SEGMENT_NS, 50 * MS) <= MS
    assert wall.follow(11 * SEGMENT_NS, 50 * MS) <= 6 * MS
    assert wall.follow(121 * SEGMENT_NS, 50 * MS) == 50 * MS


@given(steps=st.lists(st.tuples(st.integers(1, 100 * SEGMENT_NS), st.integers(-(10**18), 10**18)), min_size=1, max_size=100))
def test_utc_is_never_off_by_more_than_a_tenth_of_a_second(steps: list[tuple[int, int]]) -> None:
    """Whatever the wall clock does, what is used differs from it by 0.1 s at most."""
    wall, now_ns = WallOffset(), 0
    for step_ns, offset_ns in steps:
        now_ns += step_ns
        assert abs(wall.follow(now_ns, offset_ns) - offset_ns) <= 100 * MS


def test_an_interrupted_reading_is_not_used() -> None:
    """The machine pauses for three seconds between the readings of its two clocks: UTC does not move."""

    class Interrupted(FakeClock):
        def utc_ns(self) -> int:
            read = super().utc_ns()
            self.now_ns += pauses.pop() if pauses else 0
            return read

    pauses = [3 * SEGMENT_NS]
    clock = Interrupted(step_ns=0)
    assert read_wall_offset_ns(clock)[1] == EPOCH_NS
    pauses.append(3 * SEGMENT_NS)
    assert read_wall_offset_ns(clock)[1] == EPOCH_NS
