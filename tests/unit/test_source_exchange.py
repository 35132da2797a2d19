"""Tests of sources that come and go in an ordinary run: the loop, and what follows it (clips, page, API, broker, controls, labels)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from rigs.evidence_bundle import make_evidence_bundle, segment_of
from rigs.mqtt_connection import FakeBroker
from rigs.published_events import MODEL, make_event
from rigs.roles import LABELS, PICTURE, FakeClock, FakeExtractor, FakeLocalizer, FakeSource, RecordingSink, seconds, window_scores
from rigs.waiting import until

from streamav.aggregation import Aggregation
from streamav.app.exchange import SourceExchange
from streamav.bundle import ClassEntry
from streamav.clips import PacketRing
from streamav.clips.sink import ClipSink
from streamav.config import BackoffSettings, ClipSettings, DetectionSettings, MqttSettings, OneOfSources, Settings
from streamav.control import Controls, SourcePlan, kept_path
from streamav.errors import SettingsError
from streamav.features import LogMelOptions
from streamav.labels import Label, LabelTable
from streamav.localizer import VscgLocalizer
from streamav.pipeline import Pipeline, SourceSetup
from streamav.protocols import Engine
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import EndReason, EventPhase, Quality, SourceState, Window
from streamav.view.board import Board

LOUD = 0.9


def options() -> tuple[LabelOptions, ...]:
    thresholds = Thresholds(on=0.6, off=0.35)
    return tuple(LabelOptions(label=label, label_name=label, class_id=number, thresholds=thresholds) for number, label in enumerate(LABELS))


def setup(name: str, source: FakeSource) -> SourceSetup:
    segments = SegmenterOptions(frames_per_second=2, picture=PICTURE)
    return SourceSetup(id=name, source=source, segmenter=segments, labels=options(), latency_segments=1, paced=False)


def steady(gate: threading.Event, count: int = 12) -> FakeSource:
    return FakeSource([*seconds([LOUD] * count), gate])


class Run:
    """A run that begins with the source porch."""

    def __init__(self) -> None:
        self.sink, self.gate = RecordingSink(), threading.Event()
        self.pipeline = Pipeline([setup("porch", steady(self.gate))], FakeExtractor(), FakeLocalizer(), self.sink, FakeClock())
        self.told: list[str] = []

    def exchange(self, leaving: tuple[str, ...], **coming: FakeSource) -> bool:
        lanes = [(self.pipeline.sources.prepare(setup(name, source)), self.note(f"{name} comes")) for name, source in coming.items()]
        self.done = self.pipeline.sources.exchange({name: self.note(f"{name} is gone") for name in leaving}, lanes)
        return True

    def note(self, words: str) -> Callable[[], None]:
        return lambda: self.told.append(words)

    def phases(self, source: str) -> list[EventPhase]:
        return [event.phase for event in self.sink.events if event.source == source]

    def ends(self, source: str) -> list[EndReason | None]:
        return [event.end_reason for event in self.sink.events if event.source == source and event.phase is EventPhase.END]

    async def until(self, *steps: Callable[[], object]) -> None:
        """Run; go on to the next step once one is true; then stop."""
        task = asyncio.create_task(self.pipeline.run())
        async with asyncio.timeout(20):
            for step in steps:
                while not step() and not task.done():  # noqa: ASYNC110 - another thread
                    await asyncio.sleep(0.01)
                assert not task.done()
            self.pipeline.stop()
            await task


async def test_the_only_source_may_be_replaced() -> None:
    """A source starts again under its id: its event ends, what follows is told in between, and the run goes on, also with one source."""
    run = Run()
    await run.until(
        lambda: run.phases("porch"),
        lambda: run.exchange(("porch",), porch=steady(run.gate)),
        lambda: run.phases("porch").count(EventPhase.NEW) == 2,
    )
    assert run.told == ["porch is gone", "porch comes"]
    assert run.done.done()
    assert run.ends("porch") == [EndReason.SHUTDOWN] * 2
    assert run.pipeline.summary is not None
    assert run.pipeline.summary.events == 2  # the counts of the first porch are not lost


async def test_a_source_that_cannot_be_opened_is_lost_and_the_run_goes_on() -> None:
    """A source that joins and fails at once is reported `lost` with its reason; at the start it would have ended the run."""
    run = Run()
    await run.until(
        lambda: run.phases("porch"),
        lambda: run.exchange((), yard=FakeSource([OSError("no such camera")])),
        lambda: (SourceState.LOST, "failed") in run.sink.states,
        lambda: run.exchange(("yard",)),
        lambda: "yard is gone" in run.told,
    )
    assert run.ends("porch") == [EndReason.SHUTDOWN]


async def test_a_change_that_comes_with_the_end_of_the_run_opens_nothing() -> None:
    """After stop() no source begins, so the run ends at once."""
    run = Run()
    opened = steady(run.gate)

    def stop() -> bool:
        run.pipeline.stop()
        return run.exchange((), yard=opened)

    await run.until(lambda: run.phases("porch"), stop)
    assert not run.told
    assert not run.done.done()


# The broker


async def test_a_source_that_is_gone_leaves_nothing_at_the_broker(tmp_path: Path) -> None:
    """Its event ends, it is told unavailable, then each of its topics and its device is cleared; nothing comes after that."""
    broker = FakeBroker()
    backoff = BackoffSettings(min_s=0.001, max_s=0.002)
    settings = MqttSettings(host="broker", backoff=backoff, timeout_s=0.2, homeassistant=True, snapshot="retain")
    identity = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"], "gate": ["bark"]})
    sink = MqttSink(settings, identity, tmp_path, connect=broker.connect, close_limit_s=10.0)
    await sink.start()
    await until(lambda: sink.counters.connected)
    sink.event(make_event(1, 1, EventPhase.NEW, source="gate"), 0.1)
    sink.snapshot("gate", b"jpeg")
    await until(lambda: any(payload == b"jpeg" for _, payload, *_ in broker.log))
    sink.event(make_event(1, 2, EventPhase.END, source="gate"), 0.1)
    sink.drop_source("gate")
    sink.snapshot("gate", b"late")
    await until(lambda: broker.log[-1][0] == "streamav/info" or b"offline" in [one for _, one, *_ in broker.log])
    await until(lambda: {topic: payload for topic, payload, *_ in broker.log}.get("homeassistant/device/streamav_gate/config") == b"")
    await sink.close()
    last = {topic: payload for topic, payload, _, retain in broker.log if retain}
    assert {payload for topic, payload in last.items() if "gate" in topic} == {b""}
    assert json.loads(last["streamav/info"])["sources"] == ["porch"]
    told = [payload for topic, payload, *_ in broker.log if topic == "streamav/gate/availability"]
    assert told[-2:] == [b"offline", b""]
    places = [topic for topic, *_ in broker.log]
    assert places.index("streamav/gate/event") < len(places) - 1 - places[::-1].index("streamav/gate/last_event")


async def test_a_source_that_went_while_the_broker_was_away_is_cleared_later(tmp_path: Path) -> None:
    """Without a connection nothing is lost: the next connection clears the topics, also a picture that QoS 0 left there."""
    broker = FakeBroker()
    settings = MqttSettings(host="broker", backoff=BackoffSettings(min_s=0.2, max_s=0.3), timeout_s=0.2, snapshot="retain")
    identity = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"], "gate": ["bark"]})
    sink = MqttSink(settings, identity, tmp_path, connect=broker.connect, close_limit_s=1.0)
    await sink.start()
    await until(lambda: sink.counters.connected)
    broker.lose()
    await until(lambda: not sink.counters.connected)
    count = len(broker.log)
    sink.drop_source("gate")
    sink.add_source("yard", ["bark"])
    await until(lambda: sink.counters.connected)
    await sink.close()
    log = broker.log[count:]
    assert {topic for topic, payload, *_ in log if payload == b""} >= {
        "streamav/gate/status", "streamav/gate/class/bark/state", "streamav/gate/snapshot"
    }  # fmt: skip
    assert ("streamav/yard/status", b"warming_up") in [(topic, payload) for topic, payload, *_ in log]


# Controls


def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
    return SourcePlan(source=source, detection=detection, labels=options(), latency_segments=1)


async def test_changes_of_a_source_that_is_gone_are_refused_and_kept(tmp_path: Path) -> None:
    """No command is taken for it and no listener hears of it; its plan stays readable, and its changes hold again when it comes back."""
    controls = Controls({"porch": DetectionSettings(), "gate": DetectionSettings()}, resolve, kept_path(tmp_path))
    heard: list[str] = []
    controls.listen(lambda plan: heard.append(plan.source))
    controls.change("gate", {"privacy": "metadata_only"})
    controls.remove("gate")
    controls.applied(controls.take())
    await controls.settle()
    with pytest.raises(SettingsError, match=r"no source 'gate'; the sources are porch"):
        controls.change("gate", {"enabled": False})
    assert (controls.sources, heard, controls.differences()) == (("porch",), [], [])
    assert controls.plan("gate").privacy == ("metadata_only",)
    for again in (controls, Controls({"porch": DetectionSettings()}, resolve, kept_path(tmp_path))):
        again.add("gate", DetectionSettings())
        assert again.plan("gate").privacy == ("metadata_only",)
    watched: list[tuple[str, ...]] = []
    controls.watch(lambda plan: watched.append((plan.source, *plan.privacy)))
    controls.tell("gate")
    assert watched == [("porch",), ("gate", "metadata_only"), ("gate", "metadata_only")]


# Labels


class QuietNetworks:
    """Networks that say nothing about their three classes."""

    name = "fake"

    def network(self, name: str) -> object:
        return {"encode_segment": self._encode, "localize_window": self._localize}[name]

    def _encode(self, audio: np.ndarray, visual: np.ndarray) -> tuple[np.ndarray, ...]:
        return audio, visual[:, 0, 0], np.ones((len(audio), 2, 2), np.float32)

    def _localize(self, audio: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, ...]:
        batch, length, _ = audio.shape
        segments = np.zeros((batch, length, 4), np.float32)
        return np.zeros((batch, length), np.float32), segments[:, 0, :3], segments, np.zeros((batch, length), np.float32)


def test_labels_that_come_later_change_no_score_of_the_others(tmp_path: Path) -> None:
    """The columns that were there keep their places and their values, also in segments that were encoded before; new ones follow."""
    table = LabelTable(make_evidence_bundle(tmp_path / "model"))
    table.choose()
    localizer = VscgLocalizer(cast("Engine", QuietNetworks()), evidence=table.evidence())
    segments = tuple(segment_of(number, {"Bark": 0.9}, {"beagle": 0.6}, Quality()) for number in range(10))
    before = localizer.localize([Window(segments=segments)])[0].class_probabilities
    (label,) = table.choose(["cat"])
    evidence = table.evidence()
    assert evidence is not None
    localizer.use(evidence)
    after = localizer.localize([Window(segments=segments)])[0].class_probabilities
    assert label.column == before.shape[1] - 1 == after.shape[1] - 2
    np.testing.assert_array_equal(after[:, : label.column], before[:, :-1])


def test_segments_that_wait_take_more_columns() -> None:
    """A segment whose first windows had fewer columns becomes final with all of them; the old columns are the means that they were."""
    narrow, wide = Aggregation(3), Aggregation(3)
    scores = [window_scores(0, [0.5] * 10), window_scores(1, [0.7] * 10)]
    expected = [wide.push(one) for one in [window_scores(0, [0.5] * 10), window_scores(1, [0.7] * 10)]][-1]
    narrow.push(scores[0])
    more = np.insert(scores[1].class_probabilities, -1, np.float32(0.0), axis=1)
    found = narrow.push(window_scores(1, [0.7] * 10, classes=len(LABELS) + 1))
    assert more.shape[1] == len(found[0].class_probabilities) == len(expected[0].class_probabilities) + 1
    for one, other in zip(found, expected, strict=True):
        assert one.class_probabilities[0] == pytest.approx(other.class_probabilities[0])


# Clips and page


async def test_clips_of_a_source_that_is_gone_take_nothing_more(tmp_path: Path) -> None:
    """Its ring is let go; one that comes has its own; privacy follows; closing works all the same."""
    sink = ClipSink(ClipSettings(dir=tmp_path, min_free_mb=0), tmp_path, {"gate": PacketRing(30.0)})
    await sink.start()
    yard = PacketRing(30.0)
    sink.add_source("yard", yard)
    sink.drop_source("gate")
    sink.set_privacy("gate", ("metadata_only",))
    sink.set_privacy("yard", ("metadata_only",))
    sink.event(make_event(1, 1, EventPhase.NEW, source="gate"), 0.1)
    await sink.close()
    assert yard.privacy == ("metadata_only",)
    assert sink.recordings == {}


def test_the_page_forgets_a_source_with_its_events() -> None:
    """A new viewer hears nothing of a source that is gone, and all of one that came."""
    board = Board({"porch": LogMelOptions(), "gate": LogMelOptions()}, {"porch": (0,), "gate": (0,)})
    board.state("gate", SourceState.ONLINE, "")
    board.event(make_event(1, 1, EventPhase.NEW, source="gate"), 0.1)
    board.add_source("yard", LogMelOptions(), (0,))
    board.drop_source("gate")
    board.state("yard", SourceState.ONLINE, "")
    assert [(one["type"], one["source"]) for one in map(json.loads, board.newest())] == [("state", "yard")]


def test_a_source_that_would_share_an_entity_is_refused_before_it_comes() -> None:
    """A reload whose new source would take the id of an entity in Home Assistant fails while nothing has changed."""
    table = {"front": "male_speech", "front_male": "speech", "yard": "speech"}

    class Plans:
        chosen: ClassVar = {"front": (Label(entry=ClassEntry(slug="male_speech", name="Male speech"), column=0),)}

        def labels(self, one: OneOfSources) -> tuple[Label, ...]:
            return (Label(entry=ClassEntry(slug=table[one.id], name="Speech"), column=1),)

        def plan(self, source: str, detection: object, labels: object) -> None:
            """Take any."""

    def settings(*sources: str) -> Settings:
        listed = [{"id": name, "uri": f"rtsp://cam/{name}"} for name in sources]
        return Settings.model_validate({"sources": listed, "mqtt": {"host": "broker", "homeassistant": True}})

    pipeline = SimpleNamespace(sources=SimpleNamespace(prepare=lambda _: None))
    exchange = SourceExchange(*cast("Any", (Maker(lambda *_, **__: None, settings("front")), Plans(), None, pipeline, None)))
    newer = settings("front", "yard")
    assert len(exchange.prepare(newer, newer.each_source()[1:])) == 1
    newer = settings("front", "front_male")
    with pytest.raises(SettingsError, match="one id, streamav_front_male_speech, for two entities, of front and of front_male"):
        exchange.prepare(newer, newer.each_source()[1:])
    newer = settings("front_male")  # the other one goes with the same reload
    assert len(exchange.prepare(newer, newer.each_source())) == 1


@dataclass(frozen=True)
class Maker:
    """Makes nothing."""

    setup: Callable[..., None]
    settings: Settings
