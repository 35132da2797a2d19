"""Tests of changes while a run goes on: what is accepted, when it holds, what is kept, and what the loop makes of it."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.roles import LABELS, PICTURE, FakeClock, FakeExtractor, FakeLocalizer, FakeSource, RecordingSink, seconds

from streamav.config import DetectionSettings
from streamav.control import Controls, SourcePlan, kept_path
from streamav.errors import SettingsError
from streamav.pipeline import Pipeline, SourceSetup
from streamav.pipeline.stages import SourceStages
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions, TrackerOptions
from streamav.types import SEGMENT_NS, EndReason, EventPhase, SourceState

QUIET, LOUD = 0.1, 0.9


def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
    """Return a plan of three labels, as the app makes it of a model card."""
    for name in detection.classes:
        if name not in LABELS:
            msg = f"detection.classes.{name}: there is no such label"
            raise SettingsError(msg)
    own = {label: detection.classes.get(label) for label in LABELS}
    labels = tuple(
        LabelOptions(
            label=label,
            label_name=label.title(),
            class_id=number,
            thresholds=Thresholds(on=(None if one is None else one.on) or detection.on or 0.6, off=0.35),
        )
        for number, label in enumerate(LABELS)
        if (one := own[label]) is None or one.enabled
    )
    return SourcePlan(source=source, detection=detection, labels=labels, latency_segments=detection.latency_segments or 1)


def make(path: Path | None = None, **configured: DetectionSettings) -> Controls:
    return Controls(configured or {"porch": DetectionSettings()}, resolve, path)


def test_a_change_is_merged_over_the_configuration() -> None:
    """Changes of single values add up; None takes one back; a value that equals the configuration is no difference."""
    controls = make(porch=DetectionSettings(on=0.5, latency_segments=3))
    controls.change("porch", {"classes": {"bark": {"on": 0.7}}})
    controls.change("porch", {"classes": {"bark": {"min_segments": 2}, "bird": {"enabled": False}}, "on": 0.55})
    found = controls.plan("porch").detection
    assert (found.on, found.latency_segments, found.classes["bark"].on, found.classes["bark"].min_segments) == (0.55, 3, 0.7, 2)
    assert [(one.setting, one.value, one.configured) for one in controls.differences()] == [
        ("classes.bark.min_segments", 2, None),
        ("classes.bark.on", 0.7, None),
        ("classes.bird.enabled", False, None),
        ("on", 0.55, 0.5),
    ]
    controls.change("porch", {"classes": None, "on": 0.5})
    assert controls.differences() == []
    assert controls.plan("porch").detection.on == 0.5


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"on": 1.5}, r"detection\.on: .*less than or equal to 1 \(got 1\.5\)"),
        ({"onn": 0.5}, r"unknown setting detection\.onn; the nearest is detection\.on"),
        ({"classes": {"brad": {"on": 0.5}}}, "no such label"),
        ({"classes": 3}, r"detection\.classes"),
        ({"labels": ["bark"]}, "cannot be changed by a command"),
        ({"on": float("nan")}, r"detection\.on"),
    ],
)
def test_a_wrong_change_is_refused_and_changes_nothing(patch: dict[str, object], message: str) -> None:
    """A wrong value is refused with the words of the settings, and what holds stays."""
    controls = make()
    controls.change("porch", {"on": 0.7})
    before = controls.plan("porch")
    with pytest.raises(SettingsError, match=message):
        controls.change("porch", patch)
    assert controls.plan("porch") is before
    with pytest.raises(SettingsError, match="there is no source 'door'; the sources are porch"):
        controls.change("door", {})


async def test_what_was_changed_holds_after_a_restart(tmp_path: Path) -> None:
    """Changes are kept by source once they hold; other sources in the file, of another process, stay."""
    path = kept_path(tmp_path / "state")
    other = make(path, door=DetectionSettings())
    other.change("door", {"on": 0.9})
    other.applied(other.take())
    controls = make(path)
    controls.change("porch", {"enabled": False})
    assert json.loads(path.read_text(encoding="utf-8") if path.exists() else "{}").get("porch") is None  # it does not hold yet
    controls.applied(controls.take())
    await asyncio.gather(controls.settle(), other.settle())
    assert json.loads(path.read_text(encoding="utf-8")) == {"door": {"on": 0.9}, "porch": {"enabled": False}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert not make(path).plan("porch").enabled
    again = make(path)
    again.change("porch", {"enabled": True})
    again.applied(again.take())
    await again.settle()
    assert json.loads(path.read_text(encoding="utf-8")) == {"door": {"on": 0.9}}


@pytest.mark.parametrize("content", ["", "[]", '{"porch": 3}', "{", '{"porch": {"on": "x", "latency_segments": 5}}', "[" * 100_000])
def test_a_damaged_file_of_changes_costs_only_what_is_damaged(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    """A run starts with the configuration, and each change that is not allowed is named."""
    path = kept_path(tmp_path)
    path.write_text(content, encoding="utf-8")
    plan = make(path).plan("porch")
    assert plan.detection.on is None
    assert plan.latency_segments == (5 if "latency" in content else 1)
    assert "on" in caplog.text


def test_a_change_of_a_label_that_is_gone_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other kept changes hold."""
    path = kept_path(tmp_path)
    path.write_text('{"porch": {"classes": {"gone": {"on": 0.7}, "bark": {"on": 0.8}}}}', encoding="utf-8")
    controls = make(path)
    assert controls.plan("porch").labels[0].thresholds.on == 0.8
    assert [one.setting for one in controls.differences()] == ["classes.bark.on"]
    assert "classes.gone.on" in caplog.text


def test_a_privacy_that_cannot_be_kept_becomes_the_strictest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody who was hidden is shown because another model, or a mistake in the file, does not allow what was set."""
    path = kept_path(tmp_path)
    path.write_text('{"porch": {"privacy": ["mute"], "on": 0.7}}', encoding="utf-8")
    controls = make(path)
    assert controls.plan("porch").privacy == ("metadata_only",)
    assert controls.plan("porch").detection.on == 0.7
    assert "privacy is metadata_only until it is set again" in caplog.text


def test_a_watcher_hears_of_a_change_before_it_is_answered() -> None:
    """It is called with every plan at once, in the thread that makes the change, and first with what holds; listeners hear later."""
    controls = make(porch=DetectionSettings(privacy=("blur",)))
    seen: list[tuple[str, object]] = []
    controls.watch(lambda plan: seen.append((threading.current_thread().name, plan.privacy)))
    changing = threading.Thread(target=lambda: controls.change("porch", {"privacy": "metadata_only"}), name="other")
    changing.start()
    changing.join()
    with pytest.raises(SettingsError):
        controls.change("porch", {"privacy": "nothing"})
    controls.reload({"porch": DetectionSettings(privacy=("mute_speech",))})
    assert seen == [("MainThread", ("blur",)), ("other", ("metadata_only",))]
    controls.change("porch", {"privacy": None})
    assert seen[-1] == ("MainThread", ("mute_speech",))
    assert controls.differences() == []


def test_a_change_is_kept_as_settings_hold_it() -> None:
    """A text for a list is the same value, so one that equals the configuration is no difference."""
    controls = make(porch=DetectionSettings(privacy=("blur",)))
    controls.change("porch", {"privacy": "blur", "time_zone": "Europe/Berlin"})
    assert [(one.setting, one.value) for one in controls.differences()] == [("time_zone", "Europe/Berlin")]


def test_a_new_configuration_keeps_the_changes_on_top() -> None:
    """Only sources that differ get a plan; a wrong source or another choice of labels changes nothing at all."""
    controls = make(porch=DetectionSettings(), door=DetectionSettings())
    controls.change("porch", {"on": 0.7})
    controls.take()
    plans = controls.reload({"porch": DetectionSettings(on=0.4, latency_segments=2), "door": DetectionSettings()})
    assert [(plan.source, plan.detection.on, plan.latency_segments) for plan in plans] == [("porch", 0.7, 2)]
    assert controls.take() == plans
    wrong: list[dict[str, DetectionSettings]] = [
        {"porch": DetectionSettings(on=0.1), "window": DetectionSettings()},
        {"porch": DetectionSettings(on=0.1), "door": DetectionSettings(labels=("bark",))},
    ]
    for one in wrong:
        with pytest.raises(SettingsError):
            controls.reload(one)
    assert controls.take() == []
    assert controls.configured("porch").on == 0.4


def test_what_waits_is_bounded() -> None:
    """A thousand changes of many threads wait as one plan of each source, which holds all of them."""
    controls = make(porch=DetectionSettings(), door=DetectionSettings())

    def work(label: str) -> None:
        for number in range(100):
            controls.change("porch", {"classes": {label: {"on": 0.4 + number / 1000}}})
            controls.change("door", {"latency_segments": 1 + number % 10})

    threads = [threading.Thread(target=work, args=(label,)) for label in LABELS]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    plans = {plan.source: plan for plan in controls.take()}
    assert set(plans) == {"porch", "door"}
    assert [label.thresholds.on for label in plans["porch"].labels] == [0.499] * 3
    assert controls.take() == []


async def test_listeners_are_told_once_it_is_kept(tmp_path: Path) -> None:
    """A listener hears of a plan after it is on disk; one that fails does not keep the others from it."""
    path = kept_path(tmp_path)
    controls, heard = make(path), list[bool]()

    def fail(plan: SourcePlan) -> None:
        raise OSError

    controls.listen(fail)
    controls.listen(lambda _: heard.append("porch" in json.loads(path.read_text(encoding="utf-8"))))
    controls.change("porch", {"on": 0.7})
    assert not heard
    controls.applied(controls.take())
    await controls.settle()
    assert heard == [True]


async def test_a_folder_that_cannot_be_written_does_not_undo_a_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The change holds and is echoed; that it cannot be kept is logged once."""
    (tmp_path / "file").touch()
    controls, heard = make(kept_path(tmp_path / "file" / "state")), list[str]()
    controls.listen(lambda plan: heard.append(plan.source))
    for value in (0.7, 0.8):
        controls.change("porch", {"on": value})
        controls.applied(controls.take())
        await controls.settle()
    assert heard == ["porch", "porch"]
    assert caplog.text.count("cannot be kept") == 1


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "enabled": st.booleans() | st.none(),
                "on": st.sampled_from([0.4, 0.9, None]),
                "classes": st.dictionaries(st.sampled_from(LABELS), st.fixed_dictionaries({"enabled": st.booleans() | st.none()})),
            },
        ),
        max_size=8,
    )
)
def test_differences_make_the_same_plan_again(patches: list[dict[str, object]]) -> None:
    """For any changes: what differs from the configuration, given as one change to a fresh run, gives the same plan."""
    controls = make(porch=DetectionSettings(on=0.5))
    for patch in patches:
        controls.change("porch", patch)
    fresh = make(porch=DetectionSettings(on=0.5))
    for one in controls.differences():
        tree: object = one.value
        for key in reversed(one.setting.split(".")):
            tree = {key: tree}
        assert isinstance(tree, dict)
        fresh.change("porch", tree)
    assert fresh.plan("porch").labels == controls.plan("porch").labels
    assert fresh.plan("porch").enabled == controls.plan("porch").enabled


# In the loop


class Gated:
    """A run of one source whose segments come in parts; between two parts changes are made."""

    def __init__(self, *parts: list[float], controls: Controls | None = None) -> None:
        self.gates = [threading.Event() for _ in parts]
        items: list[object] = []
        first = 0
        for part, gate in zip(parts, self.gates, strict=True):
            items += [gate, *seconds(part, first)]
            first += len(part)
        self.controls = controls or make()
        self.sink, self.extractor = RecordingSink(), FakeExtractor()
        plan = self.controls.plan("porch")
        setup = SourceSetup(
            id="porch",
            source=FakeSource(items),  # type: ignore[arg-type]
            segmenter=SegmenterOptions(frames_per_second=2, picture=PICTURE),
            labels=plan.labels,
            latency_segments=plan.latency_segments,
            queue_segments=60,
            paced=False,
        )
        self.pipeline = Pipeline([setup], self.extractor, FakeLocalizer(), self.sink, FakeClock())
        self.pipeline.controls = self.controls
        self.ends = [sum(len(part) for part in parts[: number + 1]) for number in range(len(parts))]

    async def go(self, *changes: dict[str, object]) -> Gated:
        """Let each part through; make one change after each part but the last, once the part was processed."""
        run = asyncio.create_task(self.pipeline.run())
        for number, gate in enumerate(self.gates):
            gate.set()
            if number < len(changes):
                await self._processed(self.ends[number] - 1)
                told = asyncio.Event()
                self.controls.listen(lambda _, told=told: told.set())  # type: ignore[misc]
                self.controls.change("porch", changes[number])
                await asyncio.wait_for(told.wait(), 20)
        await run
        return self

    async def _processed(self, count: int) -> None:
        """Wait until all segments are processed, or passed over, but the newest, which may wait for the next picture."""
        lane = self.pipeline.lanes[0]
        async with asyncio.timeout(20):
            while lane.meter.segments < count if lane.stages.enabled else lane.feed.frames < count + 1:  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.005)
            while lane.feed.inbox._things:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    @property
    def spans(self) -> list[tuple[str, float, float, EndReason | None]]:
        return [
            (one.label, one.start_ns / SEGMENT_NS, (one.end_ns or 0) / SEGMENT_NS, one.end_reason)
            for one in self.sink.events
            if one.phase is EventPhase.END and one.confirmed
        ]


async def test_a_label_that_is_switched_off_ends_its_event() -> None:
    """The event ends as `disabled`, later ones do not begin, and final scores no longer name the label; switched on it is found again."""
    run = Gated([QUIET] * 10 + [LOUD] * 4, [LOUD] * 4, [LOUD] * 4 + [QUIET] * 3)
    await run.go({"classes": {"bark": {"enabled": False}}}, {"classes": {"bark": {"enabled": True}}})
    (first, second) = run.spans
    assert (first[0], first[1], first[3]) == ("bark", 10.0, EndReason.DISABLED)
    assert second[1] >= 17.0
    assert second[3] is EndReason.ENDED
    assert len({one.id for one in run.sink.events}) == 2
    assert any("bark" not in one.labels for one in run.sink.finals)


async def test_a_source_that_is_switched_off_runs_no_network() -> None:
    """Its events end as `disabled`, its state says so, its segments reach no network; switched on it starts again."""
    run = Gated([LOUD] * 12, [LOUD] * 20, [LOUD] * 12)
    await run.go({"enabled": False}, {"enabled": True})
    states = [state for state, _ in run.sink.states]
    begin, begin_again = [SourceState.STARTING, SourceState.WARMING_UP], [SourceState.WARMING_UP]
    assert states == [*begin, SourceState.ONLINE, SourceState.DISABLED, *begin_again, SourceState.ONLINE]
    assert [reason for *_, reason in run.spans] == [EndReason.DISABLED, EndReason.ENDED]
    assert 22 <= len(run.extractor.batches) <= 26
    place = run.sink.told.index(SourceState.DISABLED)
    assert run.sink.told[place - 1] == (EventPhase.END, EndReason.DISABLED)  # the event ends before the state is told


async def test_a_source_may_start_switched_off(tmp_path: Path) -> None:
    """A kept change holds from the first segment on."""
    path = kept_path(tmp_path)
    path.write_text('{"porch": {"enabled": false}}', encoding="utf-8")
    run = await Gated([LOUD] * 12, controls=make(path)).go()
    assert [state for state, _ in run.sink.states] == [SourceState.STARTING, SourceState.DISABLED]
    assert run.extractor.batches == []
    assert run.sink.events == []


async def test_a_threshold_holds_from_the_next_segment_on() -> None:
    """A higher threshold neither ends nor revokes the event that runs; the next one needs it. A latency changes too."""
    run = Gated([QUIET] * 10 + [0.7] * 4, [0.7] * 3 + [QUIET] * 3 + [0.7] * 3 + [QUIET] * 3, [LOUD] * 2 + [QUIET] * 3)
    await run.go({"on": 0.8, "classes": {"bark": {"min_segments": 2}}}, {"latency_segments": 4})
    assert [(label, start, end) for label, start, end, _ in run.spans] == [("bark", 10.0, 17.0), ("bark", 26.0, 28.0)]


def test_a_source_that_was_lost_while_it_was_off_is_lost_when_it_is_on() -> None:
    """While it is switched off it stays `disabled`; switched on, it says what it is: lost, or warming up when it is back."""
    off, on = make(), make()
    off.change("porch", {"enabled": False})
    options = TrackerOptions(source="porch", session="s", labels=on.plan("porch").labels)
    for back in (False, True):
        stages = SourceStages(options, 1, lambda: 0)
        stages.change(off.plan("porch"))
        stages.announce(SourceState.LOST, "no more data")
        if back:
            stages.announce(SourceState.WARMING_UP, "the source is back")
        stages.change(on.plan("porch"))
        states = [state for state, _ in stages.changes]
        assert states == [SourceState.DISABLED, SourceState.WARMING_UP if back else SourceState.LOST]
    lost = SourceStages(options, 1, lambda: 0)
    lost.announce(SourceState.LOST, "no more data")
    lost.change(off.plan("porch"))
    lost.change(on.plan("porch"))
    assert [state for state, _ in lost.changes] == [SourceState.LOST, SourceState.DISABLED, SourceState.LOST]
