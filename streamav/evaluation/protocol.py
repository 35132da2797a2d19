"""The AVE-Stream protocol: thresholds fixed on validation streams, then test streams of several seeds scored once with them.

It is pure: windows' probabilities in, figures out. `report` writes them; who runs the network is told nothing of the truth.
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
    """Thresholds of one head at each latency, and where they come from."""

    source: str
    """`card`, `given`, or `tuned` (on the streams of `split`)."""
    by_latency: Mapping[int, ByClass]
    within_limit: Mapping[int, bool]
    """Whether they kept false alarms within the limit on the streams they were tuned on; empty where nothing was tuned."""

    def to_dict(self) -> dict[str, object]:
        """Give them for JSON, by latency."""
        told: dict[str, object] = {"source": self.source}
        for latency, found in self.by_latency.items():
            one: dict[str, object] = asdict(found) if isinstance(found, Thresholds) else {"classes": [asdict(each) for each in found]}
            told[str(latency)] = one | {"within_limit": self.within_limit[latency]} if latency in self.within_limit else one
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One system in the table of one latency."""

    system: str
    pooled: LatencyScores
    """Over the streams of all seeds, with its bootstrap."""
    seeds: tuple[LatencyScores, ...]
    """Of each seed's streams."""

    def to_dict(self) -> dict[str, object]:
        """Give the figures for JSON; what is not a number is None."""
        return {"system": self.system, "pooled": plain_figures(self.pooled), "over_seeds": over_seeds(self.seeds)}


def tuned(
    streams: Sequence[ScoredStream],
    alarms_per_hour: float,
    how: Combination = "hamming",
    latencies: Sequence[int] = LATENCIES,
) -> FixedThresholds:
    """Find the thresholds of every latency on validation streams; one set for all classes (`tuning.classes.tune_general`).

    Args:
        streams: of the validation split.
        alarms_per_hour: most false alarms in an hour of background.
        how: how windows are combined.
        latencies: those beyond T are left out.

    Raises:
        DataError: when there is no stream, or no event in them.
    """
    if not streams:
        msg = "thresholds are tuned on at least one validation stream, got none"
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
        system: what the rows are called.
        seeds: for each seed of the manifest its streams.
        thresholds: fixed beforehand.
        how: how windows are combined.

    Returns:
        The result over all streams, that of each seed, and a row for each latency.

    Raises:
        DataError: when there is no stream, or one is too short.
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
    """Score the last label said again, with the thresholds of latency 1; the same at every latency, as it waits for nothing."""
    parts = [([*map(_truth, streams)], [persistence(stream, how) for stream in streams]) for streams in seeds]
    return _row("last label again", parts, 0, thresholds)


def aligned_row(seeds: Sequence[Sequence[AlignedStream]], thresholds: ByClass) -> Row:
    """Score the offline oracle; its answers count as given when the window of the clip has ended."""
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
    """Give every figure of one model at one latency as plain values: the whole protocol in one call.

    Args:
        test: streams to score.
        latency: L, 1 to T.
        val: streams to tune thresholds on; needed where *thresholds* are not given, else not looked at.
        thresholds: fixed before; of all classes alike, or of each.
        alarms_per_hour: most false alarms in an hour of background, while tuning.
        how: how windows are combined.

    Returns:
        The figures of `StreamResult` (`ages` of all ages), those of `LatencyScores` at *latency*, and `thresholds`.

    Raises:
        DataError: when there is no stream, one is too short, or there are neither thresholds nor streams to tune them on.
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
    """Give mean and standard deviation (n - 1) over seeds of every figure; None where it is not a number for any seed."""
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
    """Score answers of every seed, and of all together."""
    pooled = score_answers([one for truth, _ in parts for one in truth], [one for _, said in parts for one in said], latency, thresholds)
    single = (pooled,) if len(parts) == 1 else tuple(score_answers(truth, said, latency, thresholds) for truth, said in parts)
    return Row(system=system, pooled=pooled, seeds=single)
