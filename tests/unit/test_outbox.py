"""Tests of the outbox: order, bounds, and which messages it removes when it is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases
from rigs.published_events import MODEL, make_event, story, ulid

from streamav.publish.message import describe
from streamav.publish.outbox import Outbox, Parcel
from streamav.types import Event, EventPhase

PLENTY = 10**9


def parcel(event: Event) -> Parcel:
    message = describe(event, MODEL, 0.1)
    return Parcel(event_id=event.id, topic="streamav/porch/event", payload=message.to_bytes(), message=message)


def contents(outbox: Outbox) -> list[tuple[str, int]]:
    """Take all messages out as the publisher does."""
    taken = []
    while (head := outbox.head) is not None:
        assert head.message is not None
        taken.append((head.event_id, head.message.seq))
        outbox.acknowledge(head)
    return taken


def test_a_message_stays_until_it_is_acknowledged() -> None:
    """The head stays the same until it is acknowledged; then the next message is the head."""
    outbox = Outbox(10, PLENTY)
    first, second = (outbox.put(parcel(event))[0] for event in story(1, 0))
    assert first is not None
    assert second is not None
    assert outbox.head is first
    outbox.acknowledge(first)
    assert outbox.head is second
    outbox.acknowledge(second)
    assert not len(outbox)
    assert not outbox.bytes


def test_a_full_outbox_first_merges_updates() -> None:
    """A full outbox keeps only the newest update of an event, at its place, and counts no loss."""
    outbox = Outbox(4, PLENTY)
    for event in story(1, updates=5):
        outbox.put(parcel(event))
    assert outbox.dropped == 0
    assert outbox.merged == 3
    assert contents(outbox) == [(ulid(1), 1), (ulid(1), 5), (ulid(1), 6), (ulid(1), 7)]


def test_then_the_oldest_event_goes_as_a_whole() -> None:
    """When merging is not enough, the oldest event is dropped from new to end, and each of its messages is counted."""
    outbox = Outbox(4, PLENTY)
    for number in (1, 2, 3):
        for event in story(number, updates=0):
            outbox.put(parcel(event))
    assert outbox.dropped == 2
    assert contents(outbox) == [(ulid(2), 1), (ulid(2), 2), (ulid(3), 1), (ulid(3), 2)]


def test_an_event_that_subscribers_know_keeps_its_end() -> None:
    """When the new of an event is published, its end stays, and messages of other events are dropped first."""
    outbox = Outbox(3, PLENTY)
    known = story(1, updates=1)
    outbox.put(parcel(known[0]))
    outbox.acknowledge(outbox.head)  # type: ignore[arg-type]
    for event in known[1:]:
        outbox.put(parcel(event))
    for number in (2, 3):
        for event in story(number, updates=0):
            outbox.put(parcel(event))
    left = contents(outbox)
    assert (ulid(1), 3) in left
    assert (ulid(2), 1) not in left
    assert (ulid(2), 2) not in left


def test_a_message_dropped_on_its_way_is_not_taken_out_twice() -> None:
    """When the head is dropped while it is being published, its acknowledgement removes no other message."""
    outbox = Outbox(2, PLENTY)
    for event in story(1, updates=0):
        outbox.put(parcel(event))
    sending = outbox.head
    assert sending is not None
    for event in story(2, updates=0):
        outbox.put(parcel(event))
    outbox.acknowledge(sending)
    assert contents(outbox) == [(ulid(2), 1), (ulid(2), 2)]


def test_an_event_whose_new_is_on_its_way_keeps_its_end() -> None:
    """When the outbox fills up while the `new` of an event is being sent, the `end` of the event stays: it is never open for ever."""
    outbox = Outbox(3, PLENTY)
    known = story(1, updates=0)
    outbox.put(parcel(known[0]))
    sending = outbox.head
    assert sending is not None
    outbox.sending(sending)
    outbox.put(parcel(known[1]))
    for number in (2, 3):
        for event in story(number, updates=0):
            outbox.put(parcel(event))
    outbox.acknowledge(sending)
    assert contents(outbox)[0] == (ulid(1), 2)


def test_the_later_messages_of_a_dropped_event_are_dropped_too() -> None:
    """When the beginning of an open event was dropped, its updates and its end are dropped and counted: whole events go or stay."""
    outbox = Outbox(2, PLENTY)
    first, update, end = (parcel(event) for event in story(1, updates=1))
    for one in (first, parcel(make_event(2)), parcel(make_event(3))):
        outbox.put(one)
    assert outbox.is_gone(ulid(1))
    assert outbox.put(update) == (None, [])
    assert outbox.put(end) == (None, [])
    assert outbox.dropped == 3
    assert not outbox.is_gone(ulid(1))
    assert contents(outbox) == [(ulid(2), 1), (ulid(3), 1)]


def test_what_an_earlier_run_left_goes_first_and_keeps_its_ends() -> None:
    """Restored messages go before the others. Those that may have been on their way keep their events, and so does one without its new."""
    before = Outbox(100, PLENTY)
    for number in range(1, 11):  # 20 messages: as many as may be on their way
        for event in story(number, updates=0):
            before.put(parcel(event))
    for event in (make_event(11, 3, EventPhase.END), *story(12, updates=0)):
        before.put(parcel(event))
    outbox = Outbox(22, PLENTY)
    outbox.put(parcel(make_event(13)))
    outbox.restore(before)
    outbox.put(parcel(make_event(14)))
    left = contents(outbox)
    assert left[:21] == [(ulid(number), sequence) for number in range(1, 11) for sequence in (1, 2)] + [(ulid(11), 3)]
    assert not any(event_id == ulid(12) for event_id, _ in left)


def test_messages_on_their_way_stay_until_they_are_answered() -> None:
    """A full outbox neither merges nor drops a message that was sent; after a loss all that were sent follow again, oldest first."""
    outbox = Outbox(3, PLENTY)
    sent = [outbox.put(parcel(event))[0] for event in story(1, updates=2)[:3]]
    for one in sent:
        assert one is not None
        assert outbox.following is one
        outbox.sending(one)
    for event in (*story(2, updates=0), *story(3, updates=0)):
        outbox.put(parcel(event))
    assert [one.number for one in outbox.on_their_way] == [1, 2, 3]
    assert [one.number for one in outbox][:3] == [1, 2, 3]
    assert outbox.merged == 0
    outbox.lost()
    assert outbox.following is sent[0]


def test_the_bound_in_bytes_holds_even_for_one_message() -> None:
    """A message larger than the bound is dropped and counted."""
    outbox = Outbox(10, 500)
    outbox.put(parcel(make_event()))
    assert (len(outbox), outbox.bytes, outbox.dropped) == (0, 0, 1)


@cases(100)
@given(
    steps=st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=60),
    max_messages=st.integers(1, 8),
    max_bytes=st.integers(1000, 20_000),
)
def test_bounds_order_and_wholeness(steps: list[tuple[int, bool]], max_messages: int, max_bytes: int) -> None:
    """The bounds always hold, seq rises for each id, every loss is counted, and an unpublished event is dropped as a whole."""
    outbox = Outbox(max_messages, max_bytes)
    sequences: dict[int, int] = {}
    put, taken = 0, []
    for number, acknowledge in steps:
        if acknowledge and (head := outbox.head) is not None:
            assert head.message is not None
            taken.append((head.event_id, head.message.seq))
            outbox.sending(head)
            outbox.acknowledge(head)
            continue
        sequence = sequences[number] = sequences.get(number, 0) + 1
        phase = EventPhase.NEW if sequence == 1 else EventPhase.UPDATE
        outbox.put(parcel(make_event(number, sequence, phase)))
        put += 1
        assert len(outbox) <= max_messages
        assert outbox.bytes <= max_bytes
    taken += contents(outbox)
    assert len(taken) + outbox.dropped + outbox.merged == put
    for number in sequences:
        mine = [sequence for event_id, sequence in taken if event_id == ulid(number)]
        assert mine == sorted(set(mine))
