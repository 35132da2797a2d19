"""Tests of the evaluation on streams: manifests, ages, events, and the bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamav.aggregation import Aggregation
from streamav.errors import DataError, ShapeError
from streamav.evaluation.ages import at_age, at_latency, scored_segments
from streamav.evaluation.bootstrap import bootstrap, mean_and_deviation
from streamav.evaluation.counting import ScoredStream
from streamav.evaluation.events import Collar, SaidEvent, Span, count_events, onset_latencies, spans_of_labels
from streamav.evaluation.manifest import Manifest, ManifestOptions, Piece, make_manifest, parse_manifest
from streamav.evaluation.scores import score_streams
from streamav.thresholds import Thresholds
from streamav.types import WindowScores

T, C = 10, 3
PILOT = Thresholds(on=0.6, off=0.35, min_segments=2, gap_segments=0)
ROWS = np.array([4, 2, 7, 9])
CLASSES = np.array([0, 1, 2, 0])
LABELS = np.where(np.arange(T) < 6, np.arange(12)[:, None] % C, C).astype(np.int64)


def manifest(seed: int = 0, **changes: object) -> Manifest:
    options = ManifestOptions(streams=2, seconds=200, seed=seed, **changes)  # type: ignore[arg-type]
    return make_manifest("test", ROWS, CLASSES, T, options, np.array([10, 11]))


def window(start: int, said: NDArray[np.float32]) -> WindowScores:
    return WindowScores(
        first_index=start,
        relevance=np.ones(T, np.float32),
        class_probabilities=said,
        agreement=np.zeros(T, np.float32),
        attention=np.full((T, 1, 1), 1.0, np.float32),
        levels_dbfs=(None,) * T,
    )


@given(st.integers(0, 2**32))
def test_streams_hold_clips_of_the_split_between_background(seed: int) -> None:
    """Pieces lie within their rows, clips are of the split, only clips carry labels, and a mismatch joins two classes."""
    made = manifest(seed)
    by_row = dict(zip(ROWS.tolist(), CLASSES.tolist(), strict=True))
    for number, stream in enumerate(made.streams):
        assert sum(piece.length for piece in stream) >= 200
        for piece in stream:
            assert piece.start >= 0
            assert 1 <= piece.length <= T - piece.start
            if piece.kind == "clip":
                assert piece.audio_row == piece.visual_row
                assert piece.audio_row in by_row
                assert piece.length >= 6
            if piece.kind == "mismatch":
                assert by_row[piece.audio_row] != by_row[piece.visual_row]
            if piece.kind == "quiet":
                assert {piece.audio_row, piece.visual_row} <= {10, 11}
        seconds = made.seconds(number, LABELS, C)
        agree = (seconds.audio_rows == seconds.visual_rows) & np.isin(seconds.audio_rows, ROWS)
        expected = np.where(agree, LABELS[seconds.audio_rows, seconds.audio_segments], C)
        np.testing.assert_array_equal(seconds.labels, expected)


def test_a_manifest_is_its_seed_and_survives_json() -> None:
    """One seed always gives the same streams, another seed gives others, and a manifest read back from JSON is the same."""
    assert manifest(1) == manifest(1)
    assert manifest(1) != manifest(2)
    assert parse_manifest(manifest(1).to_json(), "x") == manifest(1)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "other"}', manifest().to_json().replace('"clip"', '"song"'), "[" * 100_000])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    """A text that is no manifest is a DataError."""
    with pytest.raises(DataError, match="manifest of streams"):
        parse_manifest(text, "file")


def test_a_manifest_of_other_data_is_refused() -> None:
    """A piece that names a row that the folder does not have is an error."""
    made = Manifest(split="test", seed=0, streams=((Piece("clip", 99, 99, 0, 10),),))
    with pytest.raises(DataError, match="must lie within 12 rows"):
        made.seconds(0, LABELS, C)


@given(st.integers(0, T - 1), st.sampled_from(["newest", "mean", "hamming"]), st.integers(2 * T, 40), st.integers(0, 2**31))
def test_a_second_at_an_age_is_the_mean_of_the_windows_that_saw_it_by_then(age: int, how: str, seconds: int, seed: int) -> None:
    """The formula of the definition, computed segment by segment, gives the same scores."""
    windows = np.random.default_rng(seed).random((seconds - T + 1, T, 2))
    weights = np.hamming(T) if how == "hamming" else np.ones(T)
    expected = []
    for second in scored_segments(seconds, T):
        seen = [start for start in range(len(windows)) if start <= second < start + T and start + T - 1 <= second + age]
        seen = seen[-1:] if how == "newest" else seen
        assert len(seen) == (1 if how == "newest" else age + 1)
        total = sum(weights[second - start] * windows[start, second - start] for start in seen)
        expected.append(total / sum(weights[second - start] for start in seen))
    np.testing.assert_allclose(at_age(windows, age, how), np.array(expected).reshape(-1, 2))  # type: ignore[arg-type]


def test_an_age_beyond_the_window_is_refused() -> None:
    """Age T is refused."""
    with pytest.raises(ShapeError, match="0 to 9"):
        at_age(np.ones((20, T, 2)), T)
    for latency in (0, T + 1):
        with pytest.raises(ShapeError, match="1 to 10"):
            at_latency(np.ones((20, T, 2)), latency)


def test_a_latency_says_what_a_live_run_says_of_a_segment() -> None:
    """The final scores of a live run of latency L are bit-identical to those that the evaluation scores at L."""
    windows = np.random.default_rng(0).random((12, T, C + 1)).astype(np.float32)
    for latency in range(1, T + 1):
        aggregation = Aggregation(latency)
        live = {
            one.index: one.class_probabilities
            for start, said in enumerate(windows)
            for one in aggregation.push(window(start, said))
            if one.final
        }
        inside = scored_segments(len(windows) + T - 1, T)
        np.testing.assert_array_equal([live[segment] for segment in inside], at_latency(windows, latency))


def test_events_are_the_runs_of_labels() -> None:
    """Runs of one class are events, background is none, and a change of class ends one event and begins the next."""
    assert spans_of_labels(np.array([0, 0, 3, 1, 1, 2, 3]), 3) == [Span(0, 0, 2), Span(1, 3, 5), Span(2, 5, 6)]
    assert spans_of_labels(np.empty(0, dtype=np.int64), 3) == []


TRUTH = np.array([3, 0, 0, 0, 0, 3, 3, 1, 1, 3, 3, 3], dtype=np.int64)


@pytest.mark.parametrize(
    ("said", "hits", "alarms", "quiet_alarms"),
    [
        ([Span(0, 1, 5), Span(1, 7, 9)], 2, 0, 0),
        ([Span(0, 2, 6), Span(1, 6, 8)], 2, 0, 0),
        ([Span(0, 3, 5)], 0, 0, 0),
        ([Span(0, 1, 7)], 0, 0, 0),
        ([Span(1, 1, 5)], 0, 1, 0),
        ([Span(2, 9, 12)], 0, 1, 1),
        ([Span(0, 1, 5), Span(0, 2, 5)], 1, 0, 0),
    ],
)
def test_events_match_one_to_one_within_the_collar(said: list[Span], hits: int, alarms: int, quiet_alarms: int) -> None:
    """Computed by hand: one second off at each end is a hit, two are not; each event matches once; alarms overlap no true event."""
    counts = count_events(TRUTH, said, 3, Collar())
    assert (counts.true, counts.hits, counts.false_alarms, counts.background_false_alarms) == (2, hits, alarms, quiet_alarms)
    assert counts.f1 == pytest.approx(2 * hits / (2 + len(said)))
    assert counts.false_alarms_per_hour == pytest.approx(300 * alarms)
    assert counts.background_false_alarms_per_hour == pytest.approx(600 * quiet_alarms)


def test_a_long_event_may_end_a_fifth_of_its_length_off() -> None:
    """The offset collar grows with the length of the event."""
    truth = np.array([0] * 20 + [3] * 10)
    assert count_events(truth, [Span(0, 0, 24)], 3, Collar()).hits == 1
    assert count_events(truth, [Span(0, 0, 25)], 3, Collar()).hits == 0


def test_as_many_events_as_possible_are_matched() -> None:
    """When one prediction fits both true events and the other fits only one of them, both true events are found."""
    truth = np.array([0, 3, 0, 3])
    assert count_events(truth, [Span(0, 1, 2), Span(0, 0, 1)], 3, Collar()).hits == 2


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_the_truth_itself_is_found_whole(labels: list[int]) -> None:
    """When the predictions equal the truth, every event is a hit and none is an alarm."""
    truth = np.array(labels)
    counts = count_events(truth, spans_of_labels(truth, 3), 3, Collar())
    assert counts.hits == counts.true == counts.said
    assert counts.false_alarms == 0


def test_onset_latency_counts_the_segment_that_confirms_and_the_latency() -> None:
    """Computed by hand: onset latency runs to the confirming segment plus the latency; an event without overlap is missed."""
    assert onset_latencies(TRUTH, [SaidEvent(0, 2, 5, 2)], 3, latency=3) == ([4], 1)
    assert onset_latencies(TRUTH, [SaidEvent(0, 1, 5, 3), SaidEvent(1, 8, 9, 8)], 3, latency=1) == ([3, 2], 0)
    assert onset_latencies(TRUTH, [SaidEvent(0, 3, 5, 4), SaidEvent(0, 1, 2, 1), SaidEvent(2, 7, 9, 7)], 3, latency=1) == ([1], 1)


def test_an_event_that_began_before_the_true_one_names_it_at_once() -> None:
    """An event confirmed before the onset that overlaps the true event costs only the latency; one without overlap detects nothing."""
    assert onset_latencies(TRUTH, [SaidEvent(1, 5, 9, 6)], 3, latency=2) == ([2], 1)
    assert onset_latencies(TRUTH, [SaidEvent(1, 5, 7, 6), SaidEvent(1, 9, 11, 9)], 3, latency=2) == ([], 2)


def test_perfect_and_silent_models_score_as_they_must() -> None:
    """Perfect predictions score 1 without alarms at every latency; always background scores its share and finds no event."""
    truth = np.array(([3] * 12 + [0] * 5 + [3] * 8 + [1] * 4 + [3] * 12), dtype=np.int64)
    places = np.arange(len(truth) - T + 1)[:, None] + np.arange(T)
    perfect = score_streams([ScoredStream(np.eye(4)[truth[places]], truth)] * 2, PILOT)
    assert all(age.accuracy == 1.0 for age in perfect.ages)
    assert [row.event_f1 for row in perfect.latencies] == [1.0] * 5
    assert [row.onset_latency_median for row in perfect.latencies] == [2.0, 3.0, 4.0, 6.0, 11.0]  # the second segment confirms it
    assert perfect.ages[0].flips == 0.0
    silent = score_streams([ScoredStream(np.eye(4)[np.full(places.shape, 3)], truth)], PILOT)
    assert silent.ages[0].accuracy == pytest.approx(silent.always_background)
    assert silent.latencies[0].event_f1 == 0.0
    assert silent.latencies[0].detection_rate == 0.0
    assert math.isnan(silent.latencies[0].onset_latency_median)


def test_a_stream_too_short_to_score_is_refused() -> None:
    """A stream shorter than two windows has no segment with scores at every age and is refused."""
    with pytest.raises(DataError, match="two windows"):
        score_streams([ScoredStream(np.ones((1, T, 4)), np.zeros(T, dtype=np.int64))], PILOT)


@pytest.mark.slow
def test_the_bootstrap_holds_the_mean_and_narrows_with_clips() -> None:
    """The interval contains the ratio, and with a hundred times as many clips it is about ten times narrower."""
    random = np.random.default_rng(0)
    few, many = random.integers(0, 11, 40).astype(float), random.integers(0, 11, 4000).astype(float)
    small, large = (bootstrap(values, np.full(len(values), 10.0)) for values in (few, many))
    assert small.low < small.mean < small.high
    assert 5 < (small.high - small.low) / (large.high - large.low) < 20


def test_mean_and_deviation() -> None:
    """The deviation is the sample's (n - 1); one value has no deviation; no value is refused."""
    assert mean_and_deviation([1.0, 3.0]) == pytest.approx((2.0, math.sqrt(2.0)))
    assert math.isnan(mean_and_deviation([1.0])[1])
    with pytest.raises(DataError, match="at least one"):
        mean_and_deviation([])
