"""Tests of loading the authors' checkpoints into our network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from rigs.authors_networks import authors_network
from typer.testing import CliRunner

from streamav.bundle import AVE_CLASSES, load_bundle
from streamav.cli.models import app
from streamav.engines.modules import build_localizer
from streamav.errors import ModelError
from streamav.networks.files.checkpoint import load_reference, read_reference
from streamav.networks.options import VSCGOptions

if TYPE_CHECKING:
    from streamav.networks.options import Supervision
    from streamav.networks.vscg import VSCGOutput

VARIANTS = pytest.mark.parametrize("supervision", ["fully", "weakly"])


def save_network(supervision: str, path: Path, *, whole: bool = True, zipped: bool = True) -> Path:
    with authors_network(supervision, name="GTM3") as network, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.save(network if whole else network.state_dict(), path, _use_new_zipfile_serialization=zipped)
    return path


def features(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(batch, 10, 128, generator=generator), torch.rand(batch, 10, 7, 7, 512, generator=generator)


@torch.inference_mode()
def run(model: torch.nn.Module) -> VSCGOutput:
    output: VSCGOutput = model(*features())
    return output


@pytest.mark.slow
@VARIANTS
@pytest.mark.parametrize("whole", [True, False], ids=["module", "state_dict"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_every_form_gives_the_same_network(tmp_path: Path, supervision: Supervision, whole: bool, zipped: bool) -> None:
    """From a whole module or a state_dict, in either format, the variant is recognised and the outputs have the right shapes."""
    model = load_reference(save_network(supervision, tmp_path / "x.pt", whole=whole, zipped=zipped), supervision)
    assert model.options == VSCGOptions.reference(supervision)
    assert not model.training
    output = run(model)
    shapes: dict[str, tuple[int, ...]]
    if supervision == "fully":
        shapes = {"relevance_logits": (2, 10), "class_logits": (2, 28), "similarity": (2, 10)}
    else:
        shapes = {"video_probabilities": (2, 29), "segment_scores": (2, 10, 29)}
    assert {name: tuple(getattr(output, name).shape) for name in shapes} == shapes


def test_audio_means_audio(tmp_path: Path) -> None:
    """The audio input goes through the authors' audio front (fa): when its weights are zero, sound has no effect."""
    path = save_network("fully", tmp_path / "x.pt")
    _, state = read_reference(path)
    silent = {name: torch.zeros_like(tensor) if name.startswith("fa.") else tensor for name, tensor in state.items()}
    torch.save(silent, tmp_path / "silent.pt")
    model, deaf = load_reference(path), load_reference(tmp_path / "silent.pt")
    audio, visual = features()
    with torch.inference_mode():
        heard = model(audio, visual).relevance_logits - model(torch.zeros_like(audio), visual).relevance_logits
        unheard = deaf(audio, visual).relevance_logits - deaf(torch.zeros_like(audio), visual).relevance_logits
    assert heard.abs().max() > 0
    assert unheard.abs().max() == 0


def test_the_wrong_variant_is_an_error(tmp_path: Path) -> None:
    """When the weakly supervised network is required and the file holds the other, the error names both."""
    with pytest.raises(ModelError, match=r"weakly .* fully"):
        load_reference(save_network("fully", tmp_path / "x.pt"), "weakly")


@pytest.mark.parametrize("wrong", ["another network", "a shape", "not finite", "whole numbers", "a tensor missing", "views without end"])
def test_wrong_tensors_are_an_error(tmp_path: Path, wrong: str) -> None:
    """Tensors that do not belong to the authors' networks are refused, and the error names them."""
    _, state = read_reference(save_network("fully", tmp_path / "x.pt", whole=False))
    match wrong:
        case "another network":
            state = {"conv.weight": torch.ones(3)}
        case "a shape":
            state["L4.weight"] = torch.ones(27, 256)
        case "not finite":
            state["L4.weight"][0, 0] = float("nan")
        case "whole numbers":
            state["L4.weight"] = torch.ones(28, 256, dtype=torch.int64)
        case "views without end":
            state |= {f"x{n}": state["psp.v_L1.weight"] for n in range(400)}
        case "a tensor missing":
            del state["L4.weight"]
    torch.save(state, tmp_path / "y.pt")
    with pytest.raises(ModelError):
        load_reference(tmp_path / "y.pt")


@VARIANTS
def test_import_writes_a_bundle_that_gives_the_same_outputs(tmp_path: Path, supervision: Supervision) -> None:
    """`streamav models import` writes a paper bundle whose localizer has exactly the scores of the checkpoint's network."""
    path = save_network(supervision, tmp_path / "x.pt")
    result = CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "Authors 1")], catch_exceptions=False)
    assert result.exit_code == 0
    bundle = load_bundle(tmp_path / "Authors 1")
    assert (bundle.card.profile, bundle.card.name, bundle.card.classes) == ("paper", "authors-1", AVE_CLASSES)
    assert VSCGOptions.from_dict(bundle.card.localizer.options) == VSCGOptions.reference(supervision)
    got, want = run(build_localizer(bundle).eval()), run(load_reference(path))
    for name in ("relevance_logits", "class_logits", "video_probabilities", "segment_logits", "similarity"):
        if getattr(want, name) is not None:
            assert np.array_equal(getattr(got, name), getattr(want, name))


def test_a_refused_import_leaves_nothing(tmp_path: Path) -> None:
    """A hostile file leaves no bundle and no temporary folder, and the exit code is that of model errors."""
    hostile = tmp_path / "x.pt"
    hostile.write_bytes(b"cos\nsystem\n(S'touch was_run'\ntR.")
    result = CliRunner().invoke(app, ["import", str(hostile), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ModelError)
    assert result.exception.exit_code == 4
    assert list(tmp_path.iterdir()) == [hostile]
    assert not Path("was_run").exists()
