"""Runs a bundle over labelled real recordings, as a live run does, and keeps the class scores and the localizer's answer.

It fits nothing. The scores of each recording are kept in a folder, and a recording is not run again when they are there.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.recordings import read_groups, read_labels
from streamav.files import whole_file
from streamav.training.starter.evidence import ClassScores, LabelledRecording

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.evaluation.recordings import Span
    from streamav.offline import OfflineRun
    from streamav.types import SegmentFeatures

__all__ = ["LATENCY_SEGMENTS", "labelled_recordings"]

LATENCY_SEGMENTS = 2
"""L for which the evidence is fitted and the thresholds are chosen: a segment waits for the one after it."""


def labelled_recordings(
    folder: Path, card: ModelCard, run: OfflineRun, probes: Callable[[NDArray[np.float32]], NDArray[np.float32]], work: Path
) -> list[LabelledRecording]:
    """Return class scores and truth of every recording of a folder with labels.csv.

    Args:
        folder: the recordings.
        card: model card; its labels are the columns of the truth.
        run: a model without evidence, with the latency `LATENCY_SEGMENTS`.
        probes: returns the logits (P,) of the bundle's own picture classes in a grid (G, G, V).
        work: folder for the scores.

    Raises:
        DataError: when labels.csv is wrong.
        CaptureError: when a recording cannot be read.
    """
    truth, groups = read_labels(folder / "labels.csv"), read_groups(folder / "labels.csv")
    work.mkdir(parents=True, exist_ok=True)
    found = []
    for name in sorted(truth):
        scores = _scores(folder / name, run, probes, work / f"{name}.npz")
        spans = tuple(span for span in truth[name] if span.label in card.slugs)
        found.append(LabelledRecording(name, groups[name], scores, _truth(spans, card.slugs, len(scores.heard)), spans))
    return found


def _scores(file: Path, run: OfflineRun, probes: Callable[[NDArray[np.float32]], NDArray[np.float32]], kept: Path) -> ClassScores:
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            return ClassScores(**{one.name: arrays[one.name] for one in fields(ClassScores)})
    rows: list[SegmentFeatures] = []
    network = run.scores(str(file), rows.append)
    scores = ClassScores(
        np.stack([row.heard for row in rows if row.heard is not None]),
        np.stack([row.seen for row in rows if row.seen is not None]),
        np.stack([probes(row.visual) for row in rows]),
        network,
        np.array([row.motion for row in rows], np.float32),
    )
    with whole_file(kept) as path, path.open("wb") as opened:
        np.savez(opened, **{one.name: getattr(scores, one.name) for one in fields(ClassScores)})
    return scores


def _truth(spans: Sequence[Span], labels: Sequence[str], segments: int) -> NDArray[np.bool_]:
    """Return which label holds in each segment, shape (S, L): a segment counts when a span covers any of it."""
    truth = np.zeros((segments, len(labels)), dtype=np.bool_)
    for span in spans:
        if span.label in labels:
            truth[int(span.onset_s) : int(np.ceil(span.offset_s)), labels.index(span.label)] = True
    return truth
