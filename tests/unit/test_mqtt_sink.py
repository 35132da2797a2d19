"""Tests of the MQTT sink without a broker: order after a connect, loss of the connection, closing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from rigs.closed_connections import connections_are_closed  # noqa: F401 - a fixture for every test here
from rigs.mqtt_connection import FakeBroker
from rigs.published_events import MODEL, SCORES, dice, make_event, story, ulid
from rigs.waiting import until

from streamav.config import BackoffSettings, MqttSettings, OutboxSettings
from streamav.publish.consumer import Consumer
from streamav.publish.extras import PLAIN, Extras
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.message import EventMessage, decode, describe
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.patience import Failure
from streamav.publish.pending import Pending
from streamav.types import EndReason, EventPhase, SourceState, Telemetry

IDENTITY = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark", "cat"]})
FAST = BackoffSettings(min_s=0.001, max_s=0.002)


def make_sink(broker: FakeBroker, state_dir: Path, *, provisional: bool = True, outbox: OutboxSettings | None = None) -> MqttSink:
    settings = MqttSettings(
        host="broker", backoff=FAST, timeout_s=0.2, provisional=provisional, outbox=outbox if outbox is not None else OutboxSettings()
    )
    return MqttSink(settings, IDENTITY, state_dir, random=dice(1), monotonic=lambda: 0.0, connect=broker.connect, close_limit_s=2.0)


def topics(broker: FakeBroker) -> list[str]:
    return [topic.removeprefix("streamav/") for topic, *_ in broker.log if "doctor" not in topic]


def messages(broker: FakeBroker) -> list[EventMessage]:
    return [decode(payload) for topic, payload, *_ in broker.log if topic == "streamav/porch/event"]


def retained(broker: FakeBroker) -> dict[str, str]:
    return {topic.removeprefix("streamav/"): payload.decode() for topic, payload, _, retain in broker.log if retain}


async def test_the_order_after_a_connect(tmp_path: Path) -> None:
    """Status, info and the states of classes and sources come before events; events use QoS 1 and are never retained."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    sink.event(make_event(1), 0.1)
    await sink.start()
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    first = topics(broker)[: topics(broker).index("porch/event")]
    assert first[:2] == ["status", "info"]
    assert set(first[2:]) == {
        "porch/class/bark/attributes",
        "porch/class/bark/state",
        "porch/class/cat/attributes",
        "porch/class/cat/state",
        "porch/status",
        "porch/availability",
    }
    assert {(qos, retain) for topic, _, qos, retain in broker.log if topic.endswith("event") and "last" not in topic} == {(1, False)}
    assert all(retain and qos == 1 for topic, _, qos, retain in broker.log if topic.split("/")[-1] in {"status", "state", "availability"})


async def test_a_clean_stop_leaves_the_broker_in_order(tmp_path: Path) -> None:
    """A clean stop sends ends, then classes off, then availability offline, and status offline as the last message."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    sink.event(make_event(1), 0.1)
    await until(lambda: retained(broker).get("porch/class/bark/state") == "ON")
    sink.event(make_event(1, 2, EventPhase.END, reason=EndReason.SHUTDOWN), 0.1)
    await sink.close()
    assert messages(broker)[-1].end_reason == "shutdown"
    left = retained(broker)
    assert (left["porch/class/bark/state"], left["porch/availability"], left["status"]) == ("OFF", "offline", "offline")
    assert topics(broker)[-2:] == ["porch/availability", "status"]
    assert not broker.connected


async def test_offline_is_said_after_a_fault_inside_the_connection(tmp_path: Path) -> None:
    """After an internal error the session publishes offline, because a clean DISCONNECT discards the will; then the sink reconnects."""
    broker = FakeBroker(crash_after=5)
    sink = make_sink(broker, tmp_path)
    await sink.start()
    sink.event(make_event(1), 0.1)
    await until(lambda: sink.counters.published >= 2)
    statuses = [payload for topic, payload, *_ in broker.log if topic == "streamav/status"]
    assert statuses == [b"online", b"offline", b"online"]
    await sink.close()


@pytest.mark.parametrize("lost_at", range(22))
async def test_a_loss_at_any_message_costs_nothing(tmp_path: Path, lost_at: int) -> None:
    """When the connection breaks at any message, every event still arrives in order, with one new and one end."""
    broker = FakeBroker(fail_after=lost_at)
    sink = make_sink(broker, tmp_path)
    await sink.start()
    for number, label in ((1, "bark"), (2, "cat")):
        for event in story(number, updates=2, label=label):
            sink.event(event, 0.1)
            await asyncio.sleep(0.002)
    await sink.close()
    received = messages(broker)
    for number in (1, 2):
        mine = [message for message in received if message.id == ulid(number)]
        assert [message.type for message in mine].count("new") == 1
        assert len({message.seq for message in mine if message.type == "end"}) == 1  # it may come twice: the broker may have lost it
        assert mine[-1].type == "end"
        assert list(dict.fromkeys(message.seq for message in mine)) == sorted({message.seq for message in mine})
    assert sink.counters.dropped == 0


async def test_an_event_that_goes_on_is_told_again_as_an_update(tmp_path: Path) -> None:
    """After a reconnect an open event is published again as an update with the next seq, never as a second new."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    sink.event(make_event(1), 0.1)
    await until(lambda: sink.counters.published == 2)
    broker.lose()
    await until(lambda: sink.counters.connects == 2 and len(messages(broker)) == 2)
    sink.event(make_event(1, 2, EventPhase.UPDATE, seconds=2), 0.1)
    sink.event(make_event(1, 3, EventPhase.END, seconds=2), 0.1)
    await sink.close()
    assert [(m.type, m.seq) for m in messages(broker)] == [("new", 1), ("update", 2), ("update", 3), ("end", 4)]


async def test_a_crash_is_told_as_restart_at_the_next_start(tmp_path: Path) -> None:
    """After a crash the next start sends class off and one end with the same id, the next seq and `restart`; a third start sends no end."""
    broker = FakeBroker()
    crashed = make_sink(broker, tmp_path)
    await crashed.start()
    crashed.event(make_event(1), 0.1)
    await until(lambda: bool(messages(broker)) and retained(broker).get("porch/class/bark/state") == "ON")
    await crashed._pending.store.settle()  # without it the new may be sent twice, which subscribers drop
    assert crashed._task is not None
    crashed._task.cancel()
    await asyncio.wait([crashed._task])
    await crashed._pending.store.close()  # a process that ends closes it
    crashed._folder.release()
    broker.log.clear()
    for expected in ([("end", 2, "restart")], []):
        sink = make_sink(broker, tmp_path)
        await sink.start()
        await until(lambda current=sink: current.counters.connects == 1 and not current.counters.queue_depth)  # type: ignore[misc]
        assert retained(broker)["porch/class/bark/state"] == "OFF"
        await sink.close()
        assert [(m.type, m.seq, m.end_reason) for m in messages(broker)] == expected
        broker.log.clear()


async def test_unconfirmed_events_touch_no_state(tmp_path: Path) -> None:
    """A provisional event that is retracted is published on the event topic only."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    sink.event(make_event(1, confirmed=False), 0.1)
    sink.event(make_event(1, 2, EventPhase.END, confirmed=False, reason=EndReason.RETRACTED), 0.1)
    await until(lambda: len(messages(broker)) == 2)
    await sink.close()
    assert "porch/last_event" not in topics(broker)
    assert "porch/ha_event" not in topics(broker)
    assert b"ON" not in [payload for _, payload, *_ in broker.log]


async def test_without_provisional_an_event_begins_when_it_is_confirmed(tmp_path: Path) -> None:
    """Without provisional events, new is sent at the confirmation with seq 1, and a retracted event is never published."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path, provisional=False)
    await sink.start()
    sink.event(make_event(1, confirmed=False), 0.1)
    sink.event(make_event(1, 2, EventPhase.END, confirmed=False, reason=EndReason.RETRACTED), 0.1)
    sink.event(make_event(2, confirmed=False), 0.1)
    sink.event(make_event(2, 2, EventPhase.UPDATE), 0.1)
    sink.event(make_event(2, 3, EventPhase.END), 0.1)
    sink.event(make_event(3, 1, EventPhase.NEW, confirmed=False), 0.1)
    sink.event(make_event(3, 2, EventPhase.END), 0.1)
    await sink.close()
    assert [(m.id, m.type, m.seq) for m in messages(broker)] == [
        (ulid(2), "new", 1),
        (ulid(2), "end", 2),
        (ulid(3), "new", 1),
        (ulid(3), "end", 2),
    ]


async def test_home_assistant_hears_once_of_each_confirmed_event(tmp_path: Path) -> None:
    """The message for Home Assistant is sent once for each event, when the event is confirmed."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    sink.event(make_event(1, confirmed=False), 0.1)
    for sequence in (2, 3):
        sink.event(make_event(1, sequence, EventPhase.UPDATE, seconds=sequence), 0.1)
    sink.event(make_event(1, 4, EventPhase.END, seconds=3), 0.1)
    await sink.close()
    companions = [json.loads(payload) for topic, payload, *_ in broker.log if topic == "streamav/porch/ha_event"]
    assert [(c["event_type"], c["id"]) for c in companions] == [("bark", ulid(1))]
    assert json.loads(retained(broker)["porch/last_event"])["type"] == "end"


async def test_source_states_and_telemetry(tmp_path: Path) -> None:
    """A lost source is offline for Home Assistant; telemetry uses QoS 0, and is discarded while there is no connection."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    telemetry = Telemetry(
        frames_per_second=8.0,
        level_dbfs=-31.25,
        latency_s=0.2,
        skew_ms=None,
        realtime_factor=0.1,
        dropped_segments=3,
        looked_frames_per_second=4.0,
        thinned_segments=7,
    )
    sink.telemetry("porch", telemetry)  # not connected yet, so it is discarded
    await sink.start()
    await until(lambda: sink.counters.connected)
    sink.source_state("porch", SourceState.ONLINE, "")
    sink.source_state("porch", SourceState.LOST, "unplugged")
    sink.telemetry("porch", telemetry)
    await until(lambda: "porch/telemetry" in topics(broker))
    assert (retained(broker)["porch/status"], retained(broker)["porch/availability"]) == ("lost", "offline")
    ((_, payload, qos, retain),) = [entry for entry in broker.log if entry[0].endswith("telemetry")]
    assert (qos, retain) == (0, False)
    assert json.loads(payload) == {"fps": 8.0, "rms_dbfs": -31.2, "latency_s": 0.2, "av_skew_ms": None, "rtf": 0.1, "dropped": 3} | {
        "looked_fps": 4.0,
        "thinned": 7,
    }
    await sink.close()


@pytest.mark.parametrize("wanted", [True, False])
async def test_scores_are_published_where_they_are_asked_for(tmp_path: Path, wanted: bool) -> None:
    """With `mqtt.scores` one message for each segment is sent, in order, at QoS 0 and not retained; without it no scores are sent."""
    broker = FakeBroker()
    settings = MqttSettings(host="broker", backoff=FAST, timeout_s=0.2, scores=wanted)
    sink = MqttSink(settings, IDENTITY, tmp_path, random=dice(1), connect=broker.connect, close_limit_s=2.0)
    sink.scores("porch", SCORES)  # not connected yet, so it is discarded
    await sink.start()
    await until(lambda: sink.counters.connected)
    for number in range(3):
        sink.scores("porch", replace(SCORES, start_ns=number * 1_000_000_000))
    sink.event(make_event(1), 0.1)
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    sent = [(json.loads(payload), qos, retain) for topic, payload, qos, retain in broker.log if topic == "streamav/porch/scores"]
    assert [(said["media_start_s"], qos, retain) for said, qos, retain in sent] == ([(n, 0, False) for n in range(3)] if wanted else [])
    if wanted:
        assert sent[0][0] == {"ts": 1789381346.0, "media_start_s": 0.0, "scores": {"bark": 0.1235, "cat": 0.25}, "background": 0.6265} | {
            "is_event_score": 0.5,
            "av_similarity": -0.25,
            "rms_dbfs": None,
            "place": None,
        }


async def test_a_probe_that_does_not_come_back_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A probe that the broker does not deliver gives a warning, and the run goes on."""
    broker = FakeBroker(echo=False)
    sink = make_sink(broker, tmp_path)
    await sink.start()
    await until(lambda: sink.counters.probe_failures == 1)
    assert "access list" in caplog.text
    assert sink.counters.connected
    await sink.close()


async def test_an_absent_broker_never_stops_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a broker nothing raises, closing is bounded and the reason is logged once; events that were never published stay queued."""
    broker = FakeBroker(failures=repeat(Failure(reason="connection refused")))
    sink = make_sink(broker, tmp_path)
    await sink.start()
    for event in story(1, updates=3):
        sink.event(event, 0.1)
    await until(lambda: sink.counters.attempts > 3)
    await sink.close()
    assert sum("connection refused" in record.message for record in caplog.records) == 1
    assert sink.counters.queue_depth == 6
    assert "they stay for the next start messages=6" in caplog.text
    assert sink.shortfall == "6 messages were not delivered"


async def test_what_could_not_be_delivered_is_delivered_by_the_next_start(tmp_path: Path) -> None:
    """Messages of a run without a broker are delivered by the next start, in order and once; a third start has nothing to deliver."""
    absent = FakeBroker(failures=repeat(Failure(reason="connection refused")))
    sink = make_sink(absent, tmp_path)
    await sink.start()
    for number in (1, 2):
        for event in story(number, updates=1):
            sink.event(event, 0.1)
    await sink.close()
    broker = FakeBroker()
    for expected in ([(ulid(number), seq) for number in (1, 2) for seq in (1, 2, 3)], []):
        later = make_sink(broker, tmp_path)
        await later.start()
        await later.close()
        assert [(m.id, m.seq) for m in messages(broker)] == expected
        assert later.shortfall is None
        broker.log.clear()


async def test_without_a_state_folder_the_log_says_that_messages_are_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When nothing can be stored, closing says that the messages are lost, and does not promise a next start."""
    sink = make_sink(FakeBroker(failures=repeat(Failure(reason="connection refused"))), Path("/proc/nothing"))
    await sink.start()
    sink.event(make_event(1), 0.1)
    await sink.close()
    assert "are lost" in caplog.text
    assert "next start" not in caplog.text


async def test_a_file_run_again_after_a_crash_uses_no_id_twice(tmp_path: Path) -> None:
    """A replay gives the same ids. One that a start has ended with `restart` is replaced, at every later start, so each id has one end."""
    broker = FakeBroker()
    for crash in (True, True, False):
        sink = make_sink(broker, tmp_path)
        sink._random = dice(len(broker.log))
        await sink.start()
        for event in story(1, updates=0)[: 1 if crash else 2]:
            sink.event(event, 0.1)
        if not crash:
            await sink.close()
            continue
        await until(lambda current=sink: current.counters.connected and not current.counters.queue_depth)  # type: ignore[misc]
        await sink._pending.store.close()
        assert sink._task is not None
        sink._task.cancel()
        await asyncio.wait([sink._task])
        sink._folder.release()
    told = messages(broker)
    assert len({message.id for message in told}) == 3
    for event_id in {message.id for message in told}:
        assert [message.type for message in told if message.id == event_id] == ["new", "end"]
        assert event_id[:10] == ulid(1)[:10]


async def test_a_refused_message_does_not_block_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A message that the broker refuses is set aside; the reason is logged once with what to do, and later messages go on."""
    broker = FakeBroker(refusals={"streamav/porch/event": 0x87})
    sink = make_sink(broker, tmp_path)
    await sink.start()
    for event in story(1, updates=1):
        sink.event(event, 0.1)
    await until(lambda: not sink.counters.queue_depth)
    broker.refusals.clear()
    for event in story(2, updates=0):
        sink.event(event, 0.1)
    await sink.close()
    assert [m.id for m in messages(broker)] == [ulid(2)] * 2
    assert sink.counters.refused == 3
    assert sum("access list denies" in record.message for record in caplog.records) == 1


async def test_a_message_that_costs_the_connection_again_and_again_is_set_aside(tmp_path: Path) -> None:
    """A message at which the broker always closes, without a reason, is shortened after three times and set aside after six."""
    broker = FakeBroker()
    sizes: list[int] = []

    class Picky(FakeBroker):
        async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, extras: Extras = PLAIN) -> None:
            if topic == "streamav/porch/event" and ulid(1).encode() in payload:
                sizes.append(len(payload))
                raise ConnectionFailedError(Failure(reason="the broker closed the connection", closed=True))
            await super().publish(topic, payload, qos=qos, retain=retain, extras=extras)

    broker = Picky()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    sink.event(make_event(1, seconds=10), 0.1)
    for event in story(2, updates=0):
        sink.event(event, 0.1)
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    assert [m.id for m in messages(broker)] == [ulid(2)] * 2
    assert len(sizes) == 6
    assert sizes[3] < sizes[0]
    assert sink.counters.refused == 1


async def test_states_are_sent_again_when_another_client_declares_us_offline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After `offline` on our status by another client, status and all states are sent again, and a hint is logged once."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    sink.event(make_event(1), 0.1)
    await until(lambda: retained(broker).get("porch/class/bark/state") == "ON")
    broker.log.clear()
    broker.tell("streamav/status", b"offline")
    await until(lambda: retained(broker).get("porch/class/bark/state") == "ON")
    await until(lambda: retained(broker).get("status") == "online")
    broker.tell("streamav/status", b"offline")
    await until(lambda: sink.counters.restated == 2)
    await sink.close()
    assert sum("another client published" in record.message for record in caplog.records) == 1


async def test_topics_of_a_source_that_is_gone_are_cleared(tmp_path: Path) -> None:
    """The retained topics of a source that was renamed are cleared at the next start; the others stay."""
    broker = FakeBroker()
    first = make_sink(broker, tmp_path)
    await first.start()
    for event in story(1, updates=0):
        first.event(event, 0.1)
    await first.close()
    settings = MqttSettings(host="broker", backoff=FAST, timeout_s=0.2)
    renamed = MqttIdentity(model=lambda: MODEL, sources={"door": ["bark"]})
    second = MqttSink(settings, renamed, tmp_path, random=dice(1), connect=broker.connect)
    await second.start()
    await second.close()
    left = {topic: payload for topic, payload in retained(broker).items() if payload}
    assert not any(topic.startswith("porch/") for topic in left)
    assert {"status", "info", "door/status", "door/class/bark/state"} <= left.keys()


async def test_a_full_outbox_loses_whole_events_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After an outage with a full outbox only complete events arrive; the dropped messages are counted and logged once."""
    failures = [Failure(reason="connection refused")] * 3
    broker = FakeBroker(failures=iter(failures))
    sink = make_sink(broker, tmp_path, outbox=OutboxSettings(messages=9))
    for number in range(1, 8):
        for event in story(number, updates=1):
            sink.event(event, 0.1)
    await sink.start()
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    consumer = Consumer(lambda message: message)
    for message in messages(broker):
        consumer.take(message)
    assert consumer.events
    assert all(not message.active for message in consumer.events)
    assert [m.type for m in messages(broker)].count("new") == len(consumer.events)
    assert sink.counters.dropped > 0
    assert sum("whole events were dropped" in record.message for record in caplog.records) == 1


async def test_what_computes_is_followed(tmp_path: Path) -> None:
    """After a change of engine, events name the new one, info is published again, and a reminder of an older event names the old one."""
    computing = ["torch-fp32"]
    broker = FakeBroker()
    identity = MqttIdentity(model=lambda: MODEL.model_copy(update={"backend": computing[0]}), sources={"porch": ["bark", "cat"]})
    settings = MqttSettings(host="broker", backoff=FAST, timeout_s=0.2)
    sink = MqttSink(settings, identity, tmp_path, random=dice(1), monotonic=lambda: 0.0, connect=broker.connect, close_limit_s=2.0)
    await sink.start()
    sink.event(make_event(1), 0.1)
    await until(lambda: len(messages(broker)) == 1)
    computing[0] = "tensorrt-fp16"
    sink.event(make_event(2, label="cat"), 0.1)
    await until(lambda: json.loads(retained(broker)["info"])["backend"] == "tensorrt-fp16")
    assert [message.model.backend for message in messages(broker)] == ["torch-fp32", "tensorrt-fp16"]
    assert topics(broker).count("info") == 2
    broker.lose()
    await until(lambda: len(messages(broker)) == 4)
    assert {message.label: message.model.backend for message in messages(broker)[2:]} == {"bark": "torch-fp32", "cat": "tensorrt-fp16"}
    computing[0] = "cuda-fp16"
    sink.telemetry(
        "porch", Telemetry(frames_per_second=16.0, level_dbfs=-20.0, latency_s=0.1, skew_ms=None, realtime_factor=0.1, dropped_segments=0)
    )
    await until(lambda: json.loads(retained(broker)["info"])["backend"] == "cuda-fp16")
    await sink.close()


@pytest.mark.parametrize("remembers", [True, False])
async def test_a_greeting_says_what_changed(tmp_path: Path, remembers: bool) -> None:
    """A broker that still has the word of this run is told only what changed meanwhile; one that lost its memory is told everything."""
    broker = FakeBroker(remembers=remembers)
    sink = make_sink(broker, tmp_path)
    await sink.start()
    await until(lambda: sink.counters.connected)
    sink.source_state("porch", SourceState.ONLINE, "")
    await until(lambda: ("streamav/porch/status", b"online", 1, True) in broker.log)
    broker.log[:] = [one for one in broker.log if one[0].endswith("doctor/kept")]
    broker.lose()
    sink.event(make_event(1), 0.1)  # its class goes on while there is no connection
    await until(lambda: sink.counters.connects == 2 and not sink.counters.queue_depth)
    told = [topic for topic in topics(broker) if not topic.endswith("event")]
    changed = {"status", "porch/class/bark/attributes", "porch/class/bark/state", "porch/status"}  # the status changed after the word
    assert set(told) == changed if remembers else set(told) > changed | {"porch/class/cat/state", "info", "porch/availability"}
    await sink.close()
    assert broker.log[-1][0] == "streamav/status"
    assert ("streamav/doctor/kept", b"", 1, True) in broker.log


async def test_a_greeting_that_was_cut_is_not_believed(tmp_path: Path) -> None:
    """When the connection is lost in the middle of a greeting, the next one says everything, although the broker has an older word."""

    class Cut(FakeBroker):
        async def publish(self, topic: str, payload: bytes, **how: Any) -> None:  # noqa: ANN401 - passed on
            if topic == "streamav/doctor/kept" and len(self.ids) == 2:
                raise ConnectionFailedError(Failure(reason="lost"))
            await super().publish(topic, payload, **how)

    broker = Cut()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    await until(lambda: sink.counters.connected)
    broker.lose()
    await until(lambda: len(broker.ids) == 2)
    broker.log[:] = [one for one in broker.log if one[0].endswith("doctor/kept")]
    await until(lambda: sink.counters.connects == 2)
    assert len(broker.ids) == 3
    assert "porch/class/cat/state" in topics(broker)
    await sink.close()


async def test_statistics_come_once_a_minute(tmp_path: Path) -> None:
    """The first telemetry brings statistics of the service, the next ones only after a minute; events are counted by source."""
    broker, now = FakeBroker(), [0.0]
    settings = MqttSettings(host="broker", backoff=FAST, timeout_s=0.2)
    sink = MqttSink(settings, IDENTITY, tmp_path, random=dice(1), monotonic=lambda: now[0], connect=broker.connect, close_limit_s=2.0)
    await sink.start()
    await until(lambda: sink.counters.connected)
    for event in story(1):
        sink.event(event, 0.1)
    for state in SourceState:  # every state of a source has a word in the statistics
        sink._stats.state("porch", state)
        assert sink._stats.payload(0.0, sink.counters)
    sink.source_state("porch", SourceState.ONLINE, "")
    await until(lambda: not sink.counters.queue_depth)
    telemetry = Telemetry(frames_per_second=10.0, level_dbfs=-20.0, latency_s=0.3, skew_ms=None, realtime_factor=0.2, dropped_segments=4)
    for now[0] in (0.0, 30.0, 61.0):
        sink.telemetry("porch", telemetry)
    await until(lambda: topics(broker).count("stats") == 2)
    await sink.close()
    said = json.loads(next(payload for topic, payload, *_ in broker.log if topic == "streamav/stats"))
    assert said["sources"]["porch"] | {"rtf": 0.2} == {
        "status": "online", "events": 1, "retracted": 0, "dropped": 4, "rtf": 0.2, "latency_s": 0.3,
    }  # fmt: skip
    assert said["outbox"]["published"] == 4
    assert all((qos, retain) == (0, False) for topic, _, qos, retain in broker.log if topic == "streamav/stats")


@pytest.mark.parametrize(("wanted", "kept"), [("off", None), ("publish", False), ("retain", True)])
async def test_snapshots_are_published_where_they_are_asked_for(tmp_path: Path, wanted: str, kept: bool | None) -> None:
    """The JPEG file is sent as it is at QoS 0, kept by the broker only on demand; of two that wait the newest is sent."""
    broker = FakeBroker()
    settings = MqttSettings.model_validate({"host": "broker", "backoff": FAST, "timeout_s": 0.2, "snapshot": wanted})
    sink = MqttSink(settings, IDENTITY, tmp_path, random=dice(1), monotonic=lambda: 0.0, connect=broker.connect, close_limit_s=2.0)
    await sink.start()
    await until(lambda: sink.counters.connected)
    await asyncio.to_thread(sink.snapshot, "porch", b"old")
    await asyncio.to_thread(sink.snapshot, "porch", b"new")
    sink.event(make_event(1), 0.1)
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    sent = [(payload, qos, retain) for topic, payload, qos, retain in broker.log if topic == "streamav/porch/snapshot"]
    assert sent[-1:] == ([] if kept is None else [(b"new", 0, kept)])


def pending_of(state: Path) -> Pending:
    return MqttSink(MqttSettings(host="broker"), MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}), state)._pending


def test_a_broker_that_says_why_it_closes_is_believed_at_once(tmp_path: Path) -> None:
    """MQTT 5, reason code 0x95: what was too large is sent shorter at the next connection, and set aside at the one after it."""
    pending = pending_of(tmp_path)
    payload = describe(make_event(seconds=10), MODEL, 0.1).to_bytes()
    pending.on_way["streamav/porch/last_event"] = payload
    pending.note_closed(too_large=True)
    assert pending.largest is not None
    assert pending.largest < len(payload)
    assert not pending.barred("streamav/porch/last_event", payload)
    pending.note_closed(too_large=True)
    assert pending.barred("streamav/porch/last_event", payload)
    assert not pending.barred("streamav/porch/last_event", payload[:-1])
    assert not pending.barred("streamav/info", payload)


def test_of_several_kept_values_none_is_suspected(tmp_path: Path) -> None:
    """When the broker closes while several retained values are on their way, they go one by one, and none is shortened or set aside."""
    pending = pending_of(tmp_path)
    pending.on_way |= {"streamav/info": b"{}", "streamav/porch/status": b"online"}
    for _ in range(10):
        pending.note_closed()
    assert pending.one_by_one
    assert pending.largest is None
    assert not pending.barred("streamav/info", b"{}")


def test_a_small_kept_value_is_never_suspected(tmp_path: Path) -> None:
    """A broker that ends again and again just when `online` is on its way is not one that takes no `online`."""
    pending = pending_of(tmp_path)
    pending.on_way["streamav/status"] = b"online"
    for _ in range(10):
        pending.note_closed(too_large=True)
    assert pending.largest is None
    assert not pending.barred("streamav/status", b"online")
