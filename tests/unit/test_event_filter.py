"""Tests of the filters of `streamav subscribe`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.published_events import MODEL, events, make_event, story

from streamav.cli import main
from streamav.publish.event_filter import EventFilter
from streamav.publish.message import describe
from streamav.publish.subscriber import Subscriber
from streamav.types import Event

FILTERS = st.builds(
    EventFilter,
    sources=st.sampled_from([frozenset(), frozenset({"porch"}), frozenset({"door", "porch"})]),
    labels=st.sampled_from([frozenset(), frozenset({"bark"})]),
    zones=st.sampled_from([frozenset(), frozenset({"gate"})]),
    states=st.sampled_from([frozenset(), frozenset({"end"}), frozenset({"new", "update"})]),
    min_score=st.sampled_from([0.0, 0.5]),
    confirmed=st.booleans(),
    since_ts=st.sampled_from([None, 1e9]),
)


@given(events(), FILTERS, st.sampled_from(["porch", "window"]), st.sampled_from([(), ("gate",)]))
def test_a_message_passes_when_every_kind_of_filter_holds(event: Event, wanted: EventFilter, source: str, zones: tuple[str, ...]) -> None:
    """For any message and filters: it passes exactly when it passes each filter alone."""
    message = describe(replace(event, source=source, zones=zones), MODEL, 0.1)
    alone = [
        EventFilter(sources=wanted.sources),
        EventFilter(labels=wanted.labels),
        EventFilter(zones=wanted.zones),
        EventFilter(states=wanted.states),
        EventFilter(min_score=wanted.min_score),
        EventFilter(confirmed=wanted.confirmed),
        EventFilter(since_ts=wanted.since_ts),
    ]
    assert wanted.passes(message) == all(one.passes(message) for one in alone)
    assert EventFilter().passes(message)


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (EventFilter(sources=frozenset({"door"})), 0),
        (EventFilter(labels=frozenset({"bark"})), 3),
        (EventFilter(states=frozenset({"end"})), 1),
        (EventFilter(min_score=0.95), 0),
        (EventFilter(confirmed=True, zones=frozenset()), 3),
        (EventFilter(zones=frozenset({"gate"})), 0),
        (EventFilter(since_ts=1e10), 0),
    ],
)
def test_what_is_left_out_is_counted_and_not_summed_up(wanted: EventFilter, shown: int) -> None:
    """The count, the latencies and the events of the summary are those that were shown; duplicates are still dropped."""
    told: list[str] = []
    subscriber = Subscriber(show=lambda message, _, __: told.append(message.type), wanted=wanted)
    for event in [*story(1), *story(1)]:
        assert subscriber.take(describe(event, MODEL, 0.1).to_bytes(), 1.8e9) is None
    summary = subscriber.summary(1.0)
    assert (len(told), subscriber.shown, subscriber.left_out, subscriber.consumer.dropped) == (shown, shown, 3 - shown, 3)
    assert len(summary["events"]) == (shown > 0)  # type: ignore[arg-type]
    assert json.dumps(summary)


def test_a_source_that_can_be_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An id with a wildcard or a slash would subscribe to other topics."""
    assert main(["subscribe", "--source", "+/x", "--for", "0.1"]) == 2
    assert "--source must be the id of a source" in capsys.readouterr().err


def test_the_newest_events_of_a_filter_are_kept() -> None:
    """Events that were left out do not stand in the summary, also where they came later."""
    subscriber = Subscriber(show=lambda *_: None, wanted=EventFilter(labels=frozenset({"cat"})))
    for event in (*story(1, label="cat"), make_event(2)):
        subscriber.take(describe(event, MODEL, 0.1).to_bytes(), 1.8e9)
    assert [one["label"] for one in subscriber.summary(1.0)["events"]] == ["cat"]  # type: ignore[attr-defined]
