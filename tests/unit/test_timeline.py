from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.cases import cases

from streamav.capture.stamps import Kind, steady_start
from streamav.capture.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 1_000_000_000
BLOCK = 1_024 * SECOND // 48_000
PICTURE = SECOND // 25


@dataclass(frozen=True)
class Item:
    """One item of a stream: what its time stamp says, and when it truly was."""

    kind: Kind
    stamp_ns: int | None
    true_ns: int

    @property
    def length_ns(self) -> int:
        return BLOCK if self.kind == "sound" else 0


def stream(seconds: float, sound_after_s: float = 0.0) -> list[Item]:
    """Return sound and pictures as a container holds them, the sound so much later than the pictures of the same time."""
    sound = [Item("sound", n * BLOCK, n * BLOCK) for n in range(round(seconds * SECOND / BLOCK))]
    pictures = [Item("picture", n * PICTURE, n * PICTURE) for n in range(round(seconds * 25))]
    return sorted([*sound, *pictures], key=lambda one: one.true_ns + (sound_after_s * SECOND if one.kind == "sound" else 0))


def place(items: Sequence[Item], origin_ns: int = 0) -> list[tuple[int, Item]]:
    """Place all items of a stream, begun as the demuxer begins it."""
    firsts: dict[Kind, int | None] = {
        kind: steady_start([(one.stamp_ns, one.length_ns) for one in items[:150] if one.kind == kind][:5]) for kind in ("sound", "picture")
    }
    timeline: Timeline[Item] = Timeline({kind: first for kind, first in firsts.items() if first is not None}, origin_ns)
    placed = [one for item in items for one in timeline.push(item.kind, item.stamp_ns, item.length_ns, item)]
    placed += timeline.flush()
    assert len(placed) == len(items)
    assert all(kind == item.kind for _, kind, item in placed)
    return [(time_ns, item) for time_ns, _, item in placed]


def farthest(placed: Sequence[tuple[int, Item]]) -> int:
    """Return the largest distance of a media time from the true one, ns."""
    return max(abs(time_ns - item.true_ns) for time_ns, item in placed)


def restamp(items: Sequence[Item], change: dict[int, int | None]) -> list[Item]:
    """Add so many ns to the time stamp of item number k, or take it away."""

    def stamp(number: int, item: Item) -> Item:
        off = change.get(number, 0)
        return replace(item, stamp_ns=None if off is None or item.stamp_ns is None else item.stamp_ns + off)

    return [stamp(number, item) for number, item in enumerate(items)]


def test_the_earliest_time_stamp_becomes_the_origin() -> None:
    """Whatever the stream's own zero is, media time begins at the origin."""
    items = [replace(one, stamp_ns=95_443 * SECOND + one.true_ns, true_ns=7 * SECOND + one.true_ns) for one in stream(1)]
    assert farthest(place(items, origin_ns=7 * SECOND)) == 0


def test_an_ordinary_item_comes_back_at_once() -> None:
    """Nothing is held while the time stamps continue their streams."""
    timeline: Timeline[Item] = Timeline({"sound": 0, "picture": 0}, 0)
    assert all(len(timeline.push(one.kind, one.stamp_ns, one.length_ns, one)) == 1 for one in stream(5))


@pytest.mark.parametrize("kind", ["sound", "picture"])
@pytest.mark.parametrize("off_s", [-90_000, -4, -0.3, 0.3, 4, 37, 90_000])
@pytest.mark.parametrize("run", [1, 3, 5])
@pytest.mark.parametrize("at_s", [0, 5, 9.9])
def test_a_few_wrong_time_stamps_change_nothing(kind: Kind, off_s: float, run: int, at_s: float) -> None:
    """Up to five wrong time stamps in a row, at the start, in the middle or at the end, move nothing, not even the items they belong to."""
    items = stream(10)
    of_kind = [number for number, one in enumerate(items) if one.kind == kind]
    first = min(round(at_s / 10 * len(of_kind)), len(of_kind) - run)
    run = min(run, 2) if first == 0 else run  # of the five items that the start is taken from, most must be right
    changed = restamp(items, {number: round(off_s * SECOND) for number in of_kind[first : first + run]})
    small = abs(off_s) < 0.5 and at_s != 5  # nothing on the other side tells them from pictures at an irregular rate
    assert farthest(place(changed)) <= (0.3 * SECOND if small else 1_000)  # ns, by rounding


@pytest.mark.parametrize("kind", ["sound", "picture"])
@pytest.mark.parametrize("off_s", [-4, 37])
def test_wrong_time_stamps_again_and_again_change_nothing(kind: Kind, off_s: int) -> None:
    """One in fifty is wrong, all the time: total time and step stay."""
    items = stream(60)
    of_kind = [number for number, one in enumerate(items) if one.kind == kind]
    assert farthest(place(restamp(items, dict.fromkeys(of_kind[::50], off_s * SECOND)))) <= 1_000


@given(leap_s=st.one_of(st.integers(-100_000, -1), st.integers(62, 100_000)), sound_after_s=st.floats(-0.7, 0.7))
@cases(50)
def test_a_leap_of_the_stream_is_no_leap_of_the_media_clock(leap_s: int, sound_after_s: float) -> None:
    """When a stream starts its time stamps again, both kinds go on where they were and stay in step."""
    items = stream(10, sound_after_s)
    changed = restamp(items, {n: leap_s * SECOND for n, one in enumerate(items) if one.true_ns >= 5 * SECOND})
    assert farthest(place(changed)) <= BLOCK


@given(pause_s=st.floats(0.2, 59.0), sound_after_s=st.floats(-0.7, 0.7))
@cases(50)
def test_a_pause_of_the_recording_stays_a_pause(pause_s: float, sound_after_s: float) -> None:
    """A gap of some seconds in both kinds is real: it is not closed up."""
    pause = round(pause_s * SECOND)
    items = [
        one if one.true_ns < 5 * SECOND else Item(one.kind, one.true_ns + pause, one.true_ns + pause) for one in stream(10, sound_after_s)
    ]
    assert farthest(place(items)) == 0


@pytest.mark.parametrize("kind", ["sound", "picture"])
@pytest.mark.parametrize("sound_after_s", [-0.7, 0.0, 0.7])
@pytest.mark.parametrize("gap_s", [0.2, 1.0, 4.0, 20.0])
def test_a_gap_of_one_kind_stays_a_gap(kind: Kind, sound_after_s: float, gap_s: float) -> None:
    """Where sound or pictures are lost while the other kind goes on, what comes after the gap keeps its time."""
    items = [one for one in stream(30, sound_after_s) if one.kind != kind or not 5 * SECOND <= one.true_ns < (5 + gap_s) * SECOND]
    assert farthest(place(items)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sound", "picture"])
@pytest.mark.parametrize("sound_after_s", [-3.0, -0.7, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("step_s", [-30, -2, 2, 30, 3_000])
def test_a_lasting_step_of_one_kind_takes_it_out_of_step_with_nothing(kind: Kind, sound_after_s: float, step_s: int) -> None:
    """A step of one kind alone moves no media time, however the file interleaves the kinds."""
    items = stream(20, sound_after_s)
    changed = restamp(items, {n: step_s * SECOND for n, one in enumerate(items) if one.kind == kind and one.true_ns >= 5 * SECOND})
    assert farthest(place(changed)) <= PICTURE


def test_pictures_at_an_irregular_rate_keep_their_times() -> None:
    """A recording of a screen has pictures when something moves: their time stamps are theirs."""
    shown = {0.0, 0.1, 0.2, 3.0, 3.1, 9.0, 9.04, 9.08, 15.5, 18.0}
    pictures = [Item("picture", round(t * SECOND), round(t * SECOND)) for t in shown]
    items = sorted([*(one for one in stream(20) if one.kind == "sound"), *pictures], key=lambda one: one.true_ns)
    assert farthest(place(items)) == 0


def test_streams_one_behind_the_other_keep_their_times() -> None:
    """A file that holds all pictures before all sound loses nothing."""
    items = sorted(stream(20), key=lambda one: one.kind)
    assert farthest(place(items)) == 0


def test_a_leap_is_held_for_no_longer_than_two_seconds() -> None:
    """A lasting step is followed within two seconds of media, in which few items wait."""
    for kinds in (("sound",), ("picture",), ("sound", "picture")):
        timeline: Timeline[Item] = Timeline({"sound": 0, "picture": 0}, 0)
        waiting = 0
        for one in stream(20):
            stamp = one.true_ns - (30 * SECOND if one.kind in kinds and one.true_ns > 5 * SECOND else 0)
            waiting += 1 - len(timeline.push(one.kind, stamp, one.length_ns, one))
            assert waiting <= 2 * (25 + 47)
            if one.true_ns > 7.1 * SECOND:
                assert waiting == 0


@pytest.mark.parametrize("kind", ["sound", "picture"])
@pytest.mark.parametrize("stuck_s", [-30.0, 5.0, 30.0])
def test_time_stamps_that_stand_still_hold_nothing_up(kind: Kind, stuck_s: float) -> None:
    """A clock that stops, at any time, is no clock: sound goes on by its length, and what waits stays bounded."""
    timeline: Timeline[Item] = Timeline({"sound": 0, "picture": 0}, 0)
    waiting, newest = 0, 0
    for one in stream(30):
        stamp = round(stuck_s * SECOND) if one.kind == kind and one.true_ns >= 5 * SECOND else one.true_ns
        placed = timeline.push(one.kind, stamp, one.length_ns, one)
        waiting += 1 - len(placed)
        newest = max([newest, *(time for time, placed_kind, _ in placed if placed_kind == "sound")])
        assert waiting <= 3 * 47
        assert kind == "picture" or abs(newest - one.true_ns) < 3 * SECOND


def test_what_is_held_is_kept_small() -> None:
    """Items that wait are replaced by what *keep* makes of them."""
    timeline: Timeline[str] = Timeline({"picture": 0}, 0, keep=str.upper)
    timeline.push("picture", 0, 0, "a")
    assert timeline.push("picture", 90 * SECOND, 0, "b") == []
    assert [item for _, _, item in timeline.push("picture", 2 * PICTURE, 0, "c")] == ["B", "c"]


def test_an_item_before_any_time_stamp_is_dropped() -> None:
    """Without any time stamp of its kind, an item has no place."""
    timeline: Timeline[str] = Timeline({"sound": 0}, 0)
    assert timeline.push("picture", None, 0, "a") == []


def mishaps(seed: int) -> list[Item]:
    """Return 30 s of a stream with outliers, missing stamps, and every 5 s a step of one kind, a restart, a wrap or a pause."""
    rng = Random(seed)
    sound_after_s, jitter = rng.uniform(-0.7, 0.7), rng.choice([0, 2_000_000, 10_000_000])
    offset: dict[Kind, int] = {"sound": 0, "picture": 0}
    pause = 0
    changes = [rng.choice(["sound", "picture", "restart", "wrap", "pause", "nothing"]) for _ in range(5)]
    sizes = [rng.choice([-1, 1]) * (rng.randrange(1, 50) + rng.uniform(0.3, 0.7)) for _ in changes]  # none hides an outlier
    at = [5 * number * SECOND for number in range(7)]
    items: list[Item] = []
    changed_at: list[int] = []
    base = sorted(stream(30, 0.0), key=lambda one: one.true_ns)
    for number, (begin, end) in enumerate(pairwise(at)):
        if number:
            change, size = changes[number - 1], round(sizes[number - 1] * SECOND)
            if change in offset:
                offset[change] += size
            elif change == "restart":
                anew = [-pause - begin + rng.randrange(1_000 * SECOND) for _ in range(100)]
                restarts = (new for new in anew if all(not -1 < (new - old) / SECOND < 62 for old in offset.values()))
                offset = dict.fromkeys(offset, next(restarts))
            elif change == "wrap":
                offset = {kind: value - 95_443 * SECOND for kind, value in offset.items()}
            elif change == "pause":
                changed_at += [begin + pause, begin + pause + abs(size)]
                pause += abs(size)
        items += [
            Item(one.kind, one.true_ns + pause + offset[one.kind] + rng.randint(-jitter, jitter), one.true_ns + pause)
            for one in base
            if begin <= one.true_ns < end
        ]
    items.sort(key=lambda one: one.true_ns + (sound_after_s * SECOND if one.kind == "sound" else 0))
    share = rng.choice([0.0, 0.002, 0.02])
    wrong = [None, -40_000, -4, -1, 1, 4, 37, 400]
    whole = [n for n, one in enumerate(items) if all(abs(one.true_ns - change) > SECOND // 10 for change in changed_at)]
    picked = {n: rng.choice(wrong) for n in whole if rng.random() < share}  # beside a pause nobody can say on which side an outlier was
    return restamp(items, {n: None if off is None else off * SECOND for n, off in picked.items()})


@given(st.integers(0, 2**32))
@settings(cases(60), derandomize=True)  # a pause that undoes an earlier step by chance has two readings
def test_any_mixture_of_mishaps_leaves_sound_and_picture_in_step(seed: int) -> None:
    """Outliers, steps, pauses, wraps, restarts and missing stamps: never 100 ms apart, and the total right within 1 s."""
    items = mishaps(seed)
    placed = place(items)
    total = max(time for time, _ in placed)
    assert abs(total - max(item.true_ns for item in items)) < SECOND
    off: dict[tuple[int, Kind], list[int]] = {}
    for time, item in placed:
        off.setdefault((item.true_ns // SECOND, item.kind), []).append(time - item.true_ns)
    for second in range(total // SECOND):
        sound, picture = off.get((second, "sound"), []), off.get((second, "picture"), [])
        if sound and picture:
            assert max(*sound, *picture) - min(*sound, *picture) <= SECOND // 10
