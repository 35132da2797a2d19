"""Tests of `streamav recordings`: whole programs over recordings made here, and the same events as a live run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rigs.found_spans import found_by_run
from rigs.noise_clips import write_noise

from streamav.bundle import Bundle, load_bundle
from streamav.bundle.store import copy_bundle
from streamav.cli import main
from streamav.config import DetectionSettings, ModelSettings
from streamav.engines import open_engine
from streamav.evaluation.predictions import read_predictions
from streamav.protocols import Engine
from streamav.thresholds import PartialThresholds

pytestmark = pytest.mark.slow  # loads real networks


@pytest.fixture(scope="module")
def model(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model with thresholds below its scores, so that every label gives events."""
    bundle = load_bundle(tiny_bundle)
    detection = bundle.card.detection.model_copy(
        update={"on": 0.34, "off": 0.32, "classes": {"bark": PartialThresholds(on=0.3, off=0.2, gap_segments=0)}}
    )
    out = tmp_path_factory.mktemp("model") / "noisy"
    copy_bundle(bundle, out, card=bundle.card.model_copy(update={"detection": detection}))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two recordings, one shorter than a window, with labels; the model lacks one of them."""
    folder = tmp_path_factory.mktemp("recordings")
    write_noise(folder / "long.mkv", 14)
    write_noise(folder / "short.mkv", 6, seed=1)
    rows = ["long.mkv,bark,0,5,a note,one", "long.mkv,violin,6,9,,one", "short.mkv,none,,,voices off-screen,two"]
    (folder / "labels.csv").write_text("\n".join(["file,class_slug,onset_s,offset_s,notes,group", *rows]), encoding="utf-8")
    return folder


def test_the_events_are_those_of_run_and_one_engine_serves_all(
    folder: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each file and latency the events are those of `streamav run --speed max`, and the engine is opened once."""
    opened: list[str] = []

    def open_one(bundle: Bundle, settings: ModelSettings) -> Engine:
        opened.append(bundle.card.name)
        return open_engine(bundle, settings)

    monkeypatch.setattr("streamav.offline.open_engine", open_one)
    assert main(["recordings", str(folder), "--model", str(model), "--latency", "10,1,2", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert len(opened) == 1
    assert [answer["latency"] for answer in tree["answers"]] == [1, 2, 10]
    found = 0
    for answer in tree["answers"]:
        for file in answer["files"]:
            live = found_by_run(folder / file["file"], model, DetectionSettings(latency_segments=answer["latency"])).spans
            assert [(one["label"], one["onset_s"], one["offset_s"], one["score"]) for one in file["found"]] == [
                (span.label, span.onset_s, span.offset_s, span.score) for span in live
            ]
            found += len(live)
    assert found
    assert [file["seconds"] for file in tree["answers"][0]["files"]] == [14, 6]
    assert tree["left_out"] == {"violin": 1}
    assert [file["off_screen"] for file in tree["answers"][0]["files"]] == [False, True]


def test_a_folder_of_background_needs_no_labels(folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --background every event is a false alarm, told for each label; baselines without class scores are told to be left out."""
    assert main(["recordings", str(folder), "--model", str(model), "--background", "--baselines"]) == 0
    printed = capsys.readouterr()
    assert "2 recordings of 2 groups, 0.01 h, 0 with an event" in printed.out
    assert "| bark | 0 | - | - |" in printed.out
    assert "| always background | - | - | - | 0 |" in printed.out
    assert "do not score classes of their own" in printed.err


def test_damaged_recordings_are_named_before_the_model_runs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All damaged recordings are named at once, with exit code 3, and before a model is loaded: the model does not even exist."""
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / name).write_bytes(b"cut off")
    (tmp_path / "good.mkv").write_bytes((folder / "short.mkv").read_bytes())
    assert main(["recordings", str(tmp_path), "--model", str(tmp_path / "none"), "--background"]) == 3
    err = capsys.readouterr().err
    assert "a.mkv is not a media file" in err
    assert "b.mkv is not a media file" in err
    assert "good.mkv" not in err


def test_predictions_and_two_models_on_recordings(
    folder: Path, model: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--predictions holds every second with its whole truth, as many right as the report says; compare runs two models on the folder."""
    file = tmp_path / "p.csv"
    options = ["--model", str(model), "--engine", "torch"]
    assert main(["recordings", str(folder), *options, "--predictions", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    said = read_predictions(file)
    assert (said.clips, said.lengths.tolist(), said.groups) == (("long.mkv", "short.mkv"), [14, 6], ("one", "two"))
    assert said.labels == (*load_bundle(model).card.slugs, "violin")
    assert (said.truth[:5] == 0).all()
    assert (said.truth[6:9] == 3).all()
    assert said.probabilities is not None
    assert (said.probabilities[:, 3] == 0).all()
    known = said.truth != 3
    right = report["answers"][0]["seconds_right"]["part"]
    assert right - 3 <= ((said.truth == said.decided) & known).sum() <= right
    assert main(["compare", str(model), str(tiny_bundle), "--data", str(folder), "--engine", "torch", "--draws", "200", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["first"], tree["second"], tree["segments"]) == ("noisy", "tiny", 20)
