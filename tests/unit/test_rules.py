"""Tests of the rules that hold an event back: schedules, zones, agreement, cooldown, in the tracker and in explanations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.random_scores import latencies, revisions

from streamav.aggregation import Aggregation
from streamav.app import label_options
from streamav.bundle import ModelCard, load_bundle
from streamav.config import DetectionSettings, Settings
from streamav.config_loading import load_settings
from streamav.errors import SettingsError
from streamav.journal import Surroundings, explain
from streamav.labels import Label
from streamav.offline import _Follower
from streamav.pipeline.stages import SourceStages
from streamav.rules import Rules, Zone, read_polygon, read_schedule, read_time_zone, zones_at
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions, Tracker, TrackerOptions
from streamav.types import SEGMENT_NS, EndReason, Event, EventPhase, FinalScores, SegmentScores, WindowScores

NS = 1_000_000_000
BERLIN = ZoneInfo("Europe/Berlin")
LEFT = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
TOP = Zone("top", ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5)))
GRID = 4


def utc_ns(text: str, zone: ZoneInfo = BERLIN) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * NS


# Schedules


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("22:00-06:00", ["2026-09-14T22:00", "2026-09-14T23:59", "2026-09-15T05:59"], ["2026-09-14T21:59", "2026-09-15T06:00"]),
        ("mon-fri 08:00-18:00", ["2026-09-14T08:00", "2026-09-18T17:59"], ["2026-09-19T12:00", "2026-09-14T18:00"]),
        ("sat,sun", ["2026-09-19T00:00", "2026-09-20T23:59"], ["2026-09-21T00:00", "2026-09-18T23:59"]),
        ("fri 20:00-04:00", ["2026-09-18T20:00", "2026-09-19T03:59"], ["2026-09-18T03:00", "2026-09-19T20:00"]),
        ("sat-mon", ["2026-09-19T01:00", "2026-09-21T01:00"], ["2026-09-22T01:00"]),
        ("9:00-24:00", ["2026-09-14T09:00", "2026-09-14T23:59"], ["2026-09-15T00:00", "2026-09-14T08:59"]),
    ],
)
def test_a_schedule_names_days_and_times(entry: str, inside: list[str], outside: list[str]) -> None:
    """A time belongs to its day; a span over midnight belongs to the day on which it begins; the minute of the end is outside."""
    schedule = read_schedule([entry], BERLIN)
    assert [schedule.holds(utc_ns(text)) for text in inside] == [True] * len(inside)
    assert [schedule.holds(utc_ns(text)) for text in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    "entry", ["", "mon tue", "8:00", "8-9", "25:00-26:00", "08:00-08:00", "mo-fr", "mon 08:00-09:00 10:00-11:00", "24:00-06:00"]
)
def test_a_schedule_that_cannot_be_read_is_refused(entry: str) -> None:
    """The error shows the entry, and an example of a right one."""
    with pytest.raises(ValueError, match=r"such as .*got"):
        read_schedule([entry])


def test_the_change_of_the_clocks_skips_and_repeats() -> None:
    """In the night of the change 01:30-02:30 lasts half an hour in spring and an hour and a half in autumn."""
    schedule = read_schedule(["01:30-02:30"], BERLIN)
    for night, minutes in (("2026-03-29T00:00", 30), ("2026-10-25T00:00", 90), ("2026-06-01T00:00", 60)):
        start = utc_ns(night)
        assert sum(schedule.holds(start + minute * 60 * NS) for minute in range(8 * 60)) == minutes


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants naive bounds
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    st.integers(0, 6),
    st.integers(0, 1439),
    st.integers(1, 1440),
)
def test_a_schedule_is_what_the_clock_on_the_wall_says(when: datetime, zone: str, day: int, begin: int, end: int) -> None:
    """For any instant and zone, also around changes of the clocks: it holds exactly when the local clock shows a time of the span."""
    if begin == end:
        return
    text = f"{('mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun')[day]} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    local = when.astimezone(ZoneInfo(zone))
    minute = 60 * local.hour + local.minute
    yesterday = (local.weekday() - 1) % 7
    expected = (
        local.weekday() == day and begin <= minute < end
        if begin < end
        else (local.weekday() == day and minute >= begin) or (yesterday == day and minute < end)
    )
    assert read_schedule([text], read_time_zone(zone)).holds(round(when.timestamp()) * NS) == expected


# Zones


def test_a_zone_holds_the_cells_of_which_half_lie_in_it() -> None:
    """A cell at the edge belongs to the zone when at least half of it is covered; a place that is not known lies in no zone."""
    assert [LEFT.holds(((column + 0.5) / 4, 0.4), (4, 4)) for column in range(4)] == [True, True, False, False]
    half = Zone("half", ((0.0, 0.0), (0.24, 0.0), (0.24, 1.0), (0.0, 1.0)))
    assert [half.holds(((column + 0.5) / 7, 0.4), (7, 7)) for column in range(3)] == [True, True, False]
    assert zones_at([LEFT, TOP], (0.1, 0.1), (7, 7)) == ("left", "top")
    assert zones_at([LEFT, TOP], None, (7, 7)) == ()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8))
def test_every_zone_has_a_cell(corners: list[tuple[float, float]]) -> None:
    """Any polygon that is accepted can hold a place, however small it is; the whole picture holds every place."""
    try:
        zone = Zone("z", read_polygon(corners))
    except ValueError:
        return
    centres = [((column + 0.5) / 7, (row + 0.5) / 7) for row in range(7) for column in range(7)]
    assert any(zone.holds(place, (7, 7)) for place in centres)
    whole = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    assert all(whole.holds(place, (7, 7)) for place in centres)


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ([(0, 0), (1, 1)], "3 to 100 corners"),
        ([(0, 0), (1, 1), (0.5, 0.5)], "on a line"),
        ([(0, 0), (2, 0), (0, 1)], "from 0 to 1"),
        ([(0, 0), (float("nan"), 0), (0, 1)], "from 0 to 1"),
    ],
)
def test_a_zone_that_is_none_is_refused(corners: list[tuple[float, float]], message: str) -> None:
    """Too few corners, corners outside of the picture, and corners on a line are refused."""
    with pytest.raises(ValueError, match=message):
        read_polygon(corners)


# Settings


@pytest.fixture(scope="module")
def card(tiny_bundle: Path) -> ModelCard:
    return load_bundle(tiny_bundle).card


def detection(*overrides: str) -> DetectionSettings:
    return load_settings(overrides=[f"detection.{one}" for one in overrides], environment={}).detection


def test_a_class_has_its_own_rules_else_the_general_ones(card: ModelCard) -> None:
    """A rule of a class replaces the general one of its kind; cooldowns are rounded up; zones are known to every label that is seen."""
    given_settings = detection(
        "cooldown_s=2.5",
        "time_zone=Europe/Berlin",
        'schedule="22:00-06:00"',
        "zones.gate=[[0,0],[1,0],[1,1]]",
        "classes.bark.schedule=['mon 01:00-02:00','sat,sun']",
        "classes.bark.outside=gate",
        "classes.bark.cooldown_s=0",
    )
    bark, bird, _ = (one.rules for one in label_options(card, given_settings))
    assert (bark.cooldown_segments, bird.cooldown_segments) == (0, 3)
    assert bark.schedule == read_schedule(["mon 01:00-02:00", "sat,sun"], BERLIN)
    assert bird.schedule == read_schedule(["22:00-06:00"], BERLIN)
    assert (bark.outside, bird.outside, bird.zones[0].name) == (("gate",), (), "gate")
    assert label_options(card, DetectionSettings())[0].rules == Rules()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inside=gate"], "names the zone 'gate', but no zone is defined; define it as detection.zones.gate"),
        (["zones.door=[[0,0],[1,0],[1,1]]", "classes.bark.outside=gate"], "but the zones are door"),
    ],
)
def test_a_rule_needs_its_zone(card: ModelCard, overrides: list[str], message: str) -> None:
    """A zone that is not defined is named, with how to define it."""
    with pytest.raises(SettingsError, match=message):
        label_options(card, detection(*overrides))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("zones.gate=[[0,0],[1,1]]", r"detection\.zones: gate: a zone must have 3"),
        ("zones.gate=3", r"detection\.zones\.gate"),
        ("zones.a/b=[[0,0],[1,0],[1,1]]", r"detection\.zones"),
        ("schedule=nights", r"detection\.schedule.*such as"),
        ("time_zone=Mars/Olympus", r"detection\.time_zone: a time zone must be a name such as Europe/Berlin"),
        ("cooldown_s=-1", r"detection\.cooldown_s"),
        ("classes.bark.min_agreement=2", r"detection\.classes\.bark\.min_agreement"),
    ],
)
def test_wrong_rules_are_refused_with_their_setting(override: str, message: str) -> None:
    """The error names the setting and what it must be."""
    with pytest.raises(SettingsError, match=message):
        detection(override)


def test_a_sound_has_no_place(card: ModelCard) -> None:
    """General rules about the picture do not concern a label that is only heard; a rule of its own about the picture is refused."""
    entry = card.classes[0].model_copy(update={"kind": "sound", "hear": ("Bark",)})
    sound = [Label(entry=entry, column=0)]
    general = detection("zones.gate=[[0,0],[1,0],[1,1]]", "inside=gate", "min_agreement=0.5", "cooldown_s=4")
    (option,) = label_options(card, general, sound)
    assert option.rules == Rules(cooldown_segments=4)
    with pytest.raises(SettingsError, match=r"detection\.classes\.bark\.min_agreement must be left out: bark is only heard"):
        label_options(card, detection("classes.bark.min_agreement=0.0"), sound)


def test_sources_share_and_override_zones() -> None:
    """A source sees the general zones and its own."""
    zone = [[0, 0], [1, 0], [1, 1]]
    tree = {"detection": {"zones": {"all": zone}}, "sources": [{"id": "a", "detection": {"zones": {"own": zone}}}, {"id": "b"}]}
    first, second = Settings.model_validate(tree).each_source()
    assert (list(first.detection.zones), list(second.detection.zones)) == (["all", "own"], ["all"])


# The tracker


def scored(
    index: int, probability: float, *, final: bool = True, age: int = 0, cell: int | None = 0, agreement: float = 0.5
) -> SegmentScores:
    """Return scores whose attention is strongest in one cell of the first row, or flat."""
    attention = np.full((GRID, GRID), 0.01, np.float32)
    if cell is not None:
        attention[0, cell] = 1.0
    return SegmentScores(
        index=index,
        age=age,
        final=final,
        relevance=probability,
        class_probabilities=np.array([probability, 0.0], np.float32),
        agreement=agreement,
        attention=attention / attention.sum(),
        level_dbfs=-20.0,
    )


def option(rules: Rules, min_segments: int = 1, gap: int = 0) -> LabelOptions:
    thresholds = Thresholds(on=0.625, off=0.375, min_segments=min_segments, gap_segments=gap)
    return LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=thresholds, rules=rules)


def tracker(one: LabelOptions, *, timed: bool = True) -> Tracker:
    made = Tracker(TrackerOptions(source="s", session="x", labels=(one,), media_ids=True, timed=timed))
    made.follow(utc_ns("2026-09-14T21:59:50"))
    return made


def spans(events: Sequence[Event]) -> list[tuple[int, int]]:
    return [(one.start_ns // NS, (one.end_ns or 0) // NS) for one in events if one.phase is EventPhase.END and one.confirmed]


def play(made: Tracker, scores: Sequence[SegmentScores]) -> list[Event]:
    return [event for one in scores for event in made.push([one])] + made.close()


def test_no_event_begins_in_the_cooldown() -> None:
    """After an event of 2 s none begins for 5 s; what is still loud then begins one."""
    loud = [1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0]
    assert spans(play(tracker(option(Rules(cooldown_segments=5))), [scored(i, v) for i, v in enumerate(loud)])) == [(0, 2), (7, 10)]


def test_a_lost_source_does_not_end_the_cooldown() -> None:
    """An event that the loss of the source ended counts like any other; a retracted one does not."""
    made = tracker(option(Rules(cooldown_segments=10)))
    made.push([scored(0, 1.0)])
    assert spans(made.close(reason=EndReason.SOURCE_LOST)) == [(0, 1)]
    assert made.push([scored(5, 1.0)]) == []
    assert made.push([scored(11, 1.0)])
    other = tracker(option(Rules(cooldown_segments=10), min_segments=2))
    assert spans(play(other, [scored(0, 1.0), scored(1, 0.0), scored(2, 1.0), scored(3, 1.0)])) == [(2, 4)]


def test_an_event_ends_with_its_schedule() -> None:
    """Segments before 22:00 do not count; where media time is no time of day, all do."""
    rules = Rules(schedule=read_schedule(["22:00-22:01"], BERLIN))
    scores = [scored(i, 1.0) for i in range(80)]
    assert spans(play(tracker(option(rules)), scores)) == [(10, 70)]
    assert spans(play(tracker(option(rules), timed=False), scores)) == [(0, 80)]


def test_an_event_must_have_its_place_in_a_zone() -> None:
    """Only segments inside count; with a flat attention the place is not known, which is inside of none and outside of all."""
    cells = [0, 1, 2, 3, None, 0]
    scores = [scored(i, 1.0, cell=cell) for i, cell in enumerate(cells)]
    zones = (LEFT, TOP)
    assert spans(play(tracker(option(Rules(zones=zones, inside=("left",)))), scores)) == [(0, 2), (5, 6)]
    assert spans(play(tracker(option(Rules(zones=zones, outside=("left",)))), scores)) == [(2, 5)]


def test_an_event_names_the_zones_it_touched() -> None:
    """Zones are added as the event reaches them, and stay; without rules that ask for them too."""
    scores = [scored(i, 1.0, cell=cell) for i, cell in enumerate([3, 0, 3])]
    events = play(tracker(option(Rules(zones=(LEFT, TOP)))), scores)
    assert [one.zones for one in events] == [("top",), ("top", "left"), ("top", "left"), ("top", "left")]


def test_sound_and_picture_must_agree() -> None:
    """Segments below the least agreement do not count."""
    scores = [scored(i, 1.0, agreement=value) for i, value in enumerate([0.1, 0.3, 0.4, 0.2])]
    assert spans(play(tracker(option(Rules(min_agreement=0.3))), scores)) == [(1, 3)]


RULES = st.builds(
    Rules,
    cooldown_segments=st.integers(0, 6),
    schedule=st.sampled_from([None, read_schedule(["22:00-23:00"], BERLIN), read_schedule(["21:00-22:00"], BERLIN)]),
    min_agreement=st.sampled_from([None, 0.5]),
    zones=st.just((LEFT, TOP)),
    inside=st.sampled_from([(), ("left",)]),
    outside=st.sampled_from([(), ("top",), ("left",)]),
)


def drawn(seed: int, thought: Sequence[Sequence[float]], latency: int) -> tuple[list[list[SegmentScores]], list[SegmentScores]]:
    """Return what an aggregation would give, with places and agreements of their own for each segment."""
    rng = np.random.default_rng(seed)
    cells = [None if value == GRID else int(value) for value in rng.integers(0, GRID + 1, len(thought))]
    agreements = rng.choice([0.25, 0.75], len(thought))

    def one(t: int, newest: int, *, final: bool) -> SegmentScores:
        return scored(t, thought[t][newest - t], final=final, age=newest - t, cell=cells[t], agreement=float(agreements[t]))

    rounds = [
        [one(t, newest, final=newest - t == latency - 1) for t in range(max(0, newest - latency + 1), newest + 1)]
        for newest in range(len(thought))
    ]
    end = len(thought) - 1
    return rounds, [one(t, end, final=True) for t in range(max(0, end - latency + 2), end + 1)]


@given(st.data(), st.integers(1, 30), latencies, st.integers(1, 3), st.integers(0, 2), RULES, st.integers(0, 1000))
def test_rules_never_break_the_life_of_events_and_explanations_agree(
    data: st.DataObject, length: int, latency: int, min_segments: int, gap: int, rules: Rules, seed: int
) -> None:
    """For any scores, places and rules: each id has one new and one end, cooldowns are kept, and explanations agree with the events.

    The confirmed events do not depend on scores that were not final.
    """
    rounds, rest = drawn(seed, data.draw(revisions(length)), latency)
    one = option(rules, min_segments, gap)
    made = tracker(one)
    events = [event for scores in rounds for event in made.push(scores)] + made.close(rest)
    ids: dict[str, list[Event]] = {}
    for event in events:
        ids.setdefault(event.id, []).append(event)
    for messages in ids.values():
        assert [event.phase for event in messages] == [EventPhase.NEW, *[EventPhase.UPDATE] * (len(messages) - 2), EventPhase.END]
        assert [event.sequence for event in messages] == list(range(1, len(messages) + 1))
    held = sorted(spans(events))
    assert all(right[0] - left[1] >= rules.cooldown_segments for left, right in pairwise(held))
    finals = [scores for round_ in rounds for scores in round_ if scores.final] + rest
    assert held == spans(play(tracker(one), finals))
    inside = {second for start, end in held for second in range(start, end)}
    told = [final_scores(scores) for scores in finals]
    for second in range(length):
        found = explain(told, second * NS, [one], Surroundings(grid=(GRID, GRID)))
        assert found["event"] == (second in inside), (second, found)


def final_scores(scores: SegmentScores) -> FinalScores:
    from streamav.tracker import strongest

    return FinalScores(
        start_ns=scores.index * SEGMENT_NS,
        epoch_ns=utc_ns("2026-09-14T21:59:50"),
        labels={"bark": float(scores.class_probabilities[0])},
        background=0.0,
        relevance=scores.relevance,
        agreement=scores.agreement,
        level_dbfs=-20.0,
        place=strongest(scores.attention),
    )


@pytest.mark.parametrize(
    ("rules", "rule", "words"),
    [
        (Rules(schedule=read_schedule(["03:00-04:00"], BERLIN)), "schedule", "outside of its schedule"),
        (Rules(min_agreement=0.6), "agreement", "the agreement 0.50 is below min_agreement 0.60"),
        (Rules(zones=(LEFT,), inside=("left",)), "inside", r"its place (0.88, 0.12) is in none of the zones left"),
        (Rules(zones=(TOP,), outside=("top",)), "outside", r"its place (0.88, 0.12) is in a zone to leave out (top)"),
        (Rules(cooldown_segments=9), "cooldown", "the cooldown of 9 s after the event before is not over"),
    ],
)
def test_the_rule_that_held_an_event_back_is_named(rules: Rules, rule: str, words: str) -> None:
    """The explanation names the rule, with the figures that decided."""
    scores = [final_scores(scored(i, v, cell=3)) for i, v in enumerate([1.0, 0.0, 0.0, 1.0, 0.0])]
    found = explain(scores, 3 * NS, [option(rules)], Surroundings(grid=(GRID, GRID)))
    labels: Any = found["labels"]
    assert (found["event"], labels[0]["rule"]) == (False, rule)
    assert words in str(found["why"])


@given(st.integers(0, 2**32 - 1), st.integers(10, 40), latencies, RULES)
def test_live_and_offline_find_the_same(seed: int, length: int, latency: int, rules: Rules) -> None:
    """The stages of a live run and those of a recording give the same confirmed events for the same windows and rules."""
    rules = Rules(cooldown_segments=rules.cooldown_segments, min_agreement=rules.min_agreement, zones=rules.zones, inside=rules.inside)
    one = option(rules)
    options = TrackerOptions(source="s", session="x", labels=(one,), media_ids=True, timed=False)
    rng = np.random.default_rng(seed)
    attention = rng.dirichlet(np.full(GRID * GRID, 0.1), length).astype(np.float32).reshape(length, GRID, GRID)
    windows = []
    for end in range(10, length + 1):
        shares = np.zeros((10, 2), np.float32)
        shares[:, 0] = rng.choice([0.0, 0.5, 1.0], 10)
        windows.append(
            WindowScores(
                first_index=end - 10,
                relevance=shares[:, 0].copy(),
                class_probabilities=shares,
                agreement=rng.uniform(0, 1, 10).astype(np.float32),
                attention=attention[end - 10 : end],
                levels_dbfs=(-20.0,) * 10,
            )
        )
    live = SourceStages(options, latency, lambda: utc_ns("2026-09-14T21:59:50"))
    events = [event for window in windows for event in live.score(window)] + live.interrupt(EndReason.ENDED)
    follower = _Follower(Aggregation(latency), Tracker(options))
    for window in windows:
        follower.push(window)
    assert spans(events) == spans(follower.close())


def test_a_schedule_reads_the_time_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time zone that of the machine holds, as `date` shows it."""
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        noon = datetime(2026, 9, 14, 3, 0, tzinfo=UTC)  # 12:00 in Tokyo
        assert read_schedule(["12:00-12:01"]).holds(round(noon.timestamp()) * NS)
        assert not read_schedule(["12:00-12:01"]).holds(round((noon + timedelta(minutes=1)).timestamp()) * NS)
    finally:
        monkeypatch.undo()
        time.tzset()
