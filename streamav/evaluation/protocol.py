"""The AVE-Stream protocol: fixes thresholds on validation streams, then scores test streams of several seeds once with them.

It is pure: it takes probabilities of windows and returns figures. The module `report` writes the figures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.evaluation.baselines import persistence
from streamav.evaluation.bootstrap import mean_and_deviation
from streamav.evaluation.scores import LATENCIES, plain_figures, score_answers, score_streams, scored_truth
from streamav.evaluation.tuning.classes import tune_general
from streamav.thresholds import Thresholds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.evaluation.ages import Combination
    from streamav.evaluation.baselines import AlignedStream
    from streamav.evaluation.counting import ByClass, ScoredStream
    from streamav.evaluation.scores import AgeScores, LatencyScores, StreamResult

__all__ = ["FixedThresholds", "Row", "aligned_row", "head_rows", "measure", "over_seeds", "persistence_row", "tuned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedThresholds:
    """Thresholds of one head at each latency, and their source."""

    source: str
    """`card`, `given`, or `tuned` (on validation streams)."""
    by_latency: Mapping[int, ByClass]
    within_limit: Mapping[int, bool]
    """Latency -> whether the thresholds kept the limit of false alarms on the streams they were tuned on; empty if nothing was tuned."""

    def to_dict(self) -> dict[str, object]:
        """Return the thresholds as JSON values, by latency."""
        told: dict[str, object] = {"source": self.source}
        for latency, found in self.by_latency.items():
            one: dict[str, object] = asdict(found) if isinstance(found, Thresholds) else {"classes": [asdict(each) for each in found]}
            told[str(latency)] = one | {"within_limit": self.within_limit[latency]} if latency in self.within_limit else one
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one system in the table of one latency."""

    system: str
    pooled: LatencyScores
    """Figures over the streams of all seeds, with their bootstrap."""
    seeds: tuple[LatencyScores, ...]
    """Figures of the streams of each seed."""

    def to_dict(self) -> dict[str, object]:
        """Return the figures as JSON values; NaN becomes None."""
        return {"system": self.system, "pooled": plain_figures(self.pooled), "over_seeds": over_seeds(self.seeds)}


def tuned(
    streams: Sequence[ScoredStream],
    alarms_per_hour: float,
    how: Combination = "hamming",
    latencies: Sequence[int] = LATENCIES,
) -> FixedThresholds:
    """Tune the thresholds of every latency on validation streams, one set for all classes (`tuning.classes.tune_general`).

    Args:
        streams: streams of the validation split.
        alarms_per_hour: most false alarms in an hour of background.
        how: how windows are combined.
        latencies: latencies to tune for; those above T are left out.

    Raises:
        DataError: when there is no stream, or the streams hold no event.
    """
    if not streams:
        msg = "tuning thresholds needs at least one validation stream, got none"
        raise DataError(msg)
    found = {one: tune_general(streams, one, alarms_per_hour, how) for one in latencies if one <= streams[0].windows.shape[1]}
    return FixedThresholds(
        source="tuned",
        by_latency={latency: best.thresholds for latency, (best, _) in found.items()},
        within_limit={latency: kept for latency, (_, kept) in found.items()},
    )


def head_rows(
    system: str, seeds: Sequence[Sequence[ScoredStream]], thresholds: FixedThresholds, how: Combination = "hamming"
) -> tuple[StreamResult, tuple[StreamResult, ...], list[Row]]:
    """Score a head on the streams of every seed.

    Args:
        system: name of the rows.
        seeds: the streams of each seed.
        thresholds: thresholds that were fixed before.
        how: how windows are combined.

    Returns:
        The result over all streams, the result of each seed, and a row for each latency.

    Raises:
        DataError: when there is no stream, or a stream is too short.
    """
    fixed, latencies = thresholds.by_latency, tuple(thresholds.by_latency)
    pooled = score_streams([stream for streams in seeds for stream in streams], fixed, how, latencies=latencies)
    single = (pooled,) if len(seeds) == 1 else tuple(score_streams(streams, fixed, how, latencies=latencies) for streams in seeds)
    rows = [
        Row(system=system, pooled=pooled.latencies[place], seeds=tuple(one.latencies[place] for one in single))
        for place in range(len(pooled.latencies))
    ]
    return pooled, single, rows


def persistence_row(seeds: Sequence[Sequence[ScoredStream]], thresholds: ByClass, how: Combination = "hamming") -> Row:
    """Score the baseline that repeats the last label, with the thresholds of latency 1; it does not wait, so all latencies are equal."""
    parts = [([*map(_truth, streams)], [persistence(stream, how) for stream in streams]) for streams in seeds]
    return _row("last label again", parts, 0, thresholds)


def aligned_row(seeds: Sequence[Sequence[AlignedStream]], thresholds: ByClass) -> Row:
    """Score the offline oracle; its predictions count from the end of the clip's window (latency T)."""
    parts = [([*map(_truth, (one.windows() for one in streams))], [one.answers() for one in streams]) for streams in seeds]
    return _row("offline oracle windows", parts, seeds[0][0].segments, thresholds)


def measure(
    test: Sequence[ScoredStream],
    latency: int,
    *,
    val: Sequence[ScoredStream] = (),
    thresholds: ByClass | None = None,
    alarms_per_hour: float = 6.0,
    how: Combination = "hamming",
) -> dict[str, object]:
    """Return every figure of one model at one latency as plain values: the whole protocol in one call.

    Args:
        test: streams to score.
        latency: L, 1 to T.
        val: streams to tune thresholds on; needed when *thresholds* are not given, otherwise unused.
        thresholds: thresholds that were fixed before: one set for all classes, or one set for each class.
        alarms_per_hour: most false alarms per hour of background, for tuning.
        how: how windows are combined.

    Returns:
        The figures of `StreamResult` (`ages` of all ages), those of `LatencyScores` at *latency*, and `thresholds`.

    Raises:
        DataError: when there is no stream, a stream is too short, or there are neither thresholds nor streams to tune them on.
    """
    if test and not 1 <= latency <= test[0].windows.shape[1]:
        msg = f"latency must be 1 to {test[0].windows.shape[1]}, the length of a window, got {latency}"
        raise DataError(msg)
    if thresholds is not None:
        fixed = FixedThresholds(source="given", by_latency={latency: thresholds}, within_limit={})
    else:
        fixed = tuned(val, alarms_per_hour, how, (latency,))
    result = score_streams(test, fixed.by_latency, how, latencies=(latency,))
    return {**result.to_dict(), **plain_figures(result.latencies[0]), "thresholds": fixed.to_dict()}


def over_seeds(results: Sequence[LatencyScores] | Sequence[AgeScores]) -> dict[str, list[float | None]]:
    """Return mean and standard deviation (n - 1) over seeds of every figure; None for a figure that is not a number for some seed."""
    figures = [plain_figures(one) for one in results]
    found: dict[str, list[float | None]] = {}
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        if len(numbers) < len(values):
            found[name] = [None, None]
            continue
        mean, deviation = mean_and_deviation(numbers)
        found[name] = [mean, deviation if np.isfinite(deviation) else None]
    return found


def _truth(stream: ScoredStream) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return scored_truth([stream])[0]


def _row(
    system: str,
    parts: Sequence[tuple[list[np.ndarray], list[np.ndarray]]],
    latency: int,
    thresholds: ByClass,
) -> Row:
    """Score the predictions of every seed, and of all seeds together."""
    pooled = score_answers([one for truth, _ in parts for one in truth], [one for _, said in parts for one in said], latency, thresholds)
    single = (pooled,) if len(parts) == 1 else tuple(score_answers(truth, said, latency, thresholds) for truth, said in parts)
    return Row(system=system, pooled=pooled, seeds=single)
