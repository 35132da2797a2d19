"""Tests of the tracker: events from the scores of segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.random_scores import latencies, probabilities, revisions

from streamav.errors import ShapeError
from streamav.thresholds import Thresholds
from streamav.tracker import TRANSITIONS, Happening, LabelOptions, State, Tracker, TrackerOptions, locate, ulid
from streamav.types import EndReason, Event, EventPhase, SegmentScores

EPOCH_NS = 1_789_381_200_000_000_000
SECOND_NS = 1_000_000_000
NEW, UPDATE, END = EventPhase.NEW, EventPhase.UPDATE, EventPhase.END


def make_tracker(min_segments: int = 1, gap_segments: int = 1, labels: Sequence[str] = ("bark",), *, media_ids: bool = True) -> Tracker:
    options = [
        LabelOptions(
            label=label,
            label_name=label.title(),
            class_id=number,
            thresholds=Thresholds(on=0.625, off=0.375, min_segments=min_segments, gap_segments=gap_segments),
        )
        for number, label in enumerate(labels)
    ]
    made = Tracker(TrackerOptions(source="porch", session="s", labels=tuple(options), media_ids=media_ids))
    made.follow(EPOCH_NS)
    return made


def scored(index: int, *shares: float, final: bool = True, age: int = 0) -> SegmentScores:
    return SegmentScores(
        index=index,
        age=age,
        final=final,
        relevance=shares[0],
        class_probabilities=np.array([*shares, 0.0], np.float32),
        agreement=0.5,
        attention=np.full((2, 2), 0.25, np.float32),
        level_dbfs=-20.0,
    )


def rounds_of(thought: Sequence[Sequence[float]], latency: int, first: int = 0) -> tuple[list[list[SegmentScores]], list[SegmentScores]]:
    """Return what an aggregation would give: thought[t][age] for each segment, and at the end the rest as final."""
    rounds = []
    for newest in range(len(thought)):
        seen = range(max(0, newest - latency + 1), newest + 1)
        rounds.append([scored(first + t, thought[t][newest - t], final=newest - t == latency - 1, age=newest - t) for t in seen])
    end = len(thought) - 1
    rest = [scored(first + t, thought[t][end - t], age=end - t) for t in range(max(0, end - latency + 2), end + 1)]
    return rounds, rest


def play(tracker: Tracker, thought: Sequence[Sequence[float]], latency: int, reason: EndReason = EndReason.ENDED) -> list[Event]:
    rounds, rest = rounds_of(thought, latency)
    return [event for one in rounds for event in tracker.push(one)] + tracker.close(rest, reason)


def simple(tracker: Tracker, scores: Sequence[float], reason: EndReason = EndReason.ENDED) -> list[Event]:
    """Play a stream whose segments are final at once."""
    return play(tracker, [[score] * 10 for score in scores], 1, reason)


def by_id(events: Sequence[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.id, []).append(event)
    return found


def runs(scores: Sequence[float], min_segments: int, gap_segments: int) -> list[tuple[int, int]]:
    """Return the events of final scores by a simple search: start and end (exclusive) of each."""
    found = []
    start = 0
    while start < len(scores):
        if scores[start] < 0.625:
            start += 1
            continue
        last, place = start, start
        while place < len(scores) and place - last - 1 <= gap_segments:
            last = place if scores[place] >= 0.375 else last
            place += 1
        if sum(score >= 0.625 for score in scores[start : last + 1]) >= min_segments:
            found.append((start, last + 1))
        start = last + 1
    return found


def spans(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Return start and end in seconds of the events that ended confirmed."""
    return sorted(
        (event.start_ns // SECOND_NS, (event.end_ns or 0) // SECOND_NS) for event in events if event.phase is END and event.confirmed
    )


def test_an_event_begins_goes_on_and_ends() -> None:
    """A run above the thresholds gives new, an update for each segment, and end after a pause that is too long."""
    events = simple(make_tracker(), [0.1, 0.7, 0.8, 0.4, 0.1, 0.65, 0.2, 0.1, 0.0])
    assert [event.phase for event in events] == [NEW, UPDATE, UPDATE, UPDATE, END]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    end = events[-1]
    assert (end.start_ns, end.end_ns, end.end_reason, end.confirmed) == (SECOND_NS, 6 * SECOND_NS, EndReason.ENDED, True)
    assert [round(one.score, 2) for one in end.segments] == [0.7, 0.8, 0.4, 0.1, 0.65]
    assert end.score == pytest.approx(0.65)
    assert end.top_score == pytest.approx(0.8)
    assert end.newest_end_ns == 8 * SECOND_NS


def test_a_pause_longer_than_the_gap_parts_two_events() -> None:
    """With gap 1, two segments below `off` end the event; the next event has its own id."""
    events = simple(make_tracker(), [0.7, 0.1, 0.7, 0.1, 0.1, 0.7])
    assert spans(events) == [(0, 3), (5, 6)]
    assert len(by_id(events)) == 2


def test_two_labels_are_active_at_once() -> None:
    """Two labels are independent: both can have an open event."""
    tracker = make_tracker(labels=("bark", "siren"))
    events = [event for index in range(3) for event in tracker.push([scored(index, 0.7, 0.65)])]
    assert [(event.label, event.phase) for event in events[:2]] == [("bark", NEW), ("siren", NEW)]
    assert {event.label for event in tracker.close()} == {"bark", "siren"}


def test_an_early_guess_that_does_not_hold_is_retracted() -> None:
    """A segment that is loud at age 0 and quiet when final gives new and end, never confirmed."""
    thought = [[0.1] * 10, [0.9, 0.2, 0.1, 0.1, 0, 0, 0, 0, 0, 0], [0.1] * 10, [0.1] * 10]
    events = play(make_tracker(), thought, 3)
    assert [(event.phase, event.confirmed, event.end_reason) for event in events] == [
        (NEW, False, None),
        (END, False, EndReason.RETRACTED),
    ]
    assert events[-1].newest_end_ns == 4 * SECOND_NS


def test_an_event_is_confirmed_when_enough_seconds_are_final() -> None:
    """With latency 3 and min_segments 2, the second final segment confirms the event."""
    events = play(make_tracker(min_segments=2), [[0.9] * 10] * 6, 3)
    assert [event.confirmed for event in events] == [False, False, False, True, True, True, True]
    assert events[0].newest_end_ns == SECOND_NS


def test_the_start_may_move_while_provisional() -> None:
    """A segment that later turns out to belong to the event moves its start, and the id stays."""
    thought = [[0.1, 0.7, 0.7] + [0.7] * 7, *[[0.7] * 10] * 5]
    events = play(make_tracker(min_segments=2), thought, 3)
    assert events[0].start_ns in {0, SECOND_NS}
    assert len(by_id(events)) == 1
    assert spans(events) == [(0, 6)]


def test_an_onset_that_turns_out_to_be_later_is_no_retraction() -> None:
    """When the first segment falls but the next one holds, the event stays one event and its start moves."""
    thought = [[0.1] * 10, [0.9, 0.9, *[0.2] * 8], *[[0.9] * 10] * 4]
    events = play(make_tracker(), thought, 3)
    assert [event.phase for event in events[:3]] == [NEW, UPDATE, UPDATE]
    assert len(by_id(events)) == 1
    assert spans(events) == [(2, 6)]


@pytest.mark.parametrize(
    ("reason", "scores", "expected", "confirmed"),
    [
        (EndReason.SHUTDOWN, [0.9, 0.9], EndReason.SHUTDOWN, True),
        (EndReason.SOURCE_LOST, [0.9, 0.9], EndReason.SOURCE_LOST, True),
        (EndReason.ENDED, [0.9, 0.9], EndReason.ENDED, True),
        (EndReason.ENDED, [0.9], EndReason.RETRACTED, False),
        (EndReason.SHUTDOWN, [0.9], EndReason.SHUTDOWN, False),
    ],
)
def test_closing_ends_what_is_open(reason: EndReason, scores: list[float], expected: EndReason, confirmed: bool) -> None:
    """Closing ends each open event at its last segment with the given reason; at the end of the source an unconfirmed one is retracted."""
    end = simple(make_tracker(min_segments=2), scores, reason)[-1]
    assert (end.phase, end.end_reason, end.confirmed, end.end_ns) == (END, expected, confirmed, len(scores) * SECOND_NS)


def test_an_event_inside_one_push_is_told_from_new_to_end() -> None:
    """An event that begins and ends in the ten segments that the first window makes final is reported with new and end."""
    tracker = make_tracker()
    events = tracker.push([scored(index, 0.9 if index in {2, 3} else 0.1, age=9 - index) for index in range(10)])
    assert [event.phase for event in events] == [NEW, END]
    assert all(event.confirmed for event in events)
    assert spans(events) == [(2, 4)]


def test_nothing_is_said_twice() -> None:
    """A segment that changes nothing about an event gives no message."""
    events = simple(make_tracker(gap_segments=3), [0.9, 0.1, 0.1, 0.1])
    assert [event.phase for event in events] == [NEW, END]


def test_ids_sort_by_time_and_do_not_depend_on_the_hour() -> None:
    """Ids of a replay hold media time, ids of a live run UTC; labels and sources change only the hash part."""
    replay, live = simple(make_tracker(), [0.1, 0.9])[0], simple(make_tracker(media_ids=False), [0.1, 0.9])[0]
    assert replay.id[:10] == ulid(1000, "")[:10]
    assert live.id[:10] == ulid((EPOCH_NS + SECOND_NS) // 1_000_000, "")[:10]
    assert replay.id[10:] == live.id[10:]
    assert len(replay.id) == 26


def test_a_ulid_is_crockford_base_32() -> None:
    """The example of the ULID specification holds: 1469918176385 ms is 01ARYZ6S41."""
    assert ulid(1469918176385, "x")[:10] == "01ARYZ6S41"
    assert set(ulid(2**48 - 1, "y")) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@given(st.data(), st.integers(1, 30), latencies, st.integers(1, 3), st.integers(0, 3))
def test_the_life_of_events(data: st.DataObject, length: int, latency: int, min_segments: int, gap_segments: int) -> None:
    """For any scores, the messages of each event follow the contract."""
    events = play(make_tracker(min_segments, gap_segments), data.draw(revisions(length)), latency)
    for messages in by_id(events).values():
        assert [event.phase for event in messages] == [NEW, *[UPDATE] * (len(messages) - 2), END]
        assert [event.sequence for event in messages] == list(range(1, len(messages) + 1))
        assert len({(event.label, event.source) for event in messages}) == 1
        for earlier, later in pairwise(messages):
            assert later.confirmed >= earlier.confirmed
            assert later.top_score >= earlier.top_score
            if earlier.confirmed:
                assert later.start_ns == earlier.start_ns
            if later.phase is UPDATE:
                assert later.newest_end_ns > earlier.newest_end_ns
        end = messages[-1]
        assert end.end_ns is not None
        assert end.end_ns - end.start_ns >= SECOND_NS
        assert end.end_ns <= end.newest_end_ns
        assert end.confirmed == (end.end_reason is not EndReason.RETRACTED)
        for event in messages:
            assert 1 <= len(event.segments) <= 10
            assert event.segments[-1].start_ns < event.newest_end_ns
            starts = [one.start_ns for one in event.segments]
            assert starts == list(range(starts[0], starts[-1] + 1, SECOND_NS))
    held = spans(events)
    assert all(left[1] <= right[0] for left, right in pairwise(held))


@given(st.data(), st.integers(1, 30), latencies, st.integers(1, 3), st.integers(0, 3))
def test_confirmed_events_are_those_of_the_final_scores(
    data: st.DataObject, length: int, latency: int, min_segments: int, gap_segments: int
) -> None:
    """Scores that are not final do not change the confirmed events."""
    thought = data.draw(revisions(length))
    final = [thought[t][min(latency - 1, length - 1 - t)] for t in range(length)]
    events = play(make_tracker(min_segments, gap_segments), thought, latency)
    assert spans(events) == runs(final, min_segments, gap_segments)


@given(probabilities, latencies)
def test_a_longer_latency_only_delays(scores: list[float], latency: int) -> None:
    """When all windows agree, the latency changes when events are reported, but not which events."""
    thought = [[score] * 10 for score in scores]
    assert spans(play(make_tracker(), thought, latency)) == spans(simple(make_tracker(), scores))


def test_a_new_stretch_after_a_loss_goes_on_with_other_ids() -> None:
    """After a close the tracker continues at a later segment, and ids never repeat."""
    tracker = make_tracker()
    first = tracker.push([scored(0, 0.9)]) + tracker.close(reason=EndReason.SOURCE_LOST)
    second = tracker.push([scored(7, 0.9)]) + tracker.close()
    assert first[0].id != second[0].id
    assert [event.phase for event in first + second] == [NEW, END, NEW, END]


def test_the_table_knows_every_way_out() -> None:
    """Every state can be left, and only END leads to the state NOTHING."""
    assert set(TRANSITIONS) == set(State)
    for state, ways in TRANSITIONS.items():
        for happening, (after, phase) in ways.items():
            assert (phase is NEW) == (state is State.NOTHING)
            assert (phase is END) == (after is State.NOTHING)
            assert happening in Happening


def test_the_place_is_the_peak_and_the_cells_around_it() -> None:
    """The box holds the cells of at least half the peak that are connected with it, and no other strong cell."""
    grid = np.full((7, 7), 0.001, np.float32)
    grid[2, 3], grid[2, 4], grid[6, 0] = 0.4, 0.3, 0.25
    place = locate([grid])
    assert place is not None
    assert place.peak == pytest.approx((3.5 / 7, 2.5 / 7))
    assert place.box == pytest.approx((3 / 7, 2 / 7, 5 / 7, 3 / 7))
    assert place.grid == (7, 7)


def test_flat_attention_has_no_box() -> None:
    """Flat attention gives no box."""
    place = locate([np.full((7, 7), 1 / 49, np.float32)])
    assert place is not None
    assert place.box is None
    assert locate([]) is None


def test_a_label_needs_a_column() -> None:
    """A negative class_id is refused, because it would read the probability of background."""
    with pytest.raises(ShapeError, match="class_id"):
        LabelOptions(label="bark", label_name="Bark", class_id=-1, thresholds=Thresholds(on=0.6, off=0.35))


@given(st.data(), st.integers(5, 30), latencies)
def test_the_life_of_events_under_changes(data: st.DataObject, length: int, latency: int) -> None:
    """For any scores, and changes of labels and thresholds at any time: one new and one end for each id, in order, confirmed for good."""
    rounds, rest = rounds_of(data.draw(revisions(length)), latency)
    tracker = make_tracker(labels=("bark",))
    changes = data.draw(
        st.dictionaries(st.integers(0, length - 1), st.tuples(st.booleans(), st.sampled_from([0.375, 0.625, 1.0]), st.integers(1, 3)))
    )
    events: list[Event] = []
    on = True
    for number, scores in enumerate(rounds):
        events += tracker.push(scores)
        if number in changes:
            on, threshold, least = changes[number]
            rule = Thresholds(on=threshold, off=0.375, min_segments=least)
            events += tracker.change([LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=rule)] if on else [])
    events += tracker.close(rest)
    for messages in by_id(events).values():
        assert [event.phase for event in messages] == [NEW, *[UPDATE] * (len(messages) - 2), END]
        assert [event.sequence for event in messages] == list(range(1, len(messages) + 1))
        assert all(later.confirmed >= earlier.confirmed for earlier, later in pairwise(messages))
    held = spans(events)
    assert all(left[1] <= right[0] for left, right in pairwise(held))
