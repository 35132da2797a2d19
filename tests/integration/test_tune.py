"""Tests of `streamav tune --quiet`: whole programs over recordings made here, and a live run with the files they write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rigs.found_spans import found_by_run
from rigs.noise_clips import write_noise

from streamav import app
from streamav.bundle import load_bundle
from streamav.bundle.store import copy_bundle
from streamav.cli import main
from streamav.config import DetectionSettings, ModelSettings
from streamav.config_loading import load_settings
from streamav.evaluation.counting import said_events
from streamav.evaluation.tuning.quiet import STRICTEST
from streamav.offline import OfflineRun, find_recordings
from streamav.thresholds import PartialThresholds

pytestmark = pytest.mark.slow  # loads real networks


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two recordings, one shorter than a window, and a file that is no recording."""
    folder = tmp_path_factory.mktemp("quiet")
    write_noise(folder / "long.mkv", 25)
    write_noise(folder / "short.mkv", 6, seed=1)
    (folder / "notes.txt").write_text("nothing happened", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tiny_bundle: Path, quiet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model with thresholds in the middle of its scores on the recordings, so that its first class gives alarms."""
    bundle = load_bundle(tiny_bundle)
    scores = OfflineRun(bundle, ModelSettings(name=str(tiny_bundle)), "segment", 1).scores(str(quiet / "long.mkv"))
    low, high = (float(value) for value in np.quantile(scores[:, 0], [0.3, 0.6]))
    classes = {"bark": PartialThresholds(on=round(high, 4), off=round(low, 4), gap_segments=0)}
    detection = bundle.card.detection.model_copy(update={"classes": classes, "on": 0.999, "off": 0.999})
    out = tmp_path_factory.mktemp("model") / "noisy"
    copy_bundle(bundle, out, card=bundle.card.model_copy(update={"detection": detection}))
    return out


@pytest.mark.parametrize(("name", "latency"), [("long.mkv", 1), ("long.mkv", 4), ("short.mkv", 1)])
def test_the_scores_are_those_that_a_run_makes_events_of(quiet: Path, model: Path, name: str, latency: int) -> None:
    """The confirmed events of `streamav run` on the same file, at the same latency, are the events of the scores."""
    bundle = load_bundle(model)
    scores = OfflineRun(bundle, ModelSettings(name=str(model)), "segment", latency).scores(str(quiet / name))
    events = said_events(scores, bundle.card.thresholds())
    spans = found_by_run(quiet / name, model, DetectionSettings(latency_segments=latency)).spans
    assert [(span.label, span.onset_s, span.offset_s) for span in spans] == [
        (bundle.card.slugs[event.label], event.start, event.end) for event in events
    ]


@pytest.mark.parametrize("latency", [None, 3, 10])
def test_the_latency_of_tune_is_that_of_run(quiet: Path, model: Path, tmp_path: Path, latency: int | None) -> None:
    """--latency L is written as latency_segments = L, as `run --latency L` sets it; without it the model's latency stays."""
    config = tmp_path / "tuned.toml"
    asked = [] if latency is None else ["--latency", str(latency)]
    arguments = ["--quiet", str(quiet / "short.mkv"), "--model", str(model), "--alarms-per-hour", "3600", "--config", str(config)]
    assert main(["tune", *arguments, *asked]) == 0
    detection = load_settings(config, environment={}).detection
    assert detection.latency_segments == (latency or load_bundle(model).card.detection.latency_segments)


def test_what_tune_writes_silences_a_run(quiet: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bundle and configuration both raise the threshold of a run, which then reports no event; the weights do not change."""
    assert found_by_run(quiet / "long.mkv", model, DetectionSettings()).spans
    out, config, picture = tmp_path / "tuned", tmp_path / "quiet.toml", tmp_path / "curve.png"
    places = ["--out", str(out), "--config", str(config), "--curve", str(picture)]
    assert main(["tune", "--quiet", str(quiet), "--model", str(model), "--alarms-per-hour", "1", "--json", *places]) == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures["alarms_before"] > figures["alarms"] == 0
    assert figures["hours"] == pytest.approx(31 / 3600)
    assert figures["upper_95_per_hour"] == pytest.approx(3.0 / figures["hours"], rel=0.01)
    assert list(figures["raised"]) == ["bark"]
    assert figures["curve"][0]["alarms_per_hour"] == 0.0
    assert any("rule of three" in remark for remark in figures["remarks"])
    assert picture.read_bytes().startswith(b"\x89PNG")

    assert main(["config", "check", "--quiet", str(config)]) == 0
    settings, tuned = load_settings(config, environment={}), load_bundle(out)
    on = figures["raised"]["bark"]["to"]
    assert on <= STRICTEST
    assert tuned.sha256 == load_bundle(model).sha256
    assert settings.model.name == str(model)
    assert app.label_options(tuned.card, DetectionSettings()) == app.label_options(load_bundle(model).card, settings.detection)
    assert app.label_options(tuned.card, DetectionSettings())[0].thresholds.on == on
    assert not found_by_run(quiet / "long.mkv", out, DetectionSettings()).spans

    events = tmp_path / "events.jsonl"
    source = ["--source", str(quiet / "long.mkv"), "--speed", "max", "--jsonl", str(events)]
    assert main(["run", "--config", str(config), *source]) == 0
    lines = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if line.get("confirmed")]


def test_the_table_for_people_says_how_sure_it_is(quiet: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the output holds settings, curve, and the sentences about hours and the rule of three."""
    assert main(["tune", "--quiet", str(quiet / "long.mkv"), "--model", str(model), "--class", "bark"]) == 0
    said = capsys.readouterr().out
    assert "results for each budget" in said
    assert "bark" in said
    assert "too short to measure a rate below 144 per hour" in said.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("", 2, "--data"),
        ("--quiet GIVEN --data GIVEN", 2, "tune twice"),
        ("--quiet GIVEN/empty", 7, "at least one recording"),
        ("--quiet rtsp://camera/1", 7, "record it first"),
        ("--quiet GIVEN/missing.mkv", 3, "missing.mkv"),
        ("--quiet GIVEN/broken.mkv", 3, "broken.mkv"),
        ("--quiet GIVEN --class brak", 2, "nearest is bark"),
        ("--quiet GIVEN --alarms-per-hour inf", 2, "at least 0"),
        ("--quiet GIVEN --config GIVEN", 2, "--config must be a new file"),
        ("--quiet GIVEN --curve GIVEN/no/curve.png", 2, "--curve must be a file in an existing folder"),
        ("--quiet GIVEN --model nothing", 4, "the name of a bundle"),
    ],
)
def test_what_is_wrong_ends_with_its_own_status(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, status: int, words: str
) -> None:
    """Each mistake gives one sentence and the documented exit code, and nothing is written."""
    folder, out = tmp_path / "given", tmp_path / "out"
    (folder / "empty").mkdir(parents=True)
    (folder / "broken.mkv").write_bytes(b"no video" * 100)
    given = arguments.replace("GIVEN", str(folder)).split()
    assert main(["tune", "--model", str(model), *given, "--out", str(out)]) == status
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_a_budget_that_nothing_keeps_ends_with_7(quiet: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When the class that gives alarms may not be raised, the error names it and no configuration is written."""
    config = tmp_path / "x.toml"
    assert main(["tune", "--quiet", str(quiet), "--model", str(model), "--class", "siren", "--config", str(config)]) == 7
    assert "remaining alarms: bark" in capsys.readouterr().err
    assert not config.exists()


def test_recordings_of_a_folder_come_sorted_and_once(quiet: Path) -> None:
    """A folder gives its media files in order; a file named twice is used once."""
    names = [str(quiet / "long.mkv"), str(quiet / "short.mkv")]
    assert find_recordings([str(quiet), names[0]]) == names
