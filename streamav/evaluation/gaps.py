"""Computes recall and false alarms for each kind of background: quiet, mismatched, heard only, seen only, and inside clips.

It is pure: it takes labels, kinds and scores and returns numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.ages import Combination, at_latency, scored_segments
from streamav.evaluation.counting import ByClass, said_events
from streamav.evaluation.events import spans_of_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.evaluation.counting import ScoredStream
    from streamav.evaluation.manifest import Kind

__all__ = ["GapScores", "score_gaps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GapScores:
    """Figures over the background segments of one kind."""

    kind: str
    seconds: int
    background_recall: float
    """Share of these segments whose most probable label is background."""
    false_alarms_per_hour: float
    """Predicted events that overlap no true event of their class and begin in this kind of background, per hour of it."""


def score_gaps(
    streams: Sequence[ScoredStream], kinds: Sequence[Sequence[Kind]], latency: int, thresholds: ByClass, how: Combination = "hamming"
) -> list[GapScores]:
    """Score the background segments of each kind; kinds that do not occur are left out.

    Args:
        streams: with the scores of every window.
        kinds: for each stream, the kind of piece of each of its S segments (`Manifest.kinds`).
        latency: L, 1 to T.
        thresholds: one set for all classes, or one set for each class.
        how: how windows are combined.
    """
    names, right, begun = [], [], []
    for stream, kind in zip(streams, kinds, strict=True):
        inside = scored_segments(len(stream.truth), stream.windows.shape[1])
        truth, scores = stream.truth[inside.start : inside.stop], at_latency(stream.windows, latency, how)
        background = scores.shape[1] - 1
        quiet = truth == background
        names.append(np.array(kind)[inside.start : inside.stop][quiet])
        right.append((scores.argmax(axis=1) == background)[quiet])
        begun.append(_alarms(truth, scores, thresholds)[quiet])
    name, called, alarms = np.concatenate(names), np.concatenate(right), np.concatenate(begun)
    return [
        GapScores(
            kind=str(one),
            seconds=int((name == one).sum()),
            background_recall=float(called[name == one].mean()),
            false_alarms_per_hour=float(3600.0 * alarms[name == one].mean()),
        )
        for one in np.unique(name)
    ]


def _alarms(truth: NDArray[np.int64], scores: NDArray[np.float64], thresholds: ByClass) -> NDArray[np.int64]:
    """Return the number of false alarms that begin in each segment, shape (S,)."""
    true = spans_of_labels(truth, scores.shape[1] - 1)
    begun = np.zeros(len(truth), dtype=np.int64)
    for span in said_events(scores, thresholds):
        if not any(span.label == one.label and span.start < one.end and one.start < span.end for one in true):
            begun[span.start] += 1
    return begun
