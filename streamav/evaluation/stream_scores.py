"""The figures of a stream evaluation: accuracy by age, and for each latency events, false alarms, onset latency and flips.

It is pure: windows' probabilities and labels in, numbers out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.evaluation.bootstrap import Interval, bootstrap
from streamav.evaluation.segments import score_segments
from streamav.evaluation.stream_ages import Combination, at_age, scored_seconds
from streamav.evaluation.stream_events import (
    Collar,
    EventCounts,
    Hysteresis,
    count_events,
    onset_latencies,
    spans_of_labels,
    spans_of_scores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.evaluation.stream_events import Span

__all__ = ["LATENCIES", "AgeScores", "LatencyScores", "ScoredStream", "StreamResult", "score_streams"]

LATENCIES = (0, 1, 2, 4, 9)
"""Ages that are reported, seconds of look-ahead. Source: the project's AVE-Stream protocol, reporting rule."""


@dataclass(frozen=True, eq=False, slots=True)
class ScoredStream:
    """One stream with what every window said."""

    windows: NDArray[np.floating]
    """Shape (S - T + 1, T, C + 1): probabilities of the window that begins at second k."""
    truth: NDArray[np.int64]
    """Shape (S,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeScores:
    """Labels said at one age (most probable of C + 1)."""

    age: int
    accuracy: float
    macro_f1: float
    background_recall: float
    flips: float
    """Share of seconds whose label changes until the next age; NaN at the last."""
    flips_to_right: float
    """Share that becomes right."""
    flips_to_wrong: float
    """Share that was right and becomes wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyScores:
    """Events at one latency."""

    latency: int
    """Seconds of look-ahead."""
    event_f1: float
    """Onset collar 1 s, offset max(1 s, 20 %); hysteresis."""
    event_f1_low: float
    """95 % bootstrap over streams."""
    event_f1_high: float
    event_f1_collar_2: float
    event_f1_argmax: float
    """Of runs of equal most probable labels, collar 1 s."""
    false_alarms_per_hour: float
    background_false_alarms_per_hour: float
    onset_latency_median: float
    """Seconds from the true onset to the end of the second with the first right answer, look-ahead included."""
    onset_latency_p95: float
    detection_rate: float
    """Share of true events that are named at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """Everything that is reported of one model on one set of streams."""

    streams: int
    seconds: int
    """Scored seconds in all."""
    events: int
    always_background: float
    """Accuracy of saying background throughout."""
    ages: tuple[AgeScores, ...]
    latencies: tuple[LatencyScores, ...]

    def to_dict(self) -> dict[str, object]:
        """Give the figures for JSON; what is not a number is None."""
        plain = asdict(self)
        return {name: _plain(value) for name, value in plain.items()}


def score_streams(
    streams: Sequence[ScoredStream], how: Combination = "hamming", hysteresis: Hysteresis | None = None, seed: int = 0
) -> StreamResult:
    """Score streams at every age and latency.

    Args:
        streams: each of at least 2 T seconds.
        how: how windows are combined.
        hysteresis: thresholds, fixed on the validation streams.
        seed: of the bootstrap over streams.

    Raises:
        DataError: when there is no stream, or one is too short.
    """
    if not streams or any(len(_truth(stream)) == 0 for stream in streams):
        msg = "a stream evaluation needs at least one stream, each of at least two windows' length"
        raise DataError(msg)
    segments, outputs = streams[0].windows.shape[1:]
    background = outputs - 1
    truth = [_truth(stream) for stream in streams]
    joined = np.concatenate(truth)
    scores = {age: [at_age(stream.windows, age, how) for stream in streams] for age in range(segments)}
    said = {age: np.concatenate([score.argmax(axis=1) for score in parts]) for age, parts in scores.items()}
    options = hysteresis or Hysteresis()
    wanted = [age for age in LATENCIES if age < segments]
    return StreamResult(
        streams=len(streams),
        seconds=len(joined),
        events=sum(len(spans_of_labels(labels, background)) for labels in truth),
        always_background=float((joined == background).mean()),
        ages=tuple(_age(joined, said, age, background) for age in range(segments)),
        latencies=tuple(_latency(truth, scores[age], age, background, options, seed) for age in wanted),
    )


def _truth(stream: ScoredStream) -> NDArray[np.int64]:
    """Give the labels of the seconds that every age has scores for."""
    inside = scored_seconds(len(stream.truth), stream.windows.shape[1])
    return stream.truth[inside.start : inside.stop]


def _age(truth: NDArray[np.int64], said: dict[int, NDArray[np.int64]], age: int, background: int) -> AgeScores:
    now, later = said[age], said.get(age + 1)
    right = now == truth
    scores = score_segments(truth, now, background)
    flips = [float("nan")] * 3
    if later is not None:
        flips = [float((now != later).mean()), float((~right & (later == truth)).mean()), float((right & (later != truth)).mean())]
    return AgeScores(
        age=age,
        accuracy=scores.accuracy,
        macro_f1=scores.macro_f1,
        background_recall=scores.background_recall,
        flips=flips[0],
        flips_to_right=flips[1],
        flips_to_wrong=flips[2],
    )


def _latency(
    truth: list[NDArray[np.int64]],
    scores: list[NDArray[np.float64]],
    age: int,
    background: int,
    options: Hysteresis,
    seed: int,
) -> LatencyScores:
    found = [spans_of_scores(score, options) for score in scores]
    labels = [score.argmax(axis=1) for score in scores]
    pairs = list(zip(truth, found, strict=True))
    tight = [count_events(one, spans, background, Collar()) for one, spans in pairs]
    loose = [count_events(one, spans, background, Collar(onset=2.0, offset=2.0)) for one, spans in pairs]
    runs = [count_events(one, spans_of_labels(label, background), background, Collar()) for one, label in zip(truth, labels, strict=True)]
    delays = [onset_latencies(one, _painted(spans, len(one), background), background, age) for one, spans in pairs]
    waits = [wait for some, _ in delays for wait in some]
    missed = sum(count for _, count in delays)
    total = sum(tight, EventCounts())
    spread = _spread(tight, seed)
    return LatencyScores(
        latency=age,
        event_f1=total.f1,
        event_f1_low=spread.low,
        event_f1_high=spread.high,
        event_f1_collar_2=sum(loose, EventCounts()).f1,
        event_f1_argmax=sum(runs, EventCounts()).f1,
        false_alarms_per_hour=total.false_alarms_per_hour,
        background_false_alarms_per_hour=total.background_false_alarms_per_hour,
        onset_latency_median=float(np.median(waits)) if waits else float("nan"),
        onset_latency_p95=float(np.quantile(waits, 0.95)) if waits else float("nan"),
        detection_rate=len(waits) / (len(waits) + missed) if waits or missed else float("nan"),
    )


def _painted(spans: Sequence[Span], seconds: int, background: int) -> NDArray[np.int64]:
    """Give the label of each second that the found events say, the later begun one where two overlap."""
    labels = np.full(seconds, background, dtype=np.int64)
    for span in spans:
        labels[span.start : span.end] = span.label
    return labels


def _spread(counts: Sequence[EventCounts], seed: int) -> Interval:
    hits = np.array([2.0 * one.hits for one in counts])
    total = np.array([float(one.true + one.said) for one in counts])
    return bootstrap(hits, total, seed=seed) if total.sum() > 0 else Interval(float("nan"), float("nan"), float("nan"))


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
