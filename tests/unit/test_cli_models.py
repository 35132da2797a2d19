"""Tests of the output of `streamav models`, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from streamav.bundle import AVE_CLASSES, DetectionCard, LocalizerCard, ModelCard, models_folder, write_bundle
from streamav.bundle.paper import imported_card, paper_networks
from streamav.cli.models import app
from streamav.errors import ModelError, SettingsError
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG

if TYPE_CHECKING:
    from typer.testing import Result

OPTIONS = {"hidden": 8, "attention_size": 8, "front_size": 8, "head_size": 4}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder with one bundle called mine, whose encoders are missing."""
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    audio, visual = paper_networks()
    card = ModelCard(
        name="mine",
        version="3",
        profile="custom",
        classes=AVE_CLASSES,
        audio=audio,
        visual=visual,
        localizer=LocalizerCard(options=dict(OPTIONS)),
        detection=DetectionCard(on=0.6, off=0.4),
        licence_note="free",
    )
    state = VSCG(VSCGOptions.from_dict(OPTIONS)).state_dict()
    write_bundle(models_folder() / "mine", card, {f"localizer.{name}": tensor.numpy() for name, tensor in state.items()})
    return tmp_path


def test_list_shows_whole_and_damaged_models(home: Path) -> None:
    """`list` shows every model of the package and of the user, a damaged one with its error."""
    (home / "models" / "broken").mkdir()
    (home / "models" / "broken" / "model.json").write_text("{")
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["mine"] | {"path": ""} == {
        "name": "mine",
        "path": "",
        "profile": "custom",
        "version": "3",
        "classes": 28,
        "missing": ["vgg19", "vggish"],
        "error": None,
    }
    assert "JSON" in rows["broken"]["error"]
    assert "mine\tcustom\t3\t28\tvgg19 vggish" in run("list").stdout


def test_info_shows_the_card(home: Path) -> None:
    """`info` prints the card as JSON with path and hash, or as lines of at most 79 characters that begin with what the model is."""
    tree = json.loads(run("info", "mine", "--json").stdout)
    assert (tree["schema"], tree["name"], tree["path"]) == ("streamav.model/1", "mine", str(home / "models" / "mine"))
    lines = run("info", "mine").stdout.splitlines()
    assert lines[0] == "mine 3: 28 labels"
    assert lines[2].startswith("  labels      church_bell, male_speech")
    assert "streamav models pull mine" in " ".join(" ".join(lines[:10]).split())
    assert all(len(line) <= 79 or len(line.split()) <= 2 for line in lines)


def test_a_model_with_many_figures_stays_readable(home: Path) -> None:
    """Of ninety figures a dozen are shown, one a line, and the rest is counted; JSON has all."""
    path = home / "models" / "mine" / "model.json"
    tree = json.loads(path.read_text())
    tree["metrics"] = {"values": {f"figure_{number}": number / 100 for number in range(90)}, "command": "measured"}
    path.write_text(json.dumps(tree))
    text = run("info", "mine").stdout
    assert "and 78 more: streamav models info mine --json" in text
    assert text.count("figure ") == 12
    assert len(json.loads(run("info", "mine", "--json").stdout)["metrics"]["values"]) == 90


def test_export_needs_one_form(home: Path, tmp_path: Path) -> None:
    """Export without a form, with both, or over a folder that holds other files is refused before anything is computed."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("x")
    for arguments, says in (
        (["export", "mine"], "one of --out"),
        (["export", "mine", "--out", str(tmp_path / "a"), "--onnx", str(tmp_path / "b")], "got both"),
        (["export", "mine", "--onnx", str(tmp_path / "full")], "new or empty"),
        (["export", "mine", "--onnx", str(tmp_path / "full"), "--force"], "new or empty"),
        (["export", "mine", "--onnx", str(tmp_path / "no" / "folder")], "make"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, SettingsError), arguments
        assert says in str(error)
    assert (tmp_path / "full" / "precious.txt").exists()


def test_verify_looks_into_the_weights(home: Path) -> None:
    """`verify` exits with 0 for a complete model; weights with wrong shapes raise a ModelError."""
    result = run("verify", "mine")
    assert (result.exit_code, "mine is complete" in result.stdout) == (0, True)
    card = json.loads(run("info", "mine", "--json").stdout)
    other = ModelCard.model_validate(
        {**{key: card[key] for key in ModelCard.model_json_schema()["properties"]}, "localizer": {"options": {}}}
    )
    state = VSCG(VSCGOptions.from_dict(OPTIONS)).state_dict()
    write_bundle(home / "other", other, {f"localizer.{name}": tensor.numpy() for name, tensor in state.items()})
    result = run("verify", str(home / "other"))
    assert isinstance(result.exception, ModelError)
    assert "shape" in str(result.exception)


def test_export_copies(home: Path, tmp_path: Path) -> None:
    """`export` writes a complete bundle; a second export needs --force."""
    assert run("export", "mine", "--out", str(tmp_path / "copy")).exit_code == 0
    assert run("verify", str(tmp_path / "copy")).exit_code == 0
    assert isinstance(run("export", "mine", "--out", str(tmp_path / "copy")).exception, ModelError)
    assert run("export", "mine", "--out", str(tmp_path / "copy"), "--force").exit_code == 0


@pytest.mark.parametrize("arguments", [("info", "nothing"), ("pull", "nothing"), ("verify", "/"), ("pull", "paper", "--from", "x.h5")])
def test_wrong_names_are_model_errors(home: Path, arguments: tuple[str, ...]) -> None:
    """An unknown model exits with 4 and lists the existing models."""
    error = run(*arguments).exception
    assert isinstance(error, ModelError)
    assert error.exit_code == 4


def test_paper_thresholds_follow_the_network() -> None:
    """An imported fully supervised network gets the paper's threshold 0.7, and its card survives writing and reading."""
    card = imported_card("x", {"supervision": "fully", "classes": 28}, "0" * 64)
    assert card.detection.on == 0.7
    assert np.isclose(imported_card("x", {"supervision": "weakly"}, "0" * 64).detection.on, 0.5)
