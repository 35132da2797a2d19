"""Runs the encoders of a bundle over labelled real recordings, as a live run does, and keeps their class scores.

It fits nothing. The scores of each recording are kept in a folder, and a recording is not run again when they are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.recordings import read_groups, read_labels
from streamav.files import whole_file
from streamav.offline import segments_of
from streamav.training.starter.evidence import ClassScores, LabelledRecording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.evaluation.recordings import Span
    from streamav.evidence import LabelEvidence
    from streamav.features import SegmentExtractor

__all__ = ["labelled_recordings"]


def labelled_recordings(
    folder: Path, card: ModelCard, extractor: SegmentExtractor, evidence: LabelEvidence, work: Path
) -> list[LabelledRecording]:
    """Return class scores and truth of every recording of a folder with labels.csv.

    Args:
        folder: the recordings.
        card: model card; its labels are the columns of the truth.
        extractor: runs the encoders.
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
        scores = _scores(folder / name, card, extractor, evidence, work / f"{name}.npz")
        found.append(LabelledRecording(name, groups[name], scores, _truth(truth[name], card.slugs, len(scores.heard))))
    return found


def _scores(file: Path, card: ModelCard, extractor: SegmentExtractor, evidence: LabelEvidence, kept: Path) -> ClassScores:
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            return ClassScores(arrays["heard"], arrays["seen"], arrays["probed"])
    rows = [extractor.extract([segment])[0] for segment in segments_of(str(file), card, card.visual.frames_per_second)]
    scores = ClassScores(
        np.stack([row.heard for row in rows if row.heard is not None]),
        np.stack([row.seen for row in rows if row.seen is not None]),
        np.stack([evidence.probed(row.visual) for row in rows]),
    )
    with whole_file(kept) as path, path.open("wb") as opened:
        np.savez(opened, heard=scores.heard, seen=scores.seen, probed=scores.probed)
    return scores


def _truth(spans: Sequence[Span], labels: Sequence[str], segments: int) -> NDArray[np.bool_]:
    """Return which label holds in each segment, shape (S, L): a segment counts when a span covers any of it."""
    truth = np.zeros((segments, len(labels)), dtype=np.bool_)
    for span in spans:
        if span.label in labels:
            truth[int(span.onset_s) : int(np.ceil(span.offset_s)), labels.index(span.label)] = True
    return truth
