"""Tests of the rule for subscribers, and of its use in `streamav subscribe`."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases
from rigs.published_events import EPOCH_NS, MODEL, make_event, story, ulid

from streamav.publish.consumer import MOST_EVENTS, Consumer
from streamav.publish.message import EventMessage, describe, encode
from streamav.publish.subscriber import MOST_LATENCIES, Latencies, Subscriber
from streamav.types import EventPhase

ALL = [describe(event, MODEL, 0.1) for number in (1, 2) for event in story(number, updates=3)]


@cases(100)
@given(data=st.data())
def test_duplicates_and_disorder_change_nothing(data: st.DataObject) -> None:
    """Every delivery that holds the newest message of each event gives the same final state."""
    extra = data.draw(st.lists(st.sampled_from(ALL), max_size=20))
    newest = [message for message in ALL if message.type == "end"]
    delivery = data.draw(st.permutations(extra + newest))
    consumer = Consumer(lambda message: message)
    for message in delivery:
        consumer.take(message)
    assert consumer.events == newest


def test_a_consumer_forgets_the_oldest_beyond_its_bound() -> None:
    """The number of stored events never exceeds the bound."""
    consumer = Consumer(lambda message: message, max_events=2)
    for number in (1, 2, 3):
        consumer.take(describe(make_event(number), MODEL, 0.1))
    assert [message.id for message in consumer.events] == [ulid(2), ulid(3)]


def test_the_command_measures_from_the_end_of_the_newest_second() -> None:
    """Latency is measured from the end of the newest segment of an open event; ends are not measured, duplicates are not shown."""
    shown: list[tuple[EventMessage, float | None]] = []
    subscriber = Subscriber(show=lambda message, _, latency_s: shown.append((message, latency_s)), count=3)
    second_s = EPOCH_NS / 1e9
    assert subscriber.take(encode(make_event(1, 1, start_s=5), MODEL, 0.2), second_s + 6.25) is None
    assert subscriber.take(encode(make_event(1, 1, start_s=5), MODEL, 0.2), second_s + 6.5) is None
    assert subscriber.take(encode(make_event(1, 2, EventPhase.UPDATE, start_s=5, seconds=2), MODEL, 0.2), second_s + 7.5) is None
    assert subscriber.take(b"nonsense", second_s) is not None
    assert not subscriber.done
    assert subscriber.take(encode(make_event(1, 3, EventPhase.END, start_s=5, seconds=2), MODEL, 2.2), second_s + 9.5) is None
    assert subscriber.done
    assert [latency_s for _, latency_s in shown] == [0.25, 0.5, None]
    summary = subscriber.summary(10.0)
    assert (summary["messages"], summary["duplicates"], summary["invalid"]) == (3, 1, 1)
    assert summary["arrival_latency_s"] == {"count": 2, "p50": 0.375, "p95": 0.4875, "max": 0.5}
    assert [(e["label"], e["media_start_s"], e["media_end_s"]) for e in summary["events"]] == [("bark", 5.0, 7.0)]


@pytest.mark.slow
def test_the_memory_of_a_subscriber_is_bounded_whatever_is_sent() -> None:
    """Of very many hostile ids with texts of the largest length, only the newest events are kept, without their texts.

    The bound applies to what is kept; the counts are of all messages.
    """
    subscriber = Subscriber(show=lambda *_: None)
    subscriber.consumer = Consumer(subscriber.consumer._keep, max_events=50)
    hostile = describe(make_event(1), MODEL, 0.2).model_copy(update={"label_name": "x" * 1000, "zones": ("z" * 1000,) * 100})
    tree = json.loads(hostile.to_bytes())
    sizes = []
    tracemalloc.start()
    try:
        for round_number in range(2):
            for number in range(1500):
                data = json.dumps(tree | {"id": ulid(1 + 1500 * round_number + number)}).encode()
                assert subscriber.take(data, EPOCH_NS / 1e9 + 20.0) is None
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    summary = subscriber.summary(1.0)
    assert (summary["messages"], len(subscriber.consumer.events)) == (3000, 50)
    assert all(len(json.dumps(event)) < 1000 for event in subscriber.consumer.events)
    assert sizes[1] < sizes[0] + 500_000, "the second thousand and a half took memory of their own"
    assert isinstance(latency := summary["arrival_latency_s"], dict)
    assert latency["count"] == 3000


def test_an_event_that_goes_on_is_not_forgotten_for_being_old() -> None:
    """The event whose last message is oldest is removed first, not the event that began first."""
    consumer = Consumer(lambda message: message.id, max_events=2)
    for number, sequence in ((1, 1), (2, 1), (1, 2), (3, 1)):
        consumer.take(describe(make_event(number, sequence, EventPhase.UPDATE), MODEL, 0.1))
    assert consumer.events == [ulid(1), ulid(3)]


def test_latencies_are_bounded() -> None:
    """All latencies are counted and the maximum is of all; median and percentile are of the newest."""
    latencies = Latencies()
    for value in [9.0] + [1.0] * MOST_LATENCIES + [2.0] * MOST_LATENCIES:
        latencies.add(value)
    assert latencies.summary() == {"count": 2 * MOST_LATENCIES + 1, "p50": 2.0, "p95": 2.0, "max": 9.0}
    assert len(latencies._newest) == MOST_LATENCIES
    assert Latencies().summary() == {"count": 0, "p50": None, "p95": None, "max": None}


def test_it_remembers_as_many_events_as_it_says() -> None:
    """By default ten thousand events are kept."""
    subscriber = Subscriber(show=lambda *_: None)
    message = describe(make_event(1), MODEL, 0.2)
    for number in range(MOST_EVENTS + 10):
        subscriber.consumer.take(message.model_copy(update={"id": ulid(number)}))
    assert len(subscriber.consumer.events) == MOST_EVENTS
