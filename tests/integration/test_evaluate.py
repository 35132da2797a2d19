"""Tests of `streamav eval` on streams, end to end on a tiny folder in AVE's format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from rigs.ave_folder import write_ave_folder
from rigs.commands import invoke

from streamav.bundle import DetectionCard, load_bundle
from streamav.bundle.store import copy_bundle
from streamav.cli.compare import compare_models
from streamav.cli.evaluate import evaluate
from streamav.cli.train import train
from streamav.errors import SettingsError
from streamav.evaluation.manifest import Manifest, ManifestOptions, Piece
from streamav.evaluation.predictions import read_predictions
from streamav.evaluation.protocol import aligned_row
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.thresholds import PartialThresholds, Thresholds
from streamav.training.data.folder import open_ave
from streamav.training.fit.selection import answers
from streamav.training.streams import evaluate as stream_evaluation
from streamav.training.streams.run import manifest_of, run_aligned, run_streams

SMALL = ["--set", "network.hidden=16", "--set", "network.attention_size=16", "--set", "network.front_size=16", "--batch", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ave")
    write_ave_folder(place, 20, dtype="float16")
    return place


@pytest.fixture(scope="module")
def network() -> VSCG:
    torch.manual_seed(0)
    return VSCG(VSCGOptions.corrected(hidden=16, attention_size=16)).eval()


def test_offline_windows_on_streams_give_the_offline_number(folder: Path, network: VSCG) -> None:
    """On streams of whole clips, windows aligned to the clips give exactly the accuracy of the clips (track S1)."""
    data = open_ave(folder)
    stream = Manifest(split="test", seed=0, streams=(tuple(Piece("clip", int(row), int(row), 0, 10) for row in data.test.rows),))
    aligned = next(run_aligned(network, data.test, stream, "argmax29"))
    offline = answers(network, data.test.batches(3), "argmax29", 0.7)
    assert (aligned.scores.argmax(axis=1) == aligned.truth).mean() == (offline.decided == offline.truth).mean()
    live = next(run_streams(network, data.test, stream, "argmax29"))
    assert (live.windows[::10].argmax(axis=2) == offline.truth).mean() == (offline.decided == offline.truth).mean()


def test_the_oracle_judges_a_piece_in_its_whole_clip(folder: Path, network: VSCG) -> None:
    """Cropped pieces and gaps keep the scores of the windows they were cut from, and the labels of the streams are the same."""
    data = open_ave(folder)
    made = manifest_of(data, "test", ManifestOptions(streams=1, seconds=150, seed=3))
    aligned = next(run_aligned(network, data.val, made, "argmax29"))
    offline = answers(network, data.test.batches(8), "argmax29", 0.7)
    places = {int(row): place for place, row in enumerate(data.test.rows)}
    second = 0
    for piece in made.streams[0]:
        if piece.kind == "clip":
            expected = offline.probabilities[places[piece.audio_row], piece.start : piece.start + piece.length]
            np.testing.assert_allclose(aligned.scores[second : second + piece.length], expected, atol=1e-5)
        second += piece.length
    assert second == len(aligned.truth)
    assert aligned_row([[aligned]], Thresholds(on=0.6, off=0.35)).pooled.latency == 10


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "model"
    result = invoke(train, "--data", folder, "--out", out, "--epochs", 1, *SMALL)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_a_report_of_several_seeds_with_thresholds_of_validation_streams(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report tunes thresholds on val streams, shows the progress over all streams, and has a table with baselines for each latency."""
    order: list[str] = []
    shown: list[tuple[float, float | None]] = []

    @contextmanager
    def progress(what: str) -> Iterator[Callable[[float, float | None], None]]:
        assert what == "streams"
        yield lambda done, total: shown.append((done, total))

    monkeypatch.setattr("streamav.cli.evaluate.progress", progress)
    for name in ("run_streams", "run_aligned"):
        original = getattr(stream_evaluation, name)

        def watched(network: VSCG, features: object, manifest: Manifest, head: str, _original: Callable[..., object] = original) -> object:
            order.append(manifest.split)
            return _original(network, features, manifest, head)

        monkeypatch.setattr(stream_evaluation, name, watched)
    out = tmp_path / "report"
    arguments = ["--data", folder, "--model", model, "--protocol", "stream", "--streams", 1, "--minutes", 1, "--seeds", 2]
    result = invoke(evaluate, *arguments, "--json", "--out", out)
    assert result.exit_code == 0, result.output
    assert order == ["val"] * 3 + ["test"] * 6  # two heads and the oracle on val, then each of them on the streams of two seeds
    assert shown == [(done, 9) for done in range(10)]
    figures = json.loads(result.stdout)
    assert figures == json.loads((out / "report.json").read_text(encoding="utf-8"))
    stream = figures["stream"]
    assert (stream["thresholds"]["chosen"], stream["thresholds"]["split"]) == ("tuned", "val")
    assert list(stream["tables"]) == ["1", "2", "3", "5", "10"]
    for rows in stream["tables"].values():
        assert [row["system"] for row in rows] == ["per_segment", "two_stage", "last label again", "offline oracle windows"]
    assert {path.name for path in out.iterdir()} == {
        "report.md",
        "report.html",
        "report.json",
        "streams-test-0.json",
        "streams-test-1.json",
    }
    assert {gap["kind"] for gap in stream["gaps"]["1"]["two_stage"]} <= {"clip", "quiet", "mismatch", "heard_only", "seen_only"}
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "tuned on val streams" in text
    assert "±" in text
    again = invoke(evaluate, *arguments[:-2], "--json", "--manifest", out / "streams-test-1.json", "--no-baselines", "--thresholds", "card")
    repeated = json.loads(again.stdout)["stream"]
    assert repeated["thresholds"]["chosen"] == "card"
    assert repeated["manifests"][0]["seed"] == 1
    assert [row["system"] for row in repeated["tables"]["1"]] == ["per_segment", "two_stage"]


@pytest.mark.slow
def test_the_thresholds_of_a_card_are_those_of_its_classes(folder: Path, model: Path, tmp_path: Path) -> None:
    """--thresholds card scores with the settings of single classes that tune writes."""
    bundle = load_bundle(model)
    general = DetectionCard(on=1.0, off=1.0)
    classes = {slug: PartialThresholds(on=0.001, off=0.001) for slug in bundle.card.slugs}
    alarms = []
    for name, detection in (("general", general), ("classes", general.model_copy(update={"classes": classes}))):
        copy_bundle(bundle, tmp_path / name, card=bundle.card.model_copy(update={"detection": detection}))
        arguments = ["--protocol", "stream", "--split", "val", "--streams", 1, "--minutes", 1, "--seeds", 1, "--no-baselines", "--json"]
        result = invoke(evaluate, "--data", folder, "--model", tmp_path / name, *arguments, "--thresholds", "card")
        assert result.exit_code == 0, result.output
        stream = json.loads(result.stdout)["stream"]
        alarms.append(stream["tables"]["1"][0]["pooled"]["false_alarms_per_hour"])
        told = stream["thresholds"]["systems"]["per_segment"]["1"]["classes"]
        assert len(told) == len(bundle.card.classes)
        assert {one["on"] for one in told} == {0.001 if name == "classes" else 1.0}
    assert alarms[0] == 0.0
    assert alarms[1] > 0.0


@pytest.mark.slow
def test_predictions_are_those_that_the_figures_count(folder: Path, model: Path, tmp_path: Path) -> None:
    """--predictions holds every segment of the test clips; its accuracy is the one in the report, and compare reads the same folder."""
    file = tmp_path / "p.npz"
    result = invoke(evaluate, "--data", folder, "--model", model, "--protocol", "clips", "--predictions", file, "--json")
    assert result.exit_code == 0, result.output
    said = read_predictions(file)
    assert (said.truth == said.decided).mean() == pytest.approx(json.loads(result.stdout)["clips"]["accuracy"])
    assert said.lengths.tolist() == [10] * len(said.clips)
    same = invoke(compare_models, model, file, "--data", folder, "--draws", 200, "--json")
    assert same.exit_code == 0, same.output
    assert json.loads(same.stdout)["accuracy"]["difference"] == 0.0


@pytest.mark.slow
def test_a_training_keeps_the_answers_of_its_report(folder: Path, tmp_path: Path) -> None:
    """Train --predictions writes what eval --predictions writes for the trained model; the accuracy is the one of the training."""
    out, first, second = tmp_path / "model", tmp_path / "first.csv", tmp_path / "second.csv"
    trained = invoke(train, "--data", folder, "--out", out, "--epochs", 1, "--json", "--predictions", first, *SMALL)
    assert trained.exit_code == 0, trained.output
    said = read_predictions(first)
    accuracy = json.loads(trained.stdout)["trained"][0]["test"]["accuracy"]["mean"]
    assert (said.truth == said.decided).mean() == pytest.approx(accuracy)
    judged = invoke(evaluate, "--data", folder, "--model", out, "--protocol", "clips", "--predictions", second)
    assert judged.exit_code == 0, judged.output
    again = read_predictions(second)
    assert again.clips == said.clips
    assert again.decided.tolist() == said.decided.tolist()


def test_a_file_that_cannot_be_written_is_refused_before_the_training(folder: Path, tmp_path: Path) -> None:
    """Train --predictions with another suffix, or in a folder that does not exist, is refused before anything is trained."""
    for file in (tmp_path / "p.txt", tmp_path / "none" / "p.csv"):
        refused = invoke(train, "--data", folder, "--out", tmp_path / "model", "--predictions", file).exception
        assert isinstance(refused, SettingsError)
        assert file.name in str(refused)
    assert not (tmp_path / "model").exists()


def test_what_cannot_be_reported_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    """A manifest with several seeds, and an --out folder that holds other files, are refused before anything runs."""
    (tmp_path / "precious.txt").write_text("x", encoding="utf-8")
    arguments = ["--data", tmp_path, "--model", "starter"]
    seeds = invoke(evaluate, *arguments, "--manifest", tmp_path / "m.json", "--seeds", 2).exception
    taken = invoke(evaluate, *arguments, "--out", tmp_path).exception
    assert isinstance(seeds, SettingsError)
    assert "one seed" in str(seeds)
    assert isinstance(taken, SettingsError)
    assert "must be a new or empty folder" in str(taken)
