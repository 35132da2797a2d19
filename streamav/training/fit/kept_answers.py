"""Turns the answers of a network for every clip of a split into predictions, and writes those of a training (`--predictions`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle.card import card_name
from streamav.evaluation.predictions import Predictions, write_predictions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamav.bundle import ClassEntry
    from streamav.training.data.feature_set import FeatureSet
    from streamav.training.fit.selection import Answers

__all__ = ["keep_answers", "predictions_of"]


def predictions_of(said: Answers, model: str, classes: Sequence[ClassEntry], split: FeatureSet) -> Predictions:
    """Return answers as predictions; clip `row-N` is row N of the feature files, and each clip is a group of its own.

    Args:
        said: the answers for every clip of *split*, in its order.
        model: name of the model.
        classes: C classes, in the order of the answers.
        split: what was answered.
    """
    names = tuple(f"row-{row}" for row in split.rows.tolist())
    clips, segments = said.truth.shape
    return Predictions(
        model=model,
        labels=tuple(entry.slug for entry in classes),
        clips=names,
        groups=names,
        lengths=np.full(clips, segments, dtype=np.int64),
        truth=said.truth.reshape(-1),
        decided=said.decided.reshape(-1),
        probabilities=said.probabilities.reshape(clips * segments, -1),
    )


def keep_answers(path: Path, said: Answers, out: Path, classes: Sequence[ClassEntry], split: FeatureSet) -> None:
    """Write the answers of a network that was trained into the bundle *out*.

    Args:
        path: file to write, .npz or .csv.
        said: the answers for every clip of *split*, in its order.
        out: the bundle, which gives the model its name.
        classes: C classes, in the order of the answers.
        split: what was answered.
    """
    write_predictions(path, predictions_of(said, card_name(out.absolute().name, "model"), classes, split))
