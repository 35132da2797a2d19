"""Judges a trained network on streams: thresholds are chosen on val streams, figures come of test streams.

It knows features and labels of a folder, no media and no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.events import Collar
from streamav.evaluation.manifest import ManifestOptions
from streamav.evaluation.scores import ScoredStream, score_streams
from streamav.evaluation.tuning.classes import class_candidates, final_seconds, tune_classes
from streamav.evaluation.tuning.counting import operating_table
from streamav.training.streams.run import manifest_of, run_streams

if TYPE_CHECKING:
    from torch import nn

    from streamav.evaluation.events import Hysteresis
    from streamav.evaluation.tuning.counting import OperatingTable
    from streamav.networks.options import Decision
    from streamav.training.data.folder import AveData

__all__ = ["StreamJudgement", "StreamPlan", "judge_on_streams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """Which streams, and what is asked of the thresholds."""

    streams: int = 6
    minutes: float = 15.0
    seeds: tuple[int, ...] = (0, 1)
    """Of the manifests of test streams; val streams take the first."""
    latency: int = 1
    """Seconds of look-ahead."""
    alarms_per_hour: float = 6.0
    """Most false alarms in an hour of background, on val streams."""

    def options(self, seed: int) -> ManifestOptions:
        """Give the layout of one seed's streams."""
        return ManifestOptions(streams=self.streams, seconds=round(self.minutes * 60), seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamJudgement:
    """What a network came to."""

    hysteresis: Hysteresis
    """Chosen on val streams."""
    latency: int
    figures: dict[str, float]
    """Of test streams, by name; means over the manifests' seeds."""


def judge_on_streams(network: nn.Module, data: AveData, plan: StreamPlan, decision: Decision = "argmax29") -> StreamJudgement:
    """Choose thresholds on val streams and score test streams with them.

    Args:
        network: a trained localizer.
        data: a folder with val and test splits.
        plan: which streams.
        decision: which head speaks.
    """
    val = _streams(network, data, "val", plan.options(plan.seeds[0]), decision)
    table = operating_table(final_seconds(val, plan.latency), class_candidates())
    hysteresis = _general(table, plan.alarms_per_hour)
    parts = [_scored(_streams(network, data, "test", plan.options(seed), decision), plan.latency, hysteresis) for seed in plan.seeds]
    figures = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return StreamJudgement(hysteresis=hysteresis, latency=plan.latency, figures=figures)


_NEVER = 1 << 62
"""No class has so many events: one setting for all, since a few held-out sources a class are too few for settings of its own."""


def _general(table: OperatingTable, alarms_per_hour: float) -> Hysteresis:
    """Give the settings with the best event-F1 within the budget, or, where none keeps it, within the least that can be kept."""
    hours = table.background_seconds / 3600.0
    least = int(table.background_false_alarms.sum(axis=0).min()) / hours if hours else 0.0
    return tune_classes(table, max(alarms_per_hour, least + 1e-6), least_events=_NEVER).general


def _scored(streams: list[ScoredStream], latency: int, hysteresis: Hysteresis) -> dict[str, float]:
    """Give the figures of one manifest's test streams; events are made as the live tracker makes them."""
    result = score_streams(streams, hysteresis=hysteresis, latencies=(latency,))
    found: dict[str, float] = {"always_background": result.always_background}
    for one in result.ages:
        if one.age in {0, latency, 9}:
            found[f"accuracy_at_{one.age}"] = one.accuracy
    now, age = result.latencies[0], next(one for one in result.ages if one.age == latency)
    seconds = final_seconds(streams, latency)
    every = tuple(0 for _ in range(streams[0].windows.shape[2] - 1))
    tight, loose = (operating_table(seconds, [hysteresis], collar).counts(every) for collar in (Collar(), Collar(onset=2.0, offset=2.0)))
    return {
        **found,
        "macro_f1": age.macro_f1,
        "background_recall": age.background_recall,
        "event_f1": tight.f1,
        "event_f1_collar_2": loose.f1,
        "false_alarms_per_hour": tight.false_alarms_per_hour,
        "background_false_alarms_per_hour": tight.background_false_alarms_per_hour,
        "onset_latency_median": now.onset_latency_median,
        "detection_rate": now.detection_rate,
    }


def _streams(network: nn.Module, data: AveData, split: str, options: ManifestOptions, decision: Decision) -> list[ScoredStream]:
    """Run every stream of a split: VSCG as it runs live, a network that is not split in two a whole window at a time."""
    features = data.val if split == "val" else data.test
    manifest = manifest_of(data, split, options)
    return list(run_streams(network, features, manifest, decision))
