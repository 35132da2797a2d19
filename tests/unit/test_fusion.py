"""Tests the fit of evidence on labelled recordings and its cross-validation by group."""

from __future__ import annotations

import numpy as np
import pytest
from rigs.evidence_arrays import HEARD, SEEN, arrays

from streamav.bundle import ClassEntry
from streamav.evaluation.recorded import figures_of
from streamav.evaluation.recordings import Span
from streamav.evidence import defined
from streamav.training.starter.evidence import ClassScores, LabelledRecording, fit_evidence, reference_arrays
from streamav.training.starter.fusion import Material, Operation, cross_validated
from streamav.vocabulary import find_classes

LABELS = tuple(entry for entry in defined("labels") if entry.slug in {"bark", "cow"})
OWN = {name: value for name, value in arrays().items() if not name.startswith("reference")}


def recording(number: int, label: ClassEntry | None) -> LabelledRecording:
    """Return six segments; in the middle four the label is heard and seen, or nothing is."""
    rng = np.random.default_rng(number)
    heard, seen = rng.uniform(0, 0.02, (6, HEARD)), rng.gamma(0.1, 1e-4, (6, SEEN))
    truth = np.zeros((6, len(LABELS)), dtype=np.bool_)
    spans: tuple[Span, ...] = ()
    if label is not None:
        heard[1:5, find_classes("hear", label.hear)[0]] = 0.9
        seen[1:5, find_classes("see", label.see)[0]] = 0.8
        truth[1:5, LABELS.index(label)] = True
        spans = (Span(label.slug, 1.0, 5.0),)
    network = np.full((6, len(LABELS) + 1), 1.0 / (len(LABELS) + 1))
    scores = ClassScores(*(array.astype(np.float32) for array in (heard, seen, rng.normal(-3, 1, (6, 2)), network, np.zeros(6))))
    return LabelledRecording(f"{number}.mp4", f"source {number // 2}", scores, truth, spans)


RECORDINGS = [recording(number, (LABELS[0], LABELS[1], None)[number % 3]) for number in range(36)]


def test_what_is_heard_and_seen_weighs_more_than_nothing() -> None:
    """The fitted weights are positive, and the weight of the network is the one that was given."""
    card, labels = fit_evidence(RECORDINGS, LABELS, OWN | reference_arrays(RECORDINGS), ("face", "helicopter"), 0.4)
    assert card.seen > 0.0
    assert card.heard + card.heard_peak > 0.0
    assert card.network == pytest.approx(0.4)
    assert [label.slug for label in labels] == [label.slug for label in LABELS]


def test_every_recording_is_judged_once_by_other_groups() -> None:
    """Cross-validation judges each recording once; what is plainly heard and seen is named, and nothing else."""
    material = Material(RECORDINGS, LABELS, ("face", "helicopter"), OWN)
    judged = cross_validated(material, Operation(network=0.0, on=0.5, short_on=None))
    assert sorted(one.file for one in judged) == sorted(one.name for one in RECORDINGS)
    figures = figures_of(judged)
    assert figures.clips_named.value == pytest.approx(1.0)
    assert figures.false_events.part == 0
