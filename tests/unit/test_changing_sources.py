"""Tests a run whose sources come and go, with stand-ins for all roles, and what publishes for such a source."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rigs.mqtt_connection import FakeBroker
from rigs.published_events import MODEL, make_event
from rigs.roles import (
    LABELS,
    PICTURE,
    FakeClock,
    FakeExtractor,
    FakeLocalizer,
    FakeSource,
    RecordingSink,
    make_feed,
    read_feed,
    second,
    seconds,
)
from rigs.scene_files import write_scene
from rigs.waiting import until

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.capture.scene import SceneSource, make_script
from streamav.config import BackoffSettings, MqttSettings
from streamav.pipeline import Pipeline, SourceSetup
from streamav.publish import describe
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import SEGMENT_NS, AudioBlock, EndReason, EventPhase, VideoFrame

QUIET, LOUD = 0.1, 0.9


def setup(name: str, source: FakeSource) -> SourceSetup:
    labels = tuple(
        LabelOptions(label=label, label_name=label, class_id=number, thresholds=Thresholds(on=0.6, off=0.35))
        for number, label in enumerate(LABELS)
    )
    options = SegmenterOptions(frames_per_second=2, picture=PICTURE)
    return SourceSetup(id=name, source=source, segmenter=options, labels=labels, latency_segments=1, paced=False)


class Run:
    """A run that starts empty."""

    def __init__(self) -> None:
        self.sink = RecordingSink()
        self.pipeline = Pipeline([], FakeExtractor(), FakeLocalizer(), self.sink, FakeClock(), most_frames=2)

    async def while_running(self, *steps: Callable[[], bool]) -> None:
        """Run; wait for each condition in turn, then stop."""
        task = asyncio.create_task(self.pipeline.run())
        async with asyncio.timeout(20):
            for step in steps:
                while not step():  # noqa: ASYNC110 - another thread
                    await asyncio.sleep(0.01)
            self.pipeline.stop()
            await task

    def phases(self, source: str) -> list[EventPhase]:
        return [event.phase for event in self.sink.events if event.source == source]


def steady(loudness: float, gate: threading.Event, count: int = 12) -> FakeSource:
    """Return a source that gives some segments and then waits for the gate."""
    return FakeSource([*seconds([loudness] * count), gate])


async def test_a_source_is_added_and_released_while_another_runs() -> None:
    """The events of a released source end with `shutdown`; the other source keeps its open event."""
    run, gate = Run(), threading.Event()
    told: list[str] = []
    run.pipeline.sources.add(setup("a", steady(LOUD, gate)), lambda: told.append("a"))

    def add_b() -> bool:
        run.pipeline.sources.add(setup("b", steady(LOUD, gate)), lambda: told.append("b"))
        return True

    def release_b() -> bool:
        run.pipeline.sources.release("b", lambda: told.append("b is gone"))
        return True

    def check_a() -> bool:
        assert [lane.setup.id for lane in run.pipeline.lanes] == ["a"]
        assert run.phases("a")[-1] is not EventPhase.END
        return True

    await run.while_running(
        lambda: bool(run.phases("a")), add_b, lambda: bool(run.phases("b")), release_b, lambda: "b is gone" in told, check_a
    )
    assert told == ["a", "b", "b is gone"]
    ends = {event.source: event.end_reason for event in run.sink.events if event.phase is EventPhase.END}
    assert ends == {"a": EndReason.SHUTDOWN, "b": EndReason.SHUTDOWN}
    assert run.pipeline.summary is not None


async def test_a_quiet_release_waits_for_the_end_of_the_event() -> None:
    """With an open event a quiet release does nothing."""
    run, gate = Run(), threading.Event()
    run.pipeline.sources.add(setup("a", steady(LOUD, gate)), lambda: None)
    told: list[str] = []

    def release(*, quiet: bool) -> bool:
        run.pipeline.sources.release("a", lambda: told.append("gone"), quiet=quiet)
        return True

    turns: list[None] = []

    def some_turns() -> bool:
        turns.append(None)
        return len(turns) > 50

    def still_there() -> bool:
        assert not told
        return True

    await run.while_running(
        lambda: bool(run.phases("a")),
        lambda: release(quiet=True),
        some_turns,
        still_there,
        lambda: release(quiet=False),
        lambda: bool(told),
    )


async def test_a_muted_source_publishes_its_open_event_once_it_speaks() -> None:
    """While it is muted nothing is handed over; then its state comes first, and the open event begins with its opening message."""
    run, gate = Run(), threading.Event()
    run.pipeline.sources.add(setup("a", steady(LOUD, gate)))

    def speak() -> bool:
        assert not run.sink.told
        run.pipeline.sources.speak("a", lambda: run.sink.told.append("told"))
        return True

    await run.while_running(lambda: any(lane.meter.segments >= 12 for lane in run.pipeline.lanes), speak, lambda: bool(run.sink.events))
    assert run.sink.told[0] == "told"
    assert run.phases("a")[0] is EventPhase.NEW
    assert run.phases("a").count(EventPhase.NEW) == 1
    assert run.phases("a")[-1] is EventPhase.END


async def test_a_source_that_fails_ends_alone_in_a_run_that_stays() -> None:
    """A camera that cannot be opened does not end a run whose sources come and go; its error stays readable until it is released."""
    run, gate = Run(), threading.Event()
    run.pipeline.sources.add(setup("bad", FakeSource([OSError("no such camera")])), lambda: None)
    run.pipeline.sources.add(setup("good", steady(LOUD, gate)), lambda: None)
    await run.while_running(
        lambda: bool(run.phases("good")), lambda: any(lane.finished and lane.error is not None for lane in run.pipeline.lanes)
    )
    assert run.phases("bad") == []


def test_a_segmenter_may_begin_later() -> None:
    """Segments before `first_index` are left out, and the others keep their places on the axis."""
    items = [item for index in range(8) for item in second(index)]
    feed = make_feed(FakeSource(items), SegmenterOptions(frames_per_second=2, picture=PICTURE, first_index=5))
    assert [one.index for one in read_feed(feed)] == [5, 6, 7]


def test_a_limit_counts_from_the_first_segment() -> None:
    """A file that begins at second 5 and has a limit of 2 s gives the segments 5 and 6."""
    items = [item for index in range(12) for item in second(index)]
    feed = make_feed(FakeSource(items), SegmenterOptions(frames_per_second=2, picture=PICTURE, first_index=5), duration_s=2.0)
    assert [one.index for one in read_feed(feed)] == [5, 6]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_file_that_begins_later_gives_the_same_segments(name: str, tmp_path: Path) -> None:
    """`begin_s` seeks: the sound and pictures after it are where they are when the file is read from its start."""
    path = tmp_path / name
    write_scene(path, 24.0)
    look = Look(picture=(64, 64), frames_per_second=4)
    options = SegmenterOptions(frames_per_second=4, picture=(64, 64))
    whole = {one.index: one for one in read_feed(make_feed(MediaSource(str(path), look, speed="max"), options))}
    source = MediaSource(str(path), look, speed="max", begin_s=9)
    later = {one.index: one for one in read_feed(make_feed(source, replace(options, first_index=9)))}
    assert sorted(later) == [index for index in sorted(whole) if index >= 9]
    for index in range(11, 22):  # decoders of sound need some time after a seek
        np.testing.assert_allclose(later[index].audio, whole[index].audio, atol=0.02)
        assert np.abs(later[index].frames.astype(int) - whole[index].frames.astype(int)).mean() < 4


def test_a_scene_may_begin_later() -> None:
    """The rendered scene leaves out what is before `begin_s`, without drawing it."""
    source = SceneSource(make_script(12.0), picture=(32, 32), speed="max", begin_s=9)
    items = list(source.items())
    assert min(item.start_ns for item in items) == 9 * SEGMENT_NS
    assert {type(item) for item in items} == {AudioBlock, VideoFrame}


# What publishes for such a source


def make_sink(broker: FakeBroker, folder: Path, permit: Callable[[], bool] | None = None) -> MqttSink:
    settings = MqttSettings(host="broker", backoff=BackoffSettings(min_s=0.001, max_s=0.002), timeout_s=0.2, homeassistant=True)
    identity = MqttIdentity(model=lambda: MODEL, sources={}, worker="n1", permit=permit)
    return MqttSink(settings, identity, folder, connect=broker.connect, close_limit_s=1.0)


async def test_a_worker_publishes_for_the_sources_that_it_takes_over(tmp_path: Path) -> None:
    """Its own status stands below `cluster`; device, classes and state of the source follow, and what its last worker left open ends."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path)
    await sink.start()
    await until(lambda: sink.counters.connected)
    left = describe(make_event(1, 3, source="porch", seconds=3), MODEL, 0.1, 3)
    sink.take_over("porch", ["bark"], 7, [left])
    due = {"streamav/porch/event", "streamav/porch/status", "streamav/porch/class/bark/state", "homeassistant/device/streamav_porch/config"}
    await until(lambda: due <= {topic for topic, *_ in broker.log})
    sink.release("porch")
    count = len(broker.log)
    await sink.close()
    log = {topic: payload for topic, payload, *_ in broker.log[:count]}
    assert log["streamav/cluster/n1/status"] == b"online"
    assert log["streamav/porch/status"] == b"warming_up"
    assert log["streamav/porch/class/bark/state"] == b"OFF"
    assert "homeassistant/device/streamav_porch/config" in log
    assert "streamav/status" not in log
    ended = json.loads(log["streamav/porch/event"])
    assert (ended["type"], ended["end_reason"], ended["seq"]) == ("end", "restart", 4)
    assert not [topic for topic, *_ in broker.log[count:] if "/porch/" in topic]  # the next worker publishes now


async def test_without_its_lease_a_worker_publishes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As soon as the permit is gone, no message leaves: no event, no state, no farewell, and no new connection is made.

    The log does not promise that its next life delivers what waits.
    """
    broker, held = FakeBroker(), [True]
    sink = make_sink(broker, tmp_path, lambda: held[0])
    await sink.start()
    await until(lambda: sink.counters.connected)
    sink.take_over("porch", ["bark"], 7)
    await until(lambda: any(topic == "streamav/porch/availability" for topic, *_ in broker.log))
    held[0] = False
    count, connects = len(broker.log), len(broker.ids)
    sink.event(make_event(2, 1, EventPhase.NEW, source="porch"), 0.1)
    await asyncio.sleep(0.1)
    await sink.close()
    assert len(broker.log) == count
    assert len(broker.ids) == connects
    assert "dropped, a worker of a cluster keeps none messages=" in caplog.text
    assert "next start" not in caplog.text
