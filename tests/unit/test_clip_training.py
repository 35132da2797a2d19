"""Tests of training on own clips without media: the thresholds of a model, and classes that a split lacks."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamav.bundle import ClassEntry
from streamav.networks.heads import LocalizerOutput
from streamav.networks.vscg import VSCG
from streamav.training.clips.plan import calibrated
from streamav.training.data.feature_set import FeatureSet
from streamav.training.data.folder import AveData

CLASSES, SEGMENTS, CLIPS = 2, 10, 12
SLUGS = ("bark", "siren")


class Teller(nn.Module):
    """Reads the answer from the features, since sound and picture both hold the label; a deaf one always answers background."""

    def __init__(self, *, deaf: bool) -> None:
        super().__init__()
        self.deaf = deaf
        self.certainty = nn.Parameter(torch.tensor(9.0))

    def forward(self, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        logits = torch.zeros_like(audio) if self.deaf else audio * visual[:, :, 0, 0] * self.certainty
        logits[..., CLASSES] += 4.0
        return LocalizerOutput(segment_logits=logits)


def clips(labels: np.ndarray) -> AveData:
    """Build clips whose sound and picture are their labels, one-hot; each split has a third."""
    audio = np.eye(CLASSES + 1, dtype=np.float32)[labels]
    visual = audio[:, :, None, None]
    tags = np.eye(CLASSES + 1, dtype=np.float32)[labels.min(axis=1)]
    whole = FeatureSet(audio=audio, visual=visual, labels=labels, tags=tags, rows=np.arange(CLIPS))
    train, val, test = (whole.select(np.arange(start, start + 4), name) for start, name in ((0, "train"), (4, "val"), (8, "test")))
    classes = tuple(ClassEntry(slug=slug, name=slug) for slug in SLUGS)
    return AveData(train=train, val=val, test=test, background=None, classes=classes, repeated=np.empty(0, np.int64))


def labelled() -> np.ndarray:
    labels = np.full((CLIPS, SEGMENTS), CLASSES)
    for clip in range(CLIPS):
        labels[clip, 3:7] = clip % CLASSES
    return labels


def test_thresholds_come_from_streams_where_events_are_found() -> None:
    """A network with right answers gets thresholds that find the events, within the limit of false alarms."""
    found = calibrated(cast("VSCG", Teller(deaf=False)), clips(labelled()))
    assert found is not None
    best, kept = found
    assert kept
    assert best.counts.f1 > 0.9


def test_no_thresholds_come_from_streams_where_nothing_was_found() -> None:
    """No thresholds are returned if the network always answers background, or if validation has no event."""
    assert calibrated(cast("VSCG", Teller(deaf=True)), clips(labelled())) is None
    silent = labelled()
    silent[4:8] = CLASSES
    assert calibrated(cast("VSCG", Teller(deaf=False)), clips(silent)) is None


@pytest.mark.parametrize(("part", "rows"), [("train", range(4)), ("val", range(4, 8)), ("test", range(8, 12))])
def test_a_class_that_a_split_lacks_is_named(part: str, rows: range) -> None:
    """A split lacks the classes of which it has no segment, even if other splits have them."""
    labels = labelled()
    for row in rows:
        labels[row, labels[row] == 1] = 0
    data = clips(labels)
    assert {name: data.lacking(name) for name in ("train", "val", "test")} == {
        name: (("siren",) if name == part else ()) for name in ("train", "val", "test")
    }
