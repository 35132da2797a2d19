"""Tests of the AVE-Stream protocol: thresholds fixed before scoring, the baselines, and the report."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamav.errors import DataError
from streamav.evaluation.baselines import AlignedStream, persistence
from streamav.evaluation.counting import ScoredStream, said_events
from streamav.evaluation.events import Overlap, Span, count_events, spans_of_labels
from streamav.evaluation.gaps import score_gaps
from streamav.evaluation.operating import at_detection
from streamav.evaluation.protocol import FixedThresholds, aligned_row, head_rows, measure, persistence_row, tuned
from streamav.evaluation.psds import PSDS1, PSDS2, PsdsOptions, psds
from streamav.evaluation.report import report_lines
from streamav.evaluation.scores import score_answers, score_streams
from streamav.thresholds import Thresholds

T, C = 10, 3
PILOT = Thresholds(on=0.6, off=0.35, min_segments=2, gap_segments=0)


def made(seed: int, noise: float = 0.6, seconds: int = 120) -> ScoredStream:
    """Build a stream whose windows hold the truth, each with its own noise."""
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, C + 1, seconds // 5), 5)
    places = np.arange(len(truth) - T + 1)[:, None] + np.arange(T)
    logits = 2.0 * np.eye(C + 1)[truth[places]] + noise * random.normal(size=(*places.shape, C + 1))
    return ScoredStream(np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True), truth)


TRUTH = np.array([3, 0, 0, 0, 0, 3, 3, 1, 1, 3, 3, 3], dtype=np.int64)


@pytest.mark.parametrize(
    ("said", "hits"),
    [
        ([Span(0, 1, 5), Span(1, 7, 9)], 2),
        ([Span(0, 1, 3)], 1),  # 2 of 4 seconds: one half is enough
        ([Span(0, 1, 2)], 0),
        ([Span(0, 2, 6)], 1),  # 3 of 5
        ([Span(0, 3, 7)], 0),  # 2 of 6
        ([Span(1, 1, 5)], 0),
        ([Span(0, 1, 3), Span(0, 3, 5)], 1),  # both halves would do, one event is one hit
    ],
)
def test_events_match_by_what_they_share(said: list[Span], hits: int) -> None:
    """Computed by hand: a hit shares at least half of the union, has the same class, and counts once."""
    assert count_events(TRUTH, said, 3, Overlap()).hits == hits


@given(st.integers(0, 2**31))
def test_a_stricter_overlap_never_finds_more(seed: int) -> None:
    """Hits do not rise with the required share, and every hit overlaps a true event."""
    random = np.random.default_rng(seed)
    truth, said = (np.repeat(random.integers(0, C + 1, 20), random.integers(1, 5, 20))[:20] for _ in range(2))
    counts = [count_events(truth, spans_of_labels(said, C), C, Overlap(share=share)) for share in (0.1, 0.5, 0.9, 1.0)]
    hits = [one.hits for one in counts]
    assert hits == sorted(hits, reverse=True)
    assert hits[0] <= counts[0].detected <= counts[0].true


def brute_psds(truth: NDArray[np.int64], scores: NDArray[np.float64], options: PsdsOptions) -> float:
    """Compute the score of one stream by trying every threshold and every event in turn."""
    hours, true = len(truth) / 3600, spans_of_labels(truth, C)
    classes = sorted({span.label for span in true})
    curves = []
    for label in classes:
        points = [(0.0, 0.0)]
        for threshold in np.unique(scores[:, label]):
            said = spans_of_labels((scores[:, label] < threshold).astype(np.int64), 1)
            length = {one: one.end - one.start for one in said}
            inside = {one: {c: int((truth[one.start : one.end] == c).sum()) for c in classes} for one in said}
            good = [one for one in said if inside[one][label] >= round(options.detection * length[one], 6)]
            bad = [one for one in said if one not in good]
            rate = len(bad) / hours
            for other in classes:
                if other != label and options.cross_weight:
                    crossed = sum(inside[one][other] >= round(options.cross * length[one], 6) for one in bad)
                    rate += options.cross_weight * 3600 * crossed / int((truth == other).sum()) / (len(classes) - 1)
            mine = [span for span in true if span.label == label]
            covered = [sum(max(min(one.end, e.end) - max(one.start, e.start), 0) for one in good) for e in mine]
            met = sum(amount >= round(options.truth * (e.end - e.start), 6) for amount, e in zip(covered, mine, strict=True))
            points.append((rate, met / len(mine)))
        curves.append(points)
    rates = sorted({round(rate, 9) for points in curves for rate, _ in points if rate <= options.most_alarms_per_hour})
    weight = 1 / math.sqrt(len(classes) - 1) if len(classes) > 1 else 0.0
    area = 0.0
    for rate, following in zip(rates, [*rates[1:], options.most_alarms_per_hour], strict=True):
        best = [max(found for other, found in points if round(other, 9) <= rate) for points in curves]
        area += max(float(np.mean(best) - weight * np.std(best)), 0.0) * (following - rate)
    return area / options.most_alarms_per_hour


@pytest.mark.slow
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_psds_is_what_trying_every_threshold_gives(seed: int, digits: int) -> None:
    """PSDS over all runs at once equals the result of trying every threshold in turn, also with equal scores."""
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, C + 1, 8), random.integers(1, 6, 8))
    scores = np.round(random.random((len(truth), C + 1)) * 0.5 + 0.5 * np.eye(C + 1)[truth] * random.random((len(truth), 1)), digits)
    wide = [PsdsOptions(detection=0.5, truth=0.5, most_alarms_per_hour=3000.0)]
    wide.append(PsdsOptions(detection=0.3, truth=0.2, cross=0.3, cross_weight=0.5, most_alarms_per_hour=3000.0))
    if (truth < C).any():
        assert psds([truth], [scores], *wide) == pytest.approx([brute_psds(truth, scores, one) for one in wide], abs=1e-6)


def test_psds_of_the_truth_of_noise_and_of_nothing() -> None:
    """The truth scores 1, a constant wrong prediction 0, and streams without an event have no score."""
    assert psds([TRUTH], [np.eye(4)[TRUTH]], PSDS1, PSDS2) == (1.0, 1.0)
    assert psds([TRUTH], [np.full((len(TRUTH), 4), 0.25)], PSDS1) == (0.0,)
    assert math.isnan(psds([np.full(5, 3)], [np.eye(4)[np.full(5, 3)]], PSDS1)[0])


def test_false_alarms_where_nine_in_ten_are_found_are_at_the_highest_such_threshold() -> None:
    """Higher thresholds detect less than 90 %; scores that miss more than 10 % at every threshold have no such point."""
    stream = made(3, noise=2.0, seconds=400)
    truth, scores = [stream.truth[: len(stream.windows)]], [stream.windows[:, 0]]
    point = at_detection(truth, scores, PILOT)
    assert point is not None
    assert point.counts.detection_rate >= 0.9
    assert len(set(point.thresholds)) == 1
    found = point.thresholds[0]
    assert found.off / found.on == pytest.approx(0.35 / 0.6)
    for on in (1.2 * found.on, 1.5 * found.on, 2.0 * found.on):
        higher = said_events(scores[0], replace(PILOT, on=on, off=on * 0.35 / 0.6))
        assert count_events(truth[0], higher, C, Overlap()).detection_rate < 0.9
    assert at_detection(truth, [np.eye(4)[np.full(len(truth[0]), C)]], PILOT) is None


def test_a_threshold_so_low_that_one_event_touches_everything_is_no_operating_point() -> None:
    """The highest threshold that detects 90 % is taken, although a far lower one would leave no alarm."""
    truth = np.array([3, 0, 0, 3, 3, 3, 3, 0, 0, 3] * 3)
    column = np.where(truth == 0, 0.8, 0.1)
    column[[4, 14, 24]] = 0.9  # an alarm between true events
    scores = np.stack([column, np.zeros(30), np.zeros(30), 1 - column], axis=1)
    point = at_detection([truth], [scores], Thresholds(on=0.6, off=0.5, gap_segments=0))
    assert point is not None
    assert (point.counts.detected, point.counts.false_alarms) == (6, 3)


def test_the_last_label_again_is_one_second_late() -> None:
    """The baseline repeats the scores of the segment before at age 0; with perfect windows it misses only the first segment of events."""
    stream = made(1, noise=0.0)
    said = persistence(stream).argmax(axis=1)
    inside = stream.truth[T - 1 : T - 1 + len(said)]
    np.testing.assert_array_equal(said[1:], inside[:-1])
    assert said[0] == C
    row = persistence_row([[stream]], Thresholds(on=0.5, off=0.4, gap_segments=0))
    assert row.pooled.onset_latency_median == 1.0  # known when the second after the onset begins
    assert row.pooled.latency == 0


def test_the_oracle_is_scored_on_the_same_seconds_as_a_live_run() -> None:
    """Windows with equal scores give the oracle's predictions at every age, so thresholds tuned on them fit the oracle."""
    stream = made(2)
    aligned = AlignedStream(np.random.default_rng(0).random((len(stream.truth), C + 1)), stream.truth, T)
    for result in score_streams([aligned.windows()], PILOT).ages:
        said = aligned.answers().argmax(axis=1)
        assert result.accuracy == pytest.approx(float((said == stream.truth[T - 1 : T - 1 + len(said)]).mean()))
    assert aligned_row([[aligned]], PILOT).pooled.latency == T


def test_thresholds_come_from_validation_streams_alone() -> None:
    """The scored streams do not change the thresholds, and given thresholds are used unchanged."""
    val = [made(seed) for seed in range(2)]
    one, other = (measure([made(seed, noise=3.0)], 2, val=val) for seed in (7, 8))
    assert one["thresholds"] == other["thresholds"]
    assert one["event_f1"] != other["event_f1"]
    given_ = Thresholds(on=0.9, off=0.8, min_segments=2)
    figures = measure([made(7)], 5, thresholds=given_)
    expected = score_streams([made(7)], given_).to_dict()
    latencies = expected["latencies"]
    assert isinstance(latencies, list)
    assert {name: figures[name] for name in latencies[3]} == latencies[3]
    assert figures["ages"] == expected["ages"]


def test_a_measure_without_thresholds_or_beyond_the_window_is_refused() -> None:
    """Without streams to tune on and without thresholds, or with a latency above the window, there is an error."""
    with pytest.raises(DataError, match="validation stream"):
        measure([made(1)], 1)
    with pytest.raises(DataError, match="latency must be 1 to 10"):
        measure([made(1)], T + 1, thresholds=PILOT)


def test_thresholds_may_differ_by_latency() -> None:
    """Each latency is scored with its own thresholds."""
    strict, loose = Thresholds(on=0.99, off=0.98), Thresholds(on=0.3, off=0.2)
    both = score_streams([made(1)], {1: strict, 5: loose}, latencies=(1, 5)).latencies
    alone = [score_streams([made(1)], one).latencies[place] for one, place in ((strict, 0), (loose, 3))]
    assert [one.event_f1 for one in both] == [one.event_f1 for one in alone]


@pytest.mark.slow
def test_several_seeds_give_mean_deviation_and_a_bootstrap_over_all_streams() -> None:
    """The pooled row covers the streams of all seeds; the rows of the seeds cover the streams of each."""
    seeds = [[made(1), made(2)], [made(3), made(4)]]
    fixed = tuned([made(9)], 6.0, latencies=(1, 2))
    pooled, single, rows = head_rows("per_segment", seeds, fixed)
    assert pooled.seconds == sum(one.seconds for one in single)
    assert [row.pooled.latency for row in rows] == [1, 2]
    mean, deviation = rows[0].to_dict()["over_seeds"]["event_f1"]  # type: ignore[index]
    values = [one.event_f1 for one in rows[0].seeds]
    assert mean == pytest.approx(np.mean(values))
    assert deviation == pytest.approx(np.std(values, ddof=1))
    assert rows[0].pooled.event_f1_low <= rows[0].pooled.event_f1 <= rows[0].pooled.event_f1_high


def test_flips_add_up_to_revisions_and_to_the_change_of_accuracy() -> None:
    """Accuracy changes by right flips minus wrong flips, and revisions are the sum of the flips so far."""
    ages = score_streams([made(5, noise=2.0), made(6, noise=2.0)], PILOT).ages
    assert ages[0].revisions == 0.0
    for now, later in pairwise(ages):
        assert later.accuracy - now.accuracy == pytest.approx(now.flips_to_right - now.flips_to_wrong)
        assert later.revisions == pytest.approx(now.revisions + now.flips)
        assert now.accuracy_low <= now.accuracy <= now.accuracy_high


def test_streams_without_events_have_figures_where_there_can_be_some() -> None:
    """On streams without events a silent model has no event-F1 and no alarms, and nothing divides by zero."""
    truth = np.full(20, C)
    scores = score_answers([truth], [np.eye(C + 1)[truth]], 1, PILOT)
    assert scores.false_alarms_per_hour == 0.0
    assert all(math.isnan(value) for value in (scores.event_f1, scores.psds1, scores.detection_rate, scores.false_alarms_per_hour_at_90))


GAP = {"kind": "quiet", "seconds": 7, "background_recall": 0.5, "false_alarms_per_hour": 9.0}


def test_background_is_scored_by_the_kind_of_gap_it_comes_from() -> None:
    """Computed by hand: recall of each kind, alarms counted where they begin; segments of true events are not background."""
    truth = np.full(40, C)
    truth[20:24] = 0
    said = truth.copy()
    said[12:15] = 1  # a false alarm that begins in a mismatch and reaches into quiet
    kinds = ["mismatch"] * 14 + ["quiet"] * 6 + ["clip"] * 20
    places = np.arange(40 - T + 1)[:, None] + np.arange(T)
    found = score_gaps([ScoredStream(np.eye(C + 1)[said[places]], truth)], [kinds], 2, PILOT)  # type: ignore[list-item]
    by_kind = {one.kind: one for one in found}
    assert {name: one.seconds for name, one in by_kind.items()} == {"mismatch": 5, "quiet": 6, "clip": 7}
    assert {name: one.background_recall for name, one in by_kind.items()} == pytest.approx({"mismatch": 0.6, "quiet": 5 / 6, "clip": 1.0})
    assert {name: one.false_alarms_per_hour for name, one in by_kind.items()} == pytest.approx({"mismatch": 720, "quiet": 0, "clip": 0})


def report(source: str = "tuned", *, optimistic: bool = False) -> str:
    fixed = (
        tuned([made(9)], 0.0)
        if source == "tuned"
        else FixedThresholds(source=source, by_latency=dict.fromkeys((1, 2), (PILOT,) * C), within_limit={})
    )
    pooled, _, rows = head_rows("per_segment", [[made(1, noise=3.0)]], fixed)
    figures = {"model": "m", "split": "test", "command": "streamav eval", "sha256": "0" * 64}
    stream = {
        "aggregation": "hamming",
        "manifests": [{"seed": 5}],
        "per_segment": pooled.to_dict(),
        "ages_over_seeds": {"per_segment": [{name: [value, None] for name, value in one.items()} for one in pooled.to_dict()["ages"]]},  # type: ignore[attr-defined]
        "tables": {str(row.pooled.latency): [row.to_dict()] for row in rows},
        "gaps": {str(row.pooled.latency): {"per_segment": [GAP]} for row in rows},
        "thresholds": {
            "chosen": source,
            "split": "val",
            "seed": 5,
            "alarms_per_hour": 6.0,
            "optimistic": optimistic,
            "systems": {"per_segment": fixed.to_dict()},
        },
    }
    return "\n".join(report_lines(figures | {"stream": stream}))


@pytest.mark.slow  # tunes and scores three reports
def test_the_report_says_where_thresholds_come_from() -> None:
    """The report states whether thresholds were tuned, tuned on the scored split, or from the card; each latency has a table."""
    assert "Thresholds were tuned on val streams (seed 5)" in report()
    assert "optimistic" not in report()
    assert "figures that depend on thresholds are optimistic" in report(optimistic=True)
    assert "those of the model's card" in report("card")
    assert [line for line in report().splitlines() if line.startswith("### Lat")] == [
        f"### Latency {latency}" for latency in (1, 2, 3, 5, 10)
    ]
