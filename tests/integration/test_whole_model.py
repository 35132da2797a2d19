"""Tests of judging a whole model on features: localizer and evidence together, as in a live run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rigs.ave_folder import write_dataset
from rigs.commands import invoke

from streamav.bundle import find_bundle
from streamav.cli.evaluate import evaluate
from streamav.cli.tune import tune
from streamav.config import ModelSettings
from streamav.engines import open_engine
from streamav.engines.modules import ScoringEncoder, build_modules
from streamav.errors import DataError
from streamav.evaluation.manifest import Manifest, Piece
from streamav.evidence import evidence_of
from streamav.localizer import VscgLocalizer
from streamav.training.data.folder import AveData, AveOptions, open_ave
from streamav.training.streams.evaluate import judged_model
from streamav.training.streams.run import run_streams
from streamav.training.streams.whole import WholeModel
from streamav.types import SegmentFeatures, Window

CLIPS, SEGMENTS = 9, 10


def write_folder(place: Path, labels: tuple[str, ...]) -> Path:
    """Write random features of the starter's sizes; a third of the clips for each split, one class in each clip."""
    card, rng = find_bundle("starter").card, np.random.default_rng(0)
    place.mkdir(exist_ok=True)
    write_dataset(place / "audio_feature.h5", rng.gamma(1.0, 1.0, (CLIPS, SEGMENTS, card.audio.size)).astype(np.float16))
    grid = (card.visual.grid, card.visual.grid, card.visual.size)
    write_dataset(place / "visual_feature.h5", rng.gamma(1.0, 1.0, (CLIPS, SEGMENTS, *grid)).astype(np.float16))
    truth = np.full((CLIPS, SEGMENTS), len(labels))
    truth[:, 3:8] = np.arange(CLIPS)[:, None] % len(labels)
    write_dataset(place / "right_labels.h5", np.eye(len(labels) + 1, dtype=np.uint8)[truth])
    for number, split in enumerate(("train", "val", "test")):
        write_dataset(place / f"{split}_order.h5", np.arange(3 * number, 3 * number + 3), "order")
    (place / "classes.txt").write_text("".join(f"{label.replace('_', ' ').capitalize()}\n" for label in labels), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("whole"), find_bundle("starter").card.slugs)


@pytest.fixture(scope="module")
def data(folder: Path) -> AveData:
    return open_ave(folder, AveOptions(check=False))


def test_a_whole_model_scores_as_a_live_run_does(data: AveData) -> None:
    """Every window of a stream has the probabilities that a live localizer gives for its segments; the localizer alone has others."""
    bundle = find_bundle("starter")
    stream = Manifest(split="test", seed=0, streams=((Piece("clip", 6, 6, 0, 10), Piece("clip", 7, 7, 0, 5)),))
    scored = next(run_streams(judged_model(bundle, data), data.test, stream, "argmax29"))
    modules = build_modules(bundle)
    heard, seen = modules["audio"], modules["visual"]
    assert isinstance(heard, ScoringEncoder)
    assert isinstance(seen, ScoringEncoder)
    segments = []
    for index in range(15):
        row, second = (6, index) if index < 10 else (7, index - 10)
        audio, visual = (np.asarray(array[row][second], np.float32) for array in (data.test.audio, data.test.visual))
        with torch.inference_mode():
            scores = [one.encoder.scores(torch.from_numpy(value[None]))[0].numpy() for one, value in ((heard, audio), (seen, visual))]
        segments.append(
            SegmentFeatures(
                index=index, start_ns=index * 10**9, audio=audio, visual=visual, level_dbfs=-20.0, heard=scores[0], seen=scores[1]
            )
        )
    live = VscgLocalizer(open_engine(bundle, ModelSettings(name="starter", threads=1)), "segment", evidence_of(bundle))
    windows = [Window(segments=tuple(segments[first : first + SEGMENTS])) for first in range(6)]
    found = np.stack([one.class_probabilities for one in live.localize(windows)])
    np.testing.assert_allclose(scored.windows, found, atol=2e-3)
    alone = next(run_streams(judged_model(bundle, data, localizer_only=True), data.test, stream, "argmax29"))
    assert np.abs(alone.windows - found).max() > 0.02  # ten times the tolerance above


def test_eval_scores_the_whole_model_and_on_demand_the_localizer(folder: Path) -> None:
    """The tables name what was scored: a model with evidence as a whole, or with --localizer-only its two heads."""
    arguments = ["--data", folder, "--model", "starter", "--split", "val", "--streams", 1, "--minutes", 1, "--seeds", 1, "--no-baselines"]
    whole, alone = (json.loads(invoke(evaluate, *arguments, "--json", *more).stdout) for more in ([], ["--localizer-only"]))
    assert [row["system"] for row in whole["stream"]["tables"]["2"]] == ["whole_model"]
    assert [row["system"] for row in alone["stream"]["tables"]["2"]] == ["per_segment", "two_stage"]
    assert whole["clips"]["decision"] == "whole model"
    told = invoke(evaluate, *arguments).output
    assert "By age: whole_model" in told


def test_tune_takes_the_whole_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are scored by localizer and evidence; with --localizer-only by the localizer."""
    asked: list[type] = []

    def watched(network: object, *_: object) -> list[object]:
        asked.append(type(network))
        return []

    monkeypatch.setattr("streamav.training.streams.run.run_streams", watched)
    for more in ([], ["--localizer-only"]):
        result = invoke(tune, "--data", folder, "--model", "starter", "--streams", 1, "--minutes", 1, *more)
        assert isinstance(result.exception, DataError)  # nothing to tune on
    assert asked[0] is WholeModel
    assert asked[1] is not WholeModel


def test_a_folder_with_other_classes_is_refused_by_name(tmp_path: Path) -> None:
    """A class that the model lacks is named; a folder with a part of the model's classes is judged on these."""
    bundle = find_bundle("starter")
    other = open_ave(write_folder(tmp_path / "other", ("bark", "kettle")), AveOptions(check=False))
    with pytest.raises(DataError, match="lacks kettle"):
        judged_model(bundle, other)
    part = open_ave(write_folder(tmp_path / "part", ("siren", "bark")), AveOptions(check=False))
    stream = Manifest(split="test", seed=0, streams=((Piece("clip", 6, 6, 0, 10),),))
    assert next(run_streams(judged_model(bundle, part), part.test, stream, "argmax29")).windows.shape == (1, 10, 3)
