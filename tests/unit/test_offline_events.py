"""Tests that events found offline are exactly those of a live run, for every class with its own thresholds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs.live_events import live_events

from streamav.errors import DataError
from streamav.evaluation.ages import at_latency, scored_segments
from streamav.evaluation.counting import ScoredStream, said_events
from streamav.evaluation.events import Collar, EventCounts, SaidEvent, count_events
from streamav.evaluation.gaps import score_gaps
from streamav.evaluation.operating import at_detection
from streamav.evaluation.scores import score_answers, score_streams
from streamav.evaluation.tuning.classes import class_candidates, tune_general
from streamav.thresholds import Thresholds

T = 10

thresholds = st.builds(
    lambda pair, least, gap: Thresholds(on=max(pair) / 100, off=min(pair) / 100, min_segments=least, gap_segments=gap),
    st.tuples(st.integers(1, 99), st.integers(1, 99)),
    st.integers(1, 5),
    st.integers(0, 5),
)
per_class = st.lists(thresholds, min_size=1, max_size=4)


def drawn(seed: int, each: list[Thresholds], length: int) -> NDArray[np.float32]:
    """Draw probabilities; a third of them lie exactly on a threshold, as exactly as float32 can."""
    random = np.random.default_rng(seed)
    scores = random.random((length, len(each) + 1))
    for label, one in enumerate(each):
        edges = random.choice([one.on, one.off, one.on, 0.0, 1.0], length)
        scores[:, label] = np.where(random.random(length) < 0.33, edges, scores[:, label])
    return scores.astype(np.float32)


@given(st.integers(0, 2**32 - 1), per_class, st.integers(0, 80))
def test_offline_events_are_those_of_a_live_run(seed: int, each: list[Thresholds], length: int) -> None:
    """Class, start, end and confirming segment agree for any scores and thresholds, also in single precision."""
    scores = drawn(seed, each, length)
    assert said_events(scores, each) == live_events(scores, each)
    assert said_events(scores.astype(np.float64), each) == live_events(scores, each)


@given(st.integers(0, 2**32 - 1), per_class, st.integers(0, 40), st.integers(2, 10))
def test_what_was_thought_before_a_score_was_final_changes_no_event(seed: int, each: list[Thresholds], length: int, latency: int) -> None:
    """At a longer latency, scores that are revised later do not change the events; they are those of the final scores."""
    scores = drawn(seed, each, length)
    live = [replace(one, confirmed=0) for one in live_events(scores, each, latency, seed)]
    assert [replace(one, confirmed=0) for one in said_events(scores, each)] == live


@pytest.mark.parametrize(
    ("column", "changes", "expected"),
    [
        ([0.1, 0.7, 0.7, 0.4, 0.2], {}, [SaidEvent(0, 1, 4, 2)]),
        ([0.4, 0.4, 0.7, 0.7, 0.1], {}, [SaidEvent(0, 2, 4, 3)]),
        ([0.5, 0.5, 0.5, 0.5, 0.5], {}, []),
        ([0.7, 0.4, 0.4, 0.4, 0.1], {}, []),  # long, but only one segment at or above `on`
        ([0.7, 0.4, 0.4, 0.7, 0.1], {}, [SaidEvent(0, 0, 4, 3)]),
        ([0.7, 0.1, 0.1, 0.1, 0.1], {"min_segments": 1}, [SaidEvent(0, 0, 1, 0)]),
        ([0.7, 0.7, 0.1, 0.7, 0.7], {}, [SaidEvent(0, 0, 2, 1), SaidEvent(0, 3, 5, 4)]),
        ([0.7, 0.7, 0.1, 0.7, 0.7], {"gap_segments": 1}, [SaidEvent(0, 0, 5, 1)]),
        ([0.7, 0.7, 0.1, 0.4, 0.1], {"gap_segments": 1}, [SaidEvent(0, 0, 4, 1)]),  # held after a pause belongs to it
        ([0.7, 0.1, 0.7, 0.1, 0.1], {"gap_segments": 1}, [SaidEvent(0, 0, 3, 2)]),
    ],
)
def test_the_rule_by_hand(column: list[float], changes: dict[str, int], expected: list[SaidEvent]) -> None:
    """Live and offline: begins at `on`, goes on at `off`, joined over pauses, confirmed by `min_segments` segments at or above `on`."""
    setting = replace(Thresholds(on=0.6, off=0.35, min_segments=2, gap_segments=0), **changes)
    scores = np.stack([column, 1 - np.array(column)], axis=1)
    assert said_events(scores, setting) == expected
    assert live_events(scores, setting) == expected


def made(seed: int, classes: int = 3, length: int = 120) -> ScoredStream:
    """Build a stream whose windows hold the truth with noise."""
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, classes + 1, length // 5), 5)
    places = np.arange(len(truth) - T + 1)[:, None] + np.arange(T)
    logits = 2.0 * np.eye(classes + 1)[truth[places]] + random.normal(size=(*places.shape, classes + 1))
    return ScoredStream(np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True), truth)


EACH = (
    Thresholds(on=0.7, off=0.3, min_segments=3, gap_segments=2),
    Thresholds(on=0.4, off=0.4, min_segments=1, gap_segments=0),
    Thresholds(on=0.55, off=0.25, min_segments=2, gap_segments=1),
)


@pytest.mark.parametrize("latency", [1, 3, 10])
def test_every_figure_of_events_is_of_live_events(latency: int) -> None:
    """Event-F1, alarms, detection and onset latency of streams are those of the tracker's events, with each class's thresholds."""
    streams = [made(seed) for seed in range(6)]
    inside = scored_segments(120, T)
    truth = [stream.truth[inside.start : inside.stop] for stream in streams]
    live = [live_events(at_latency(stream.windows, latency), EACH) for stream in streams]
    counts = sum((count_events(one, said, 3, Collar()) for one, said in zip(truth, live, strict=True)), EventCounts())
    found = score_streams(streams, EACH, latencies=(latency,)).latencies[0]
    assert (found.event_f1, found.detection_rate) == (counts.f1, counts.detection_rate)
    assert found.false_alarms_per_hour == counts.false_alarms_per_hour
    assert found.background_false_alarms_per_hour == counts.background_false_alarms_per_hour
    waits = []
    for labels, said in zip(truth, live, strict=True):
        edges = np.flatnonzero(np.diff(labels, prepend=-1)).tolist()
        for start, end in pairwise([*edges, len(labels)]):
            told = [one.confirmed for one in said if one.label == labels[start] and one.start < end and start < one.end]
            waits += [max(min(told), start) - start + latency] if told else []
    assert found.onset_latency_median == np.median(waits)


def test_alarms_by_kind_of_background_and_the_operating_point_are_of_live_events() -> None:
    """False alarms by kind of gap, and at 90 % detection, are those of the tracker's events."""
    stream = made(3, length=300)
    inside = scored_segments(300, T)
    truth, scores = stream.truth[inside.start : inside.stop], at_latency(stream.windows, 2)
    live = live_events(scores, EACH)
    counts = count_events(truth, live, 3, Collar())
    touched = [one for one in live if (truth[one.start : one.end] == one.label).any()]
    begun = sum(truth[one.start] == 3 for one in live if one not in touched)
    gaps = score_gaps([stream], [["quiet"] * 300], 2, EACH)
    assert sum(gap.false_alarms_per_hour * gap.seconds / 3600 for gap in gaps) == pytest.approx(begun)
    assert counts.false_alarms == len(live) - len(touched)
    point = at_detection([truth], [scores], EACH)
    assert point is not None
    assert point.counts == count_events(truth, live_events(scores, point.thresholds), 3, Collar())
    ratios = [one.off / one.on for one in point.thresholds]
    assert ratios == pytest.approx([one.off / one.on for one in EACH])
    assert len({one.on for one in point.thresholds}) == 1


def test_thresholds_of_classes_are_not_those_of_the_others() -> None:
    """Settings of single classes give other figures than the general ones, and there must be one set for each class."""
    stream = made(5)
    inside = scored_segments(120, T)
    truth, scores = stream.truth[inside.start : inside.stop], at_latency(stream.windows, 1)
    one, other = (score_answers([truth], [scores], 1, each) for each in (EACH[0], EACH))
    assert one.event_f1 != other.event_f1
    with pytest.raises(DataError, match="one set for each of 3 classes; got 2"):
        said_events(scores, EACH[:2])


def test_the_general_thresholds_are_the_best_that_keep_the_budget() -> None:
    """Of all candidates, each tried on the tracker's events, none within the budget has a higher event-F1."""
    streams = [made(seed) for seed in range(2)]
    inside = scored_segments(120, T)
    truth = [stream.truth[inside.start : inside.stop] for stream in streams]
    scores = [at_latency(stream.windows, 2) for stream in streams]
    best, kept = tune_general(streams, 2, 60.0)
    assert kept
    live = [count_events(one, live_events(said, best.thresholds), 3, Collar()) for one, said in zip(truth, scores, strict=True)]
    assert replace(sum(live, EventCounts()), detected=0) == best.counts
    for candidate in class_candidates()[::7]:
        parts = [count_events(one, said_events(said, candidate), 3, Collar()) for one, said in zip(truth, scores, strict=True)]
        counts = sum(parts, EventCounts())
        assert counts.background_false_alarms_per_hour > 60.0 or counts.f1 <= best.counts.f1


def test_a_budget_that_nothing_keeps_is_told() -> None:
    """A model that always fires gets the thresholds with the fewest alarms and False; streams without background give False too.

    Streams without events are refused.
    """
    truth = np.repeat([2, 0, 2], [20, 20, 60]).astype(np.int64)
    scores = np.zeros((100, 3))
    scores[20:40, 0] = scores[60:80, 1] = 0.99
    places = np.arange(100 - T + 1)[:, None] + np.arange(T)
    best, kept = tune_general([ScoredStream(scores[places], truth)], 2, 0.0)
    assert not kept
    assert best.counts.background_false_alarms == 1
    best, kept = tune_general([ScoredStream(scores[places], np.zeros(100, dtype=np.int64))], 2, 6.0)
    assert not kept
    assert best.counts.background_seconds == 0
    with pytest.raises(DataError, match="true events"):
        tune_general([ScoredStream(scores[places], np.full_like(truth, 2))], 2, 6.0)


def test_tuning_finds_the_threshold_that_parts_events_from_noise() -> None:
    """For events at 0.75 over noise up to 0.55, tuning chooses an `on` between the two."""
    random = np.random.default_rng(0)
    truth = np.array(([2] * 15 + [0] * 6 + [2] * 15 + [1] * 6) * 6 + [2] * 10, dtype=np.int64)
    scores = np.where(np.arange(3) == truth[:, None], 0.75, 0.55 * random.random((len(truth), 3)) ** 0.3)
    places = np.arange(len(truth) - T + 1)[:, None] + np.arange(T)
    best, kept = tune_general([ScoredStream(scores[places], truth)], 2, 0.0)
    assert kept
    assert best.counts.f1 == 1.0
    assert 0.55 < best.thresholds.on <= 0.75
