"""Tests the stages of one source behind the extractor, and the state of the source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rigs.roles import EPOCH_NS, LABELS, FakeLocalizer, features

from streamav.pipeline.stages import SourceStages
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions, TrackerOptions
from streamav.types import EndReason, Event, EventPhase, Quality, SegmentFeatures, SourceContent, SourceState

LOUD = 0.9
SILENT = Quality(missing_samples=16_000)


class Stages:
    """Stages whose windows are scored at once."""

    def __init__(self) -> None:
        label = LabelOptions(label=LABELS[0], label_name="Bark", class_id=0, thresholds=Thresholds(on=0.6, off=0.35))
        options = TrackerOptions(source="porch", session="s", labels=(label,), media_ids=True)
        self.stages = SourceStages(options, 1, lambda: 0)
        self.events: list[Event] = []
        self.windows: list[list[tuple[int, float]]] = []

    def push(self, *given: SegmentFeatures) -> list[SourceState]:
        """Push features, and return the states that were announced."""
        for one in given:
            window, events = self.stages.push(one)
            self.events += events
            if window is not None:
                self.windows.append([(segment.index, round(float(segment.audio[0]), 3)) for segment in window.segments])
                self.events += self.stages.score(FakeLocalizer().localize([window])[0])
        states = [state for state, _ in self.stages.changes]
        self.stages.changes.clear()
        return states


def loud(*indices: int, quality: Quality | None = None) -> list[SegmentFeatures]:
    return [replace(features(index, LOUD), quality=quality or Quality()) for index in indices]


def test_it_is_online_when_ten_seconds_are_there() -> None:
    """The source is online from the tenth segment on, and this is announced once."""
    made = Stages()
    assert made.stages.state is SourceState.STARTING
    assert made.push(*loud(*range(9))) == [SourceState.WARMING_UP]
    assert made.push(*loud(9, 10, 11)) == [SourceState.ONLINE]


def test_a_dropped_second_is_stood_in_for_by_the_one_before() -> None:
    """Window and event go on without a gap, and the source is degraded until ten good segments have arrived."""
    made = Stages()
    made.push(*loud(*range(10)))
    assert made.push(features(12, 0.7)) == [SourceState.DEGRADED]
    assert made.windows[-1][-4:] == [(9, LOUD), (10, LOUD), (11, LOUD), (12, 0.7)]
    assert [event.phase for event in made.events[-2:]] == [EventPhase.UPDATE, EventPhase.UPDATE]
    assert made.push(*loud(*range(13, 22))) == []
    assert made.push(*loud(22)) == [SourceState.ONLINE]


def test_where_a_whole_window_is_missing_a_new_stretch_begins() -> None:
    """Events end at the last segment that arrived, and ten new segments are needed to be online."""
    made = Stages()
    made.push(*loud(*range(10)))
    assert made.push(*loud(30)) == [SourceState.WARMING_UP]
    assert (made.events[-1].phase, made.events[-1].end_reason) == (EventPhase.END, EndReason.SOURCE_LOST)
    assert made.events[-1].end_ns == 10_000_000_000
    assert made.push(*loud(*range(31, 40))) == [SourceState.ONLINE]
    assert [len(window) for window in made.windows[-10:]] == [10, 2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("lacking", [SILENT, Quality(picture_missing=True)], ids=["sound", "picture"])
def test_a_source_without_sound_or_picture_is_degraded(lacking: Quality) -> None:
    """Three segments without any sample, or any picture, make a source degraded, one does not."""
    made = Stages()
    made.push(*loud(*range(10)))
    assert made.push(*loud(10, quality=lacking), *loud(11)) == []
    assert made.push(*loud(12, 13, 14, quality=lacking)) == [SourceState.DEGRADED]
    assert made.push(*loud(*range(15, 25))) == [SourceState.ONLINE]


@pytest.mark.parametrize("lacking", [SILENT, Quality(picture_missing=True)], ids=["sound", "picture"])
def test_what_never_arrived_is_never_said_to_arrive(lacking: Quality) -> None:
    """A source that gives one kind alone from its start is degraded, with the reason, and never online."""
    made = Stages()
    for one in loud(*range(12), quality=lacking):
        made.stages.push(one)
    what = "picture" if lacking.picture_missing else "sound"
    assert made.stages.changes[1:] == [(SourceState.DEGRADED, f"no {what} arrives: check that the camera sends both, and its cables")]


@pytest.mark.parametrize(("lacks", "lacking"), [("sound", SILENT), ("picture", Quality(picture_missing=True))])
def test_what_a_source_never_had_is_not_missed(lacks: str, lacking: Quality) -> None:
    """A source that consists of one kind alone is online, and the reason says what cannot come of it."""
    made = Stages()
    made.stages.expect(SourceContent(sound=lacks != "sound", picture=lacks != "picture"))
    for one in loud(*range(12), quality=lacking):
        made.stages.push(one)
    state, reason = made.stages.changes[-1]
    assert state is SourceState.ONLINE
    assert f"the source has no {lacks}" in reason
    nothing = Quality(missing_samples=16_000, picture_missing=True)
    assert made.push(*loud(*range(12, 16), quality=nothing))[-1] is SourceState.DEGRADED


@pytest.mark.parametrize("lacking", [SILENT, Quality(picture_missing=True)], ids=["sound", "picture"])
def test_online_is_first_said_of_a_second_that_has_both(lacking: Quality) -> None:
    """The tenth second lacks something, the eleventh does not: it is online from the eleventh on."""
    made = Stages()
    assert made.push(*loud(*range(9)), *loud(9, quality=lacking)) == [SourceState.WARMING_UP]
    assert made.push(*loud(10)) == [SourceState.ONLINE]


def test_the_wall_clock_is_asked_only_when_there_are_scores() -> None:
    """The wall clock is read only when there are scores, because the source's least delay is not known earlier."""
    asked: list[int] = []

    def epoch_ns() -> int:
        asked.append(1)
        return 0

    made = Stages()
    made.stages = SourceStages(made.stages._options, 1, epoch_ns)
    made.push(*loud(0))
    assert made.stages.interrupt(EndReason.SHUTDOWN) == []
    assert not asked
    made.push(*loud(*range(20, 31)))
    assert asked


def test_an_open_event_keeps_its_start_while_the_clock_is_followed() -> None:
    """All messages of an event map media time to UTC like its first message; the next event uses the newest mapping."""
    known = [EPOCH_NS]
    made = Stages()
    made.stages = SourceStages(made.stages._options, 1, lambda: known[0])
    made.push(*loud(*range(12)))
    known[0] += 5_000_000
    made.push(*loud(*range(12, 15)), *map(features, range(15, 18)))
    assert {event.epoch_ns for event in made.events} == {EPOCH_NS}
    assert made.events[-1].phase is EventPhase.END
    made.push(*loud(*range(18, 21)))
    assert made.events[-1].id != made.events[0].id
    assert made.events[-1].epoch_ns == EPOCH_NS + 5_000_000


# The first ten seconds, and a short loss


def test_an_event_in_the_first_ten_seconds_is_provisional_until_a_window_is_full() -> None:
    """Something loud from the start is told after two seconds, unconfirmed; with the tenth it is confirmed. Until then it warms up."""
    made = Stages()
    assert made.push(*loud(*range(9))) == [SourceState.WARMING_UP]
    assert [event.newest_end_ns for event in made.events if event.phase is EventPhase.NEW] == [2_000_000_000]
    assert not any(event.confirmed for event in made.events)
    assert made.push(*loud(9)) == [SourceState.ONLINE]
    assert made.events[-1].confirmed
    assert len({event.id for event in made.events}) == 1


def test_what_a_full_window_does_not_see_is_retracted() -> None:
    """Short windows see an event that the full window does not: it is retracted, and was never confirmed."""
    made = Stages()
    made.push(*(replace(one, audio=one.audio * 0.0) for one in loud(*range(10))))
    assert made.events == []
    doubted = Stages()
    for one in loud(*range(10)):
        window, events = doubted.stages.push(one)
        assert events == []
        if window is not None:
            (scores,) = FakeLocalizer().localize([window])
            quiet = len(window.segments) == 10
            kept = replace(scores, class_probabilities=np.roll(scores.class_probabilities, -1, axis=1)) if quiet else scores
            doubted.events += doubted.stages.score(kept)
    assert (doubted.events[-1].phase, doubted.events[-1].end_reason) == (EventPhase.END, EndReason.RETRACTED)
    assert not any(event.confirmed for event in doubted.events)


@pytest.mark.parametrize(("lost_s", "windows"), [(0, [10]), (3, [10]), (4, [2])])
def test_a_loss_of_at_most_three_seconds_keeps_the_window(lost_s: int, windows: list[int]) -> None:
    """After a loss of up to 3 s the first segment completes a full window; its event is a new one. After a longer one it warms up."""
    made = Stages()
    made.push(*loud(*range(12)))
    made.events += made.stages.lose()
    assert (made.events[-1].phase, made.events[-1].end_reason) == (EventPhase.END, EndReason.SOURCE_LOST)
    made.stages.announce(SourceState.LOST, "unplugged")
    made.stages.announce(SourceState.WARMING_UP, "back")
    made.windows.clear()
    first = 12 + lost_s
    states = made.push(*loud(*range(first, first + 3)))
    assert [len(window) for window in made.windows][: len(windows)] == windows
    assert (states[-1] is SourceState.ONLINE) == (lost_s <= 3)
    assert made.events[-1].start_ns == first * 1_000_000_000


def test_a_short_loss_is_not_blamed_on_the_machine() -> None:
    """The seconds of a loss were not skipped: the source is online again, not degraded."""
    made = Stages()
    made.push(*loud(*range(12)))
    made.stages.lose()
    made.stages.announce(SourceState.LOST, "unplugged")
    assert made.push(*loud(14)) == [SourceState.LOST, SourceState.ONLINE]
