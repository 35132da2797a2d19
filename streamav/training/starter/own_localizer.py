"""Finds events with a localizer that was trained from scratch on a few clips alone, to compare labels on top of a model with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from streamav.bundle import ClassEntry
from streamav.thresholds import resolve
from streamav.training.clips.own_checks import events_in
from streamav.training.clips.plan import calibrated, plan, train_clips
from streamav.training.clips.recorded import answers
from streamav.training.clips.rows import load_features, row_starts
from streamav.training.data.feature_set import FeatureSet
from streamav.training.data.folder import AveData
from streamav.training.experiments.export import UNTUNED
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.evaluation.recordings import Span
    from streamav.networks.vscg import VSCG
    from streamav.training.clips.recorded import OwnRecording

__all__ = ["events_by_localizer"]

_STRIDE = 5
_VAL_EACH = 7
"""Of seven clips one is for validation, about the share of `streamav train`."""


def events_by_localizer(
    clips: Sequence[OwnRecording], test: Sequence[OwnRecording], slugs: Sequence[str], bundle: Bundle, places: Mapping[str, Path]
) -> list[list[Span]]:
    """Train a localizer for some labels on clips as `streamav train --localizer-only` does; return the events in each test recording.

    Args:
        clips: what is trained on; a part of them chooses weights and thresholds.
        test: recordings to find events in.
        slugs: L labels, the columns of the truth.
        bundle: the model that the training starts from.
        places: file of the features of each recording, by its name.
    """
    data = _data(clips, slugs, places)
    experiment = plan(data, bundle, {})
    network = cast("VSCG", train_clips(data, experiment, bundle, [0]).chosen.network).eval()
    found = calibrated(network, data)
    thresholds = resolve("all", card=UNTUNED) if found is None else found[0].thresholds
    labels = [(number, slug, thresholds) for number, slug in enumerate(slugs)]
    return [events_in(answers(network, *_features(places[one.file])), labels) for one in test]


def _features(place: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    stored = load_features(place)
    return np.asarray(stored["audio"], np.float32), np.asarray(stored["visual"], np.float32)


def _data(clips: Sequence[OwnRecording], slugs: Sequence[str], places: Mapping[str, Path]) -> AveData:
    """Return rows of ten segments with their labels; every seventh clip is for validation, and stands for the test split too."""
    audio, visual, labels, val = [], [], [], []
    for number, one in enumerate(clips):
        heard, seen = _features(places[one.file])
        truth = np.where(one.truth.any(axis=1), one.truth.argmax(axis=1), len(slugs))
        for start in row_starts(len(truth), _STRIDE):
            window = (start + np.arange(WINDOW_SEGMENTS)) % len(truth)
            audio.append(heard[window])
            visual.append(seen[window])
            labels.append(truth[window])
            val.append(number % _VAL_EACH == 0)
    stacked = np.stack(labels)
    tags = np.eye(len(slugs) + 1, dtype=np.float32)[stacked.min(axis=1)]
    whole = FeatureSet(audio=np.stack(audio), visual=np.stack(visual), labels=stacked, tags=tags, rows=np.arange(len(stacked)))
    chosen, rest = np.flatnonzero(val), np.flatnonzero(~np.array(val))
    return AveData(
        train=whole.select(rest, "train"),
        val=whole.select(chosen, "val"),
        test=whole.select(chosen, "test"),
        background=None,
        classes=tuple(ClassEntry(slug=slug, name=slug) for slug in slugs),
        repeated=np.empty(0, np.int64),
    )
