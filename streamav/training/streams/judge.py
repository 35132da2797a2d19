"""Evaluates a trained network on streams: thresholds are chosen on val streams, and the figures are computed on test streams.

It reads features and labels of a folder. Media and engines are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.aggregation import final_age
from streamav.evaluation.manifest import ManifestOptions
from streamav.evaluation.scores import score_streams
from streamav.evaluation.tuning.classes import tune_general
from streamav.training.streams.run import manifest_of, run_streams

if TYPE_CHECKING:
    from torch import nn

    from streamav.evaluation.counting import ScoredStream
    from streamav.networks.options import Decision
    from streamav.thresholds import Thresholds
    from streamav.training.data.folder import AveData

__all__ = ["StreamJudgement", "StreamPlan", "judge_on_streams", "scored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """Number and length of the streams, and the requirements for the thresholds."""

    streams: int = 6
    minutes: float = 15.0
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the manifests of test streams; val streams use the first seed."""
    latency: int = 2
    """Latency L in segments, 1 to T."""
    alarms_per_hour: float = 6.0
    """Largest number of false alarms in an hour of background, on val streams."""

    def options(self, seed: int) -> ManifestOptions:
        """Return the layout of one seed's streams."""
        return ManifestOptions(streams=self.streams, seconds=round(self.minutes * 60), seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamJudgement:
    """The result of a network on streams."""

    thresholds: Thresholds
    """Chosen on val streams."""
    latency: int
    figures: dict[str, float]
    """Figures of test streams, by name; means over the manifests' seeds."""


def judge_on_streams(network: nn.Module, data: AveData, plan: StreamPlan, decision: Decision = "argmax29") -> StreamJudgement:
    """Choose thresholds on val streams and score test streams with them.

    Args:
        network: a trained localizer.
        data: a folder with val and test splits.
        plan: the streams and the requirements for the thresholds.
        decision: the head that the probabilities come from.
    """
    val = _streams(network, data, "val", plan.options(plan.seeds[0]), decision)
    thresholds = tune_general(val, plan.latency, plan.alarms_per_hour)[0].thresholds
    parts = [scored(_streams(network, data, "test", plan.options(seed), decision), plan.latency, thresholds) for seed in plan.seeds]
    figures = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return StreamJudgement(thresholds=thresholds, latency=plan.latency, figures=figures)


def scored(streams: list[ScoredStream], latency: int, thresholds: Thresholds) -> dict[str, float]:
    """Return the figures of one manifest's test streams; the names of accuracies end with the age, which counts from 0."""
    result = score_streams(streams, thresholds, latencies=(latency,))
    now, age = result.latencies[0], result.ages[final_age(latency)]
    found = {f"accuracy_at_{one.age}": one.accuracy for one in result.ages if one.age in {0, age.age, 9}}
    return {
        "always_background": result.always_background,
        **found,
        "macro_f1": age.macro_f1,
        "background_recall": age.background_recall,
        "event_f1": now.event_f1,
        "event_f1_collar_2": now.event_f1_collar_2,
        "false_alarms_per_hour": now.false_alarms_per_hour,
        "background_false_alarms_per_hour": now.background_false_alarms_per_hour,
        "onset_latency_median": now.onset_latency_median,
        "detection_rate": now.detection_rate,
    }


def _streams(network: nn.Module, data: AveData, split: str, options: ManifestOptions, decision: Decision) -> list[ScoredStream]:
    """Run every stream of a split: VSCG as in a live run, other networks on whole windows."""
    features = data.val if split == "val" else data.test
    manifest = manifest_of(data, split, options)
    return list(run_streams(network, features, manifest, decision))
