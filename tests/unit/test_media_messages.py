"""Tests that messages name the clip and the snapshot of an event once they can be fetched."""

from __future__ import annotations

import asyncio

import pytest
from rigs.published_events import MODEL, make_event, ulid

from streamav.publish.consumer import Consumer
from streamav.publish.fanout import FanOut
from streamav.publish.ledger import Ledger
from streamav.publish.message import EventMessage
from streamav.publish.retained import RetainedValues
from streamav.publish.topics import Topics
from streamav.types import EventPhase

CLIP, PICTURE = "http://nas:8735/api/events/x/clip", "http://nas:8735/api/events/x/snapshot"


def ledger(*, provisional: bool = True) -> Ledger:
    topics = Topics("streamav")
    retained = RetainedValues(topics, lambda: MODEL, {"porch": ["bark", "cat"]})
    return Ledger(topics, lambda: MODEL, retained, provisional=provisional)


def sent(made: Ledger, number: int, phase: EventPhase) -> list[EventMessage]:
    parcels, _ = made.event(make_event(number, phase=phase), 0.1, 0.0)
    return [parcel.message for parcel in parcels if parcel.message is not None]


@pytest.mark.parametrize("provisional", [True, False])
def test_one_update_after_the_end_names_the_clip(provisional: bool) -> None:
    """When the clip is ready after the end, one update follows: seq goes up, only the keys of clip and snapshot and the type differ."""
    made = ledger(provisional=provisional)
    sent(made, 1, EventPhase.NEW)
    assert made.media(ulid(1), snapshot_url=PICTURE) == ([], [])
    (end,) = sent(made, 1, EventPhase.END)
    assert (end.snapshot_url, end.clip_url, end.has_clip) == (PICTURE, None, False)
    (parcel,), (last,) = made.media(ulid(1), clip_url=CLIP)
    update = parcel.message
    assert update is not None
    assert (update.clip_url, update.snapshot_url, update.has_clip, update.seq) == (CLIP, PICTURE, True, end.seq + 1)
    different = {key for key, value in update.model_dump().items() if value != end.model_dump()[key]}
    assert different == {"type", "seq", "clip_url", "has_clip"}
    assert last.topic == "streamav/porch/last_event"
    assert last.payload == update.to_bytes()
    assert made.media(ulid(1), clip_url=CLIP) == ([], [])


def test_a_clip_that_is_ready_before_the_end_is_in_the_end() -> None:
    """A long event whose clip is full says so in its next message, and nothing follows its end."""
    made = ledger()
    sent(made, 1, EventPhase.NEW)
    made.media(ulid(1), clip_url=CLIP)
    (update,) = sent(made, 1, EventPhase.UPDATE)
    (end,) = sent(made, 1, EventPhase.END)
    assert [(one.clip_url, one.has_clip) for one in (update, end)] == [(CLIP, True)] * 2
    assert made.media(ulid(1), clip_url=CLIP) == ([], [])


def test_last_event_stays_when_a_newer_event_has_ended() -> None:
    """The late clip of an older event does not bring that event back as the last one."""
    made = ledger()
    for number in (1, 2):
        sent(made, number, EventPhase.NEW)
        sent(made, number, EventPhase.END)
    parcels, values = made.media(ulid(1), clip_url=CLIP)
    assert len(parcels) == 1
    assert values == []


def test_an_event_that_was_given_another_id_is_found() -> None:
    """The clip of a file that is run again belongs to the event with the id that the broker knows."""
    made = ledger()
    made.avoid([ulid(1)], "word")
    (new,) = sent(made, 1, EventPhase.NEW)
    sent(made, 1, EventPhase.END)
    (parcel,), _ = made.media(ulid(1), clip_url=CLIP)
    assert new.id != ulid(1)
    assert parcel.event_id == new.id


def test_memory_is_bounded() -> None:
    """Events of which no clip ever comes are forgotten."""
    made = ledger()
    for number in range(1, 600):
        sent(made, number, EventPhase.NEW)
        sent(made, number, EventPhase.END)
    assert len(made._ended) <= 500
    assert made.media(ulid(1), clip_url=CLIP) == ([], [])


class _Slow:
    """A sink that notes when it is closed."""

    def __init__(self, log: list[str], name: str, *, first: bool = False) -> None:
        self._log, self._name = log, name
        self.closes_first = first

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        self._log.append(self._name)


async def test_what_writes_clips_is_closed_before_what_tells_of_them() -> None:
    """The clips that the end of a run completes are told to a broker that is still connected."""
    log: list[str] = []
    await FanOut([_Slow(log, "broker"), _Slow(log, "clips", first=True), _Slow(log, "page")]).close()  # type: ignore[list-item]
    assert log[0] == "clips"


def test_a_consumer_takes_the_update_after_the_end() -> None:
    """A consumer that keeps the greatest seq of an event takes the update, and the event stays ended."""
    made = ledger()
    consumer = Consumer(lambda message: message)
    (new,) = sent(made, 1, EventPhase.NEW)
    (end,) = sent(made, 1, EventPhase.END)
    (parcel,), _ = made.media(ulid(1), clip_url=CLIP)
    assert parcel.message is not None
    assert [consumer.take(one) for one in (new, end, parcel.message)] == [True, True, True]
    assert not parcel.message.active
