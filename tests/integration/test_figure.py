"""Tests of `streamav figure`: networks trained here, drawn over a real file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rigs.browser_clip import write_playable

from streamav.bundle import load_bundle
from streamav.cli import main
from streamav.errors import ModelError
from streamav.networks.baselines import BaselineOptions, make_baseline
from streamav.training.experiments.figures import Looked, look
from streamav.training.experiments.kept_network import keep_network, load_network

pytestmark = pytest.mark.slow
CLASSES = ("bark", "bell", "train")


@pytest.fixture
def options(tiny_bundle: Path) -> BaselineOptions:
    """Return a small AVEL for the features of the tiny model."""
    card = load_bundle(tiny_bundle).card
    return BaselineOptions(
        network="avel", audio_size=card.audio.size, visual_size=card.visual.size, grid=card.visual.grid, classes=len(CLASSES), hidden=8
    )


@pytest.fixture
def baseline(tmp_path: Path, options: BaselineOptions) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "avel"
    folder.mkdir()
    keep_network(folder, make_baseline(options), options, CLASSES)
    return folder


def test_a_kept_network_is_the_same_network(baseline: Path, options: BaselineOptions) -> None:
    """What was kept gives the same attention and decisions; a folder with another file is refused, and nothing is unpickled."""
    network, kept, classes = load_network(baseline)
    assert (kept, classes) == (options, CLASSES)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    features = (
        random.random((10, options.audio_size)).astype(np.float32),
        random.random((10, options.grid, options.grid, options.visual_size)).astype(np.float32),
    )
    first, second = (look("x", one.eval(), features, ("argmax29", 0.5), classes) for one in (network, make_baseline(options)))
    assert isinstance(first, Looked)
    np.testing.assert_allclose(first.attention, second.attention, rtol=1e-5)
    assert first.decided == second.decided
    np.testing.assert_allclose(first.attention.sum(axis=(1, 2)), 1.0, rtol=1e-4)
    (baseline / "network.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="must hold a baseline"):
        load_network(baseline)


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_networks_are_drawn_side_by_side(
    tmp_path: Path, baseline: Path, tiny_bundle: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A baseline and a bundle over ten seconds of a file with its truth give one figure of the kind that was asked for."""
    write_playable(tmp_path / "clip.mp4", 12)
    (tmp_path / "labels.csv").write_text("file,class_slug,onset_s,offset_s\nclip.mp4,bark,2,6\n")
    out = tmp_path / f"figure{suffix}"
    networks = ["--network", f"AVEL={baseline}", "--network", f"VSCG={tiny_bundle}"]
    assert main(["figure", str(tmp_path / "clip.mp4"), *networks, "--encoders", str(tiny_bundle), "--start", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_bytes()[:4] == {".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix]


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({"--out": "figure.txt"}, 2, "must end in"),
        ({"--network": "runs/avel"}, 2, "NAME=FOLDER"),
        ({"--start": "9"}, 7, "at least 19 s"),
        ({"--network": "AVEL={missing}"}, 4, "missing"),
        ({"--encoders": "starter"}, 7, "name its encoders"),
    ],
)
def test_wrong_calls_say_what_to_do(
    tmp_path: Path, baseline: Path, tiny_bundle: Path, changed: dict[str, str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A suffix, a network, a start, a folder or encoders that do not fit are refused with the remedy."""
    write_playable(tmp_path / "clip.mp4", 11)
    options = {"--network": f"AVEL={baseline}", "--encoders": str(tiny_bundle), "--out": "figure.png"}
    options |= {key: value.format(missing=tmp_path / "missing") for key, value in changed.items()}
    options["--out"] = str(tmp_path / options["--out"])
    assert main(["figure", str(tmp_path / "clip.mp4"), *(part for pair in options.items() for part in pair)]) == code
    assert says in capsys.readouterr().err


def test_a_folder_without_a_network_is_told(tmp_path: Path) -> None:
    """The loader of a folder without a baseline says which command writes one."""
    with pytest.raises(ModelError, match="streamav train --network avel"):
        load_network(tmp_path)
