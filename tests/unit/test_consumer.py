"""The rule for subscribers, and what `streamav subscribe` makes of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from rigs.published_events import CONTEXT, EPOCH_NS, make_event, story, ulid

from streamav.cli.subscribe import Subscriber
from streamav.publish.consumer import Consumer
from streamav.publish.message import EventMessage, describe, encode
from streamav.types import EventPhase

ALL = [describe(event, CONTEXT, 0.1) for number in (1, 2) for event in story(number, updates=3)]


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_duplicates_and_disorder_change_nothing(data: st.DataObject) -> None:
    """Any delivery that holds the newest message of each event ends in the same state."""
    extra = data.draw(st.lists(st.sampled_from(ALL), max_size=20))
    newest = [message for message in ALL if message.type == "end"]
    delivery = data.draw(st.permutations(extra + newest))
    consumer = Consumer()
    for message in delivery:
        consumer.take(message)
    assert consumer.events == newest


def test_a_consumer_forgets_the_oldest_beyond_its_bound() -> None:
    """Its memory does not grow for ever."""
    consumer = Consumer(max_events=2)
    for number in (1, 2, 3):
        consumer.take(describe(make_event(number), CONTEXT, 0.1))
    assert [message.id for message in consumer.events] == [ulid(2), ulid(3)]


def test_the_command_measures_from_the_end_of_the_newest_second() -> None:
    """An event that goes on is late by now minus the end of its newest second; an end is not measured; duplicates are not shown."""
    shown: list[tuple[EventMessage, float | None]] = []
    subscriber = Subscriber(show=lambda message, _, latency_s: shown.append((message, latency_s)), count=3)
    second_s = EPOCH_NS / 1e9
    assert subscriber.take(encode(make_event(1, 1, start_s=5), CONTEXT, 0.2), second_s + 6.25) is None
    assert subscriber.take(encode(make_event(1, 1, start_s=5), CONTEXT, 0.2), second_s + 6.5) is None
    assert subscriber.take(encode(make_event(1, 2, EventPhase.UPDATE, start_s=5, seconds=2), CONTEXT, 0.2), second_s + 7.5) is None
    assert subscriber.take(b"nonsense", second_s) is not None
    assert not subscriber.done
    assert subscriber.take(encode(make_event(1, 3, EventPhase.END, start_s=5, seconds=2), CONTEXT, 2.2), second_s + 9.5) is None
    assert subscriber.done
    assert [latency_s for _, latency_s in shown] == [0.25, 0.5, None]
    summary = subscriber.summary(10.0)
    assert (summary["messages"], summary["duplicates"], summary["invalid"]) == (3, 1, 1)
    assert summary["arrival_latency_s"] == {"count": 2, "p50": 0.375, "p95": 0.4875, "max": 0.5}
    assert [(e["label"], e["media_start_s"], e["media_end_s"]) for e in summary["events"]] == [("bark", 5.0, 7.0)]
