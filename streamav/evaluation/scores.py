"""Computes the figures of a stream evaluation: accuracy and flips by age; events, false alarms, onset latency and PSDS by latency.

It is pure: it takes probabilities of windows and labels and returns numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.evaluation.ages import Combination, at_age, at_latency, scored_segments
from streamav.evaluation.bootstrap import Interval, bootstrap
from streamav.evaluation.counting import ByClass, ScoredStream, said_events
from streamav.evaluation.events import Collar, EventCounts, Overlap, count_events, onset_latencies, spans_of_labels
from streamav.evaluation.operating import at_detection
from streamav.evaluation.psds import PSDS1, PSDS2, psds
from streamav.evaluation.segments import score_segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "LATENCIES",
    "AgeScores",
    "LatencyScores",
    "StreamResult",
    "plain_figures",
    "score_answers",
    "score_streams",
    "scored_truth",
]

LATENCIES = (1, 2, 3, 5, 10)
"""Latencies that are reported. Source: the project's AVE-Stream protocol, reporting rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeScores:
    """Figures of the predicted labels at one age; the label is the most probable of C + 1."""

    age: int
    accuracy: float
    accuracy_low: float
    """95 % bootstrap over streams."""
    accuracy_high: float
    macro_f1: float
    background_recall: float
    flips: float
    """Share of segments whose label changes until the next age; NaN at the last age."""
    flips_to_right: float
    """Share of segments whose label changes from wrong to right."""
    flips_to_wrong: float
    """Share of segments whose label changes from right to wrong."""
    revisions: float
    """Mean number of label changes of a segment from age 0 to this age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyScores:
    """Figures of the predicted events at one latency."""

    latency: int
    """L, 1 to T; 0 for a prediction that does not wait for the segment itself."""
    event_f1: float
    """Onset collar 1 s, offset collar max(1 s, 20 %); events by the rule of the live tracker."""
    event_f1_low: float
    """95 % bootstrap over streams."""
    event_f1_high: float
    event_f1_collar_2: float
    """Onset collar 2 s, offset collar max(2 s, 20 %)."""
    event_f1_overlap: float
    """Intersection over union of at least 0.5."""
    event_f1_argmax: float
    """Event-F1 of runs of equal most probable labels, collar 1 s."""
    false_alarms_per_hour: float
    """Predicted events that overlap no true event of their class, per hour of stream."""
    false_alarms_per_hour_low: float
    """95 % bootstrap over streams."""
    false_alarms_per_hour_high: float
    background_false_alarms_per_hour: float
    """False alarms that lie in background alone, per hour of background."""
    false_alarms_per_hour_at_90: float
    """False alarms per hour at the highest `on` that detects 90 % of the true events, found on these streams; NaN when none does."""
    onset_latency_median: float
    """Seconds from the true onset until an event of its class is confirmed; includes the latency and the segments that confirm it."""
    onset_latency_p95: float
    detection_rate: float
    """Share of true events that overlap a predicted event of their class."""
    psds1: float
    """0 to 1, needs no thresholds; requires exact times."""
    psds2: float
    """0 to 1, needs no thresholds; requires the right class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """All figures of one model on one set of streams."""

    streams: int
    seconds: int
    """Length of the scored streams, seconds."""
    events: int
    always_background: float
    """Accuracy of always predicting background."""
    accuracy_area: float
    """Mean accuracy over all ages; the next two are means over all ages too."""
    macro_f1_area: float
    background_recall_area: float
    ages: tuple[AgeScores, ...]
    latencies: tuple[LatencyScores, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the figures as JSON values; NaN becomes None."""
        return plain_figures(self)


def score_streams(
    streams: Sequence[ScoredStream],
    thresholds: ByClass | Mapping[int, ByClass],
    how: Combination = "hamming",
    seed: int = 0,
    latencies: Sequence[int] = LATENCIES,
) -> StreamResult:
    """Score streams at every age and latency.

    Args:
        streams: each of at least 2 T segments.
        thresholds: thresholds fixed on the validation streams, for all latencies or by latency.
        how: how windows are combined.
        seed: seed of the bootstrap over streams.
        latencies: latencies at which events are scored; those above T are left out.

    Raises:
        DataError: when there is no stream, or a stream is too short.
    """
    truth = scored_truth(streams)
    segments, outputs = streams[0].windows.shape[1:]
    background = outputs - 1
    joined = np.concatenate(truth)
    said = {age: [at_age(stream.windows, age, how).argmax(axis=1) for stream in streams] for age in range(segments)}
    wanted = {one: thresholds[one] if isinstance(thresholds, Mapping) else thresholds for one in latencies if one <= segments}
    ages = _ages(truth, said, background, seed)
    return StreamResult(
        streams=len(streams),
        seconds=len(joined),
        events=sum(len(spans_of_labels(labels, background)) for labels in truth),
        always_background=float((joined == background).mean()),
        accuracy_area=float(np.mean([one.accuracy for one in ages])),
        macro_f1_area=float(np.mean([one.macro_f1 for one in ages])),
        background_recall_area=float(np.mean([one.background_recall for one in ages])),
        ages=ages,
        latencies=tuple(
            score_answers(truth, [at_latency(stream.windows, latency, how) for stream in streams], latency, option, seed)
            for latency, option in wanted.items()
        ),
    )


def scored_truth(streams: Sequence[ScoredStream]) -> list[NDArray[np.int64]]:
    """Return, for each stream, the labels of the segments that have scores at every age, shape (S',).

    Raises:
        DataError: when there is no stream, or a stream is too short.
    """
    truth = []
    for stream in streams:
        inside = scored_segments(len(stream.truth), stream.windows.shape[1])
        truth.append(stream.truth[inside.start : inside.stop])
    if not truth or any(len(labels) == 0 for labels in truth):
        msg = "a stream evaluation needs at least one stream, and each stream must be at least two windows long: use more or longer streams"
        raise DataError(msg)
    return truth


def _ages(truth: list[NDArray[np.int64]], said: dict[int, list[NDArray[np.int64]]], background: int, seed: int) -> tuple[AgeScores, ...]:
    """Score the predicted labels of every age; *said* holds them by age and stream."""
    found: list[AgeScores] = []
    revisions = 0.0
    whole = np.concatenate(truth)
    lengths = np.array([len(labels) for labels in truth], dtype=np.float64)
    for age, parts in said.items():
        right = np.array([(one == label).sum() for one, label in zip(truth, parts, strict=True)], dtype=np.float64)
        spread = bootstrap(right, lengths, seed=seed)
        now = np.concatenate(parts)
        later = np.concatenate(said[age + 1]) if age + 1 in said else None
        scores = score_segments(whole, now, background)
        flips = _flips(whole, now, later)
        found.append(
            AgeScores(
                age=age,
                accuracy=scores.accuracy,
                accuracy_low=spread.low,
                accuracy_high=spread.high,
                macro_f1=scores.macro_f1,
                background_recall=scores.background_recall,
                flips=flips[0],
                flips_to_right=flips[1],
                flips_to_wrong=flips[2],
                revisions=revisions,
            )
        )
        revisions += flips[0]
    return tuple(found)


def _flips(truth: NDArray[np.int64], now: NDArray[np.int64], later: NDArray[np.int64] | None) -> tuple[float, float, float]:
    """Return the shares of segments whose label changes, becomes right, and becomes wrong."""
    if later is None:
        return float("nan"), float("nan"), float("nan")
    right = now == truth
    return float((now != later).mean()), float((~right & (later == truth)).mean()), float((right & (later != truth)).mean())


def score_answers(
    truth: Sequence[NDArray[np.int64]], scores: Sequence[NDArray[np.floating]], latency: int, thresholds: ByClass, seed: int = 0
) -> LatencyScores:
    """Score the final scores of every segment, from any source.

    Args:
        truth: of each stream, shape (S,): label of each segment, C for background.
        scores: of each stream, shape (S, C + 1): probabilities, background last.
        latency: L of the scores; 0 when they do not wait for the segment itself.
        thresholds: one set for all classes, or one set for each class.
        seed: seed of the bootstrap over streams.
    """
    background = scores[0].shape[1] - 1
    found = [said_events(score, thresholds) for score in scores]
    runs = [spans_of_labels(score.argmax(axis=1), background) for score in scores]
    pairs = list(zip(truth, found, strict=True))
    tight = [count_events(one, spans, background, Collar()) for one, spans in pairs]
    loose = [count_events(one, spans, background, Collar(onset=2.0, offset=2.0)) for one, spans in pairs]
    overlap = [count_events(one, spans, background, Overlap()) for one, spans in pairs]
    plain = [count_events(one, spans, background, Collar()) for one, spans in zip(truth, runs, strict=True)]
    waits = [wait for one, spans in pairs for wait in onset_latencies(one, spans, background, latency)[0]]
    total = sum(tight, EventCounts())
    spread = _ratio_spread([2 * one.hits for one in tight], [one.true + one.said for one in tight], seed)
    alarms = _ratio_spread([3600 * one.false_alarms for one in tight], [one.seconds for one in tight], seed)
    point = at_detection(truth, scores, thresholds)
    psds1, psds2 = psds(truth, scores, PSDS1, PSDS2)
    return LatencyScores(
        latency=latency,
        event_f1=total.f1,
        event_f1_low=spread.low,
        event_f1_high=spread.high,
        event_f1_collar_2=sum(loose, EventCounts()).f1,
        event_f1_overlap=sum(overlap, EventCounts()).f1,
        event_f1_argmax=sum(plain, EventCounts()).f1,
        false_alarms_per_hour=total.false_alarms_per_hour,
        false_alarms_per_hour_low=alarms.low,
        false_alarms_per_hour_high=alarms.high,
        background_false_alarms_per_hour=total.background_false_alarms_per_hour,
        false_alarms_per_hour_at_90=point.counts.false_alarms_per_hour if point else float("nan"),
        onset_latency_median=float(np.median(waits)) if waits else float("nan"),
        onset_latency_p95=float(np.quantile(waits, 0.95)) if waits else float("nan"),
        detection_rate=total.detection_rate,
        psds1=psds1,
        psds2=psds2,
    )


def _ratio_spread(above: Sequence[int], below: Sequence[int], seed: int) -> Interval:
    if not sum(below):
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap(np.array(above, dtype=np.float64), np.array(below, dtype=np.float64), seed=seed)


def plain_figures(result: AgeScores | LatencyScores | StreamResult) -> dict[str, object]:
    """Return figures as JSON values; NaN and infinity become None."""
    return {name: _plain(value) for name, value in asdict(result).items()}


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
