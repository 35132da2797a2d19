"""Tests labels by definition on real recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamav.bundle import find_bundle
from streamav.bundle.automatic import missing_encoders
from streamav.cli.labels import app
from streamav.evaluation.recordings import read_labels

pytestmark = pytest.mark.slow


def test_a_label_from_two_lists_of_names_finds_barks(shared_data: Path) -> None:
    """Barks and dogs, named on the command line, make events where a real recording holds them, and none in one that holds none."""
    weights, clips = shared_data / "weights", shared_data / "clips"
    card = find_bundle("edge").card
    if card.evidence is None or missing_encoders(card, weights) or not (clips / "labels.csv").is_file():
        pytest.skip("the encoders of edge or the clips are not here")
    truth = read_labels(clips / "labels.csv")
    barking = next(name for name, spans in sorted(truth.items()) if {span.label for span in spans} == {"bark"})
    other = next(name for name, spans in sorted(truth.items()) if spans and "bark" not in {span.label for span in spans})
    found = {}
    for name in (barking, other):
        definition = ["--hear", "Bark", "--hear", "Dog", "--see", "dog"]
        arguments = ["test", str(clips / name), *definition, "--model", "edge", "--weights", str(weights), "--json"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        found[name] = [row for row in json.loads(result.stdout)["seconds"] if row["event"]]
    spans = truth[barking]
    assert any(span.onset_s - 2 <= row["second"] <= span.offset_s for row in found[barking] for span in spans)
    assert found[other] == []
