"""Runs a model over labelled clips and keeps its answer for every segment: for --predictions and `streamav compare`.

Own recordings (labels.csv) go through the stages of a live run; features go through the network, as in `streamav eval`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.cli.outputs import check_output
from streamav.evaluation.predictions import Predictions, check_suffix
from streamav.evaluation.recordings import NO_LABEL, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.evaluation.recorded import JudgedRecording
    from streamav.networks.vscg import VSCG
    from streamav.training.data.folder import AveData
    from streamav.training.streams.whole import WholeModel

__all__ = ["check_predictions_file", "of_features", "of_recordings"]


def check_predictions_file(path: Path | None) -> None:
    """Check, before a long run, that predictions can be written; None passes.

    Raises:
        SettingsError: when they cannot.
    """
    if path is not None:
        check_suffix(path)
        check_output("--predictions", path)


def of_features(bundle: Bundle, data: AveData, split: str, network: VSCG | WholeModel) -> Predictions:
    """Return the answers for every clip of a split, by the rule of the model's network.

    Args:
        bundle: the model.
        data: a folder of features.
        split: val or test.
        network: what answers: the whole model, or its localizer.
    """
    from streamav.training.fit.kept_answers import predictions_of
    from streamav.training.fit.selection import answers
    from streamav.training.streams.evaluate import decision_of

    part = data.val if split == "val" else data.test
    return predictions_of(answers(network, part.batches(64), *decision_of(network)), bundle.card.name, data.classes, part)


def of_recordings(
    model: str,
    slugs: Sequence[str],
    truths: Sequence[JudgedRecording],
    judged: Sequence[JudgedRecording],
    scores: Sequence[NDArray[np.float32]],
) -> Predictions:
    """Return what a model found in every second of recordings.

    Args:
        model: its name.
        slugs: its labels.
        truths: the recordings with their whole truth; labels that the model does not have are part of it.
        judged: the same recordings with what the model found.
        scores: final probabilities of every segment of each recording, shape (S, C + 1).
    """
    unknown = sorted({span.label for one in truths for span in one.truth} - {*slugs, NO_LABEL})
    labels = (*slugs, *unknown)
    places: dict[str | None, int] = {None: len(labels), NO_LABEL: len(labels)}
    places.update({name: number for number, name in enumerate(labels)})
    truth = [places[label] for true, one in zip(truths, judged, strict=True) for label in labels_of(true.truth, one.seconds)]
    decided = [places[label] for one in judged for label in labels_of(one.found, one.seconds)]
    return Predictions(
        model=model,
        labels=labels,
        clips=tuple(one.file for one in judged),
        groups=tuple(one.group for one in judged),
        lengths=np.array([one.seconds for one in judged], dtype=np.int64),
        truth=np.array(truth, dtype=np.int64),
        decided=np.array(decided, dtype=np.int64),
        probabilities=_with_columns(np.concatenate(scores), len(slugs), len(unknown)),
    )


def _with_columns(scores: NDArray[np.float32], known: int, further: int) -> NDArray[np.float32]:
    """Add columns of zeros, before background, for labels that the model does not have."""
    nothing = np.zeros((len(scores), further), dtype=np.float32)
    return np.concatenate([scores[:, :known], nothing, scores[:, -1:]], axis=1)
