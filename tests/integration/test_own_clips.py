"""Tests of whole programs, from a folder of a user's own clips to a model that runs live, with the starter's encoders."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
from rigs.commands import invoke
from rigs.found_spans import found_by_run

from streamav.bundle import find_bundle, load_bundle
from streamav.capture.scene import Cue, Script
from streamav.capture.scene_file import write_scene
from streamav.cli.extract import extract
from streamav.cli.train import train
from streamav.config import DetectionSettings, ModelSettings
from streamav.errors import DataError, MissingExtraError, SettingsError
from streamav.evaluation.predictions import read_predictions
from streamav.offline import OfflineRun
from streamav.training.experiments.export import UNTUNED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # whole programs, many seconds each

CLASSES = {"my_alarm": "siren", "my_clock": "clock"}
"""Own classes, and the kinds of the embedded scene that represent them."""
CLIPS = 6
"""Clips of each class, 8 s each."""


def scene(kind: str, seed: int) -> tuple[Script, float, float]:
    """Make a scene of 8 s with one event; return it with the event's onset and offset."""
    onset = 1.0 + seed % 3
    offset = onset + 4.0
    return Script(seconds=8.0, cues=(Cue(kind=kind, sound=(onset, offset), picture=(onset, offset)),), seed=seed), onset, offset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    lines = ["file,label,onset_s,offset_s"]
    for shift, (label, kind) in enumerate(CLASSES.items()):
        for number in range(CLIPS):
            script, onset, offset = scene(kind, 100 * shift + number)
            write_scene(place / f"{label}{number}.mp4", script)
            lines.append(f"{label}{number}.mp4,{label},{onset},{offset}")
    (place / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def features(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "out"
    result = invoke(extract, "--media", folder, "--out", out, "--threads", 1, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["failed"] == {}
    return out


def test_labels_are_added_to_a_model_that_keeps_its_own(folder: Path, tmp_path: Path) -> None:
    """One command writes a model that finds the new labels in new clips, and gives the labels of the starter the scores of before."""
    few = tmp_path / "few"
    few.mkdir()
    lines = ["file,label,onset_s,offset_s"]
    for shift, (label, kind) in enumerate(CLASSES.items()):
        for number in range(3):
            _, onset, offset = scene(kind, 100 * shift + number)
            shutil.copy(folder / f"{label}{number}.mp4", few)
            lines.append(f"{label}{number}.mp4,{label},{onset},{offset}" if number else f"{label}{number}.mp4,{label},,")
    (few / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "mine"
    result = invoke(train, "--data", few, "--out", out, "--predictions", tmp_path / "held-out.csv")
    assert result.exit_code == 0, result.output
    assert "verdict: better than background" in result.output
    said = read_predictions(tmp_path / "held-out.csv")
    assert said.labels == tuple(CLASSES)
    assert f"{(said.truth == said.decided).mean():.1%} of the seconds are right" in result.output
    starter, mine = find_bundle("starter"), load_bundle(out)
    assert mine.card.slugs == (*starter.card.slugs, *CLASSES)
    again = invoke(train, "--data", tmp_path / "mine.features", "--out", tmp_path / "again", "--json")
    assert again.exit_code == 0, again.output
    assert [label["slug"] for label in json.loads(again.stdout)["labels"]] == [*CLASSES]
    assert load_bundle(tmp_path / "again").card.classes == mine.card.classes
    settings = ModelSettings(name="starter", threads=1)
    for label, kind in CLASSES.items():
        script, onset, _ = scene(kind, 50 + len(label))
        write_scene(tmp_path / f"{label}.mp4", script)
        spans = found_by_run(tmp_path / f"{label}.mp4", out, DetectionSettings()).spans
        assert any(span.label == label and abs(span.onset_s - onset) <= 2.0 for span in spans), spans
        scores = [OfflineRun(one, settings, "segment", 2).scores(str(tmp_path / f"{label}.mp4")) for one in (starter, mine)]
        # Each model has its own engine, and two builds of one network may differ in the last bits; tests/unit/test_own_labels.py holds
        # that the formula itself changes no bit.
        np.testing.assert_allclose(scores[0][:, :24], scores[1][:, :24], rtol=1e-4, atol=1e-6)


def test_options_of_the_localizer_are_refused_with_the_way_to_it(folder: Path, tmp_path: Path) -> None:
    """Labels on top train no network, so --epochs would do nothing: the error names --localizer-only."""
    result = invoke(train, "--data", folder, "--out", tmp_path / "mine", "--epochs", 5)
    assert isinstance(result.exception, SettingsError)
    assert "--localizer-only" in str(result.exception)


def test_from_a_folder_of_clips_to_a_localizer_that_runs(folder: Path, tmp_path: Path) -> None:
    """One command writes a bundle with its encoders inside; the model finds class and time of the event in new clips."""
    out = tmp_path / "mine"
    result = invoke(train, "--data", folder, "--encoders", "starter", "--out", out, "--localizer-only", "--epochs", 60, "--batch", 8)
    assert result.exit_code == 0, result.output
    bundle, starter = load_bundle(out), find_bundle("starter")
    assert bundle.card.slugs == ("my_alarm", "my_clock")
    for part in ("audio", "visual"):
        mine, theirs = bundle.weights(part), starter.weights(part)
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert bundle.card.training_data[0].name == "own clips"
    assert (out / "report" / "report.json").is_file()
    assert not (tmp_path / "mine.training").exists()
    for label, kind in CLASSES.items():
        script, onset, offset = scene(kind, 50 + len(label))
        write_scene(tmp_path / f"{label}.mp4", script)
        spans = found_by_run(tmp_path / f"{label}.mp4", out, DetectionSettings()).spans
        assert [span.label for span in spans] == [label], spans
        assert abs(spans[0].onset_s - onset) <= 1.0
        assert abs(spans[0].offset_s - offset) <= 2.0


def test_features_that_are_there_are_trained_on(features: Path, tmp_path: Path) -> None:
    """`train` takes the folder of `streamav extract` like the clips themselves; options that own clips do not allow are refused.

    With --json, standard output is one object with the scores and the verdict.
    """
    result = invoke(train, "--data", features, "--out", tmp_path / "mine", "--localizer-only", "--epochs", 2, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["trained"][0]["seeds"] == [0]
    assert 0.0 <= told["trained"][0]["test"]["accuracy"]["mean"] <= 1.0
    assert told["verdict"].startswith("verdict: ")
    assert load_bundle(tmp_path / "mine").card.slugs == ("my_alarm", "my_clock")
    refused = invoke(train, "--data", features, "--out", tmp_path / "other", "--localizer-only", "--supervision", "weakly")
    assert isinstance(refused.exception, SettingsError)


def test_thresholds_are_not_taken_from_streams_where_nothing_was_found(folder: Path, tmp_path: Path) -> None:
    """If validation has no event, the missing classes are named, and the model keeps the default thresholds and reports this."""
    own = tmp_path / "clips"
    own.mkdir()
    lines = ["file,label,onset_s,offset_s,split"]
    for label in CLASSES:
        lines += [f"{label}{number}.mp4,{label},1,4,{split}" for number, split in enumerate(("train", "train", "test"))]
        lines.append(f"{label}3.mp4,none,,,val")
        for number in range(4):
            shutil.copy(folder / f"{label}{number}.mp4", own)
    (own / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = tmp_path / "mine"
    result = invoke(train, "--data", own, "--out", out, "--localizer-only", "--epochs", 1, "--tensorboard", tmp_path / "curves")
    assert result.exit_code == 0, result.output
    assert "the validation part holds no event of my_alarm, my_clock" in result.output
    assert "no thresholds find an event on the validation streams" in result.output
    assert load_bundle(out).card.detection == UNTUNED
    assert list((tmp_path / "curves" / "seed-0").glob("events.out.tfevents.*"))


def test_one_of_two_kinds_of_labels_is_needed(folder: Path, tmp_path: Path) -> None:
    """No labels and two kinds of labels are refused; a table with a mistake raises DataError."""
    (tmp_path / "media").mkdir()
    assert isinstance(invoke(extract, "--media", tmp_path / "media", "--out", tmp_path / "out").exception, SettingsError)
    both = invoke(extract, "--media", folder, "--out", tmp_path, "--labels", folder / "labels.csv", "--annotations", folder / "labels.csv")
    assert isinstance(both.exception, SettingsError)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("file,label,onset_s,offset_s\nmy_alarm0.mp4,my_alarm,5,1\n", encoding="utf-8")
    assert isinstance(invoke(extract, "--media", folder, "--out", tmp_path / "out", "--labels", wrong).exception, DataError)


@pytest.mark.filterwarnings("ignore")  # of Ray's own modules and sockets
def test_ray_gives_the_same_features(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local Ray gives the same numbers as this process, bit for bit, and the same message for a file that cannot be read."""
    if not os.environ.get("CI") and importlib.util.find_spec("ray") is None:  # in CI it must be there
        pytest.skip("the extra ray is not installed")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # with Ray's default of 15, its processes get no time on a busy machine
    table = (folder / "labels.csv").read_text(encoding="utf-8")
    (folder / "bad.mp4").write_bytes(b"no media")
    (folder / "worse.csv").write_text(table + "bad.mp4,none,,\n", encoding="utf-8")
    result = invoke(
        extract, "--media", folder, "--out", tmp_path / "out", "--threads", 1, "--labels", folder / "worse.csv", "--ray", "local", "--skip"
    )
    assert result.exit_code == 0, result.output
    assert not import_module("ray").is_initialized()
    alone = invoke(extract, "--media", folder, "--out", tmp_path / "alone", "--threads", 1, "--labels", folder / "worse.csv", "--skip")
    told = [line for line in result.output.splitlines() if line.startswith("bad.mp4: row ")]
    assert len(told) == 1
    assert told == [line for line in alone.output.splitlines() if line.startswith("bad.mp4: row ")]
    for name in ("audio_feature.h5", "visual_feature.h5", "right_labels.h5"):
        with h5py.File(tmp_path / "out" / name) as one, h5py.File(tmp_path / "alone" / name) as other:
            np.testing.assert_array_equal(one["avadataset"][()], other["avadataset"][()])
    assert json.loads((tmp_path / "out" / "extraction.json").read_text(encoding="utf-8"))["model"] == "starter"


def test_without_ray_the_message_says_what_to_install(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ray, the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    result = invoke(extract, "--media", folder, "--out", tmp_path / "out", "--ray", "local")
    assert isinstance(result.exception, MissingExtraError)
    assert "streamav[ray]" in str(result.exception)
