"""Runs a bundle over labelled real recordings, as a live run does, and keeps the class scores and the localizer's answer.

It fits nothing. The scores of each recording are kept in a folder, and a recording is not run again when they are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.aggregation import Aggregation
from streamav.evaluation.recordings import read_groups, read_labels
from streamav.files import whole_file
from streamav.offline import segments_of
from streamav.training.starter.evidence import ClassScores, LabelledRecording
from streamav.window import WindowRing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.evaluation.recordings import Span
    from streamav.evidence import LabelEvidence
    from streamav.protocols import Extractor, Localizer
    from streamav.types import SegmentFeatures, SegmentScores

__all__ = ["LATENCY_SEGMENTS", "Stages", "labelled_recordings"]

LATENCY_SEGMENTS = 2
"""L for which the evidence is fitted and the thresholds are chosen: a segment waits for the one after it."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The two stages that run a model."""

    extractor: Extractor
    localizer: Localizer
    """Without evidence."""


def labelled_recordings(folder: Path, card: ModelCard, stages: Stages, evidence: LabelEvidence, work: Path) -> list[LabelledRecording]:
    """Return class scores and truth of every recording of a folder with labels.csv.

    Args:
        folder: the recordings.
        card: model card; its labels are the columns of the truth.
        stages: the encoders and the localizer without evidence.
        evidence: computes the bundle's own picture classes.
        work: folder for the scores.

    Raises:
        DataError: when labels.csv is wrong.
        CaptureError: when a recording cannot be read.
    """
    truth, groups = read_labels(folder / "labels.csv"), read_groups(folder / "labels.csv")
    work.mkdir(parents=True, exist_ok=True)
    found = []
    for name in sorted(truth):
        scores = _scores(folder / name, card, stages, evidence, work / f"{name}.npz")
        spans = tuple(span for span in truth[name] if span.label in card.slugs)
        found.append(LabelledRecording(name, groups[name], scores, _truth(spans, card.slugs, len(scores.heard)), spans))
    return found


def _scores(file: Path, card: ModelCard, stages: Stages, evidence: LabelEvidence, kept: Path) -> ClassScores:
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            return ClassScores(**{name: arrays[name] for name in ("heard", "seen", "probed", "network")})
    rows = [stages.extractor.extract([segment])[0] for segment in segments_of(str(file), card, card.visual.frames_per_second)]
    scores = ClassScores(
        np.stack([row.heard for row in rows if row.heard is not None]),
        np.stack([row.seen for row in rows if row.seen is not None]),
        np.stack([evidence.probed(row.visual) for row in rows]),
        _answers(rows, stages.localizer),
    )
    with whole_file(kept) as path, path.open("wb") as opened:
        np.savez(opened, heard=scores.heard, seen=scores.seen, probed=scores.probed, network=scores.network)
    return scores


def _answers(rows: Sequence[SegmentFeatures], localizer: Localizer) -> NDArray[np.float32]:
    """Return the localizer's final probabilities of every segment, shape (S, C + 1)."""
    ring, aggregation = WindowRing(), Aggregation(LATENCY_SEGMENTS)
    finals: list[SegmentScores] = []
    for row in rows:
        window = ring.push(row)
        if window is not None:
            finals += aggregation.push(localizer.localize([window])[0])
    if (short := ring.close()) is not None:
        finals += aggregation.push(localizer.localize([short])[0])
    finals += aggregation.close()
    return np.stack([one.class_probabilities for one in finals if one.final])


def _truth(spans: Sequence[Span], labels: Sequence[str], segments: int) -> NDArray[np.bool_]:
    """Return which label holds in each segment, shape (S, L): a segment counts when a span covers any of it."""
    truth = np.zeros((segments, len(labels)), dtype=np.bool_)
    for span in spans:
        if span.label in labels:
            truth[int(span.onset_s) : int(np.ceil(span.offset_s)), labels.index(span.label)] = True
    return truth
