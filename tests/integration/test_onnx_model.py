"""Tests of `streamav models export --onnx`: the files give the numbers of torch, and the example runs them with ONNX Runtime alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rigs.evidence_arrays import arrays
from rigs.own_clips import BASE, SLUGS, clip, reference_of

from streamav.bundle import find_bundle
from streamav.cli import main
from streamav.config import ModelSettings
from streamav.engines import open_engine
from streamav.evidence import LabelEvidence, evidence_of, model_evidence
from streamav.export.modules import Evidence, LogMel, Motion
from streamav.features import SegmentExtractor
from streamav.features.logmel import LogMelOptions, log_mel
from streamav.features.motion import motion_of
from streamav.localizer import VscgLocalizer
from streamav.training.clips.own_labels import learn, with_own_labels
from streamav.types import SEGMENT_NS, Segment, Window

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_runtime.py"


def test_the_front_end_is_that_of_a_run() -> None:
    """The exported log-mel front end gives the patches of a run: on noise, a tone, silence and full scale, also 40 dB below."""
    random = np.random.default_rng(0)
    time = np.arange(16_000) / 16_000
    sounds = np.stack(
        [random.normal(0, 0.1, 16_000), np.sin(2 * np.pi * 440 * time), np.zeros(16_000), np.sign(np.sin(2 * np.pi * 90 * time))]
    )
    sounds = np.concatenate([sounds, 0.01 * sounds])
    for options in (LogMelOptions(offset=0.01), LogMelOptions(offset=0.001), LogMelOptions(offset=0.001, least_dbfs=-25.0)):
        with torch.inference_mode():
            made = LogMel(options)(torch.tensor(sounds, dtype=torch.float32)).numpy()
        wanted = np.stack([log_mel(one.astype(np.float32), options) for one in sounds])
        np.testing.assert_allclose(made, wanted, atol=2e-3)


@pytest.mark.parametrize("size", [(28, 28), (112, 112), (60, 91)])
def test_the_motion_is_that_of_a_run(size: tuple[int, int]) -> None:
    """The exported motion is the motion of a run, also of pictures that 28 does not divide."""
    random = np.random.default_rng(3)
    pictures = random.integers(0, 255, (3, 4, *size, 3), dtype=np.uint8)
    pictures[1, 1:, : size[0] // 2] = pictures[1, :1, : size[0] // 2]  # half of it stands still
    pictures[2] = pictures[2, :1]
    with torch.inference_mode():
        made = Motion(size)(torch.tensor(pictures)).numpy()
    np.testing.assert_allclose(made, [motion_of(one) for one in pictures], atol=1e-4)


@pytest.mark.parametrize("name", ["starter", "edge"])
def test_the_evidence_is_that_of_a_run(name: str) -> None:
    """The exported evidence gives the probabilities of `streamav.evidence` on any class scores, grids and network answers."""
    bundle = find_bundle(name)
    evidence = evidence_of(bundle)
    assert evidence is not None
    assert bundle.card.evidence is not None
    assert bundle.card.evidence.heard_and_seen > 0.0
    _check_evidence(evidence, bundle.card.visual.size, len(bundle.card.classes))


def test_the_evidence_of_own_labels_is_that_of_a_run() -> None:
    """Corrections that were learned from clips, and a label of the model that an own one replaced, are in the exported evidence."""
    given = reference_of(arrays())
    card, added = with_own_labels(BASE, given, learn([clip(n, SLUGS[n % 2]) for n in range(6)], SLUGS, BASE, given))
    assert card.evidence is not None
    assert card.evidence.replaced
    _check_evidence(model_evidence(card.classes, card.evidence, given | added), given["probes.weight"].shape[1], len(BASE.classes))


def _check_evidence(evidence: LabelEvidence, size: int, classes: int) -> None:
    random = np.random.default_rng(1)
    heard, seen = random.random((2, 10, 521)).astype(np.float32) ** 4, random.dirichlet(np.full(1000, 0.01), (2, 10)).astype(np.float32)
    grid = random.normal(0, 1, (2, 10, 7, 7, size)).astype(np.float32)
    logits = random.normal(0, 4, (2, 10, classes + 1)).astype(np.float32)
    powers = np.exp(logits)
    motion = random.normal(0, 0.5, (2, 10)).astype(np.float32)
    windows = [[evidence.sensed_in(heard[b, t], seen[b, t], grid[b, t], motion[b, t]) for t in range(10)] for b in range(2)]
    wanted = evidence.together(windows, powers / powers.sum(axis=-1, keepdims=True))
    with torch.inference_mode():
        made = Evidence(evidence, 521, 1000)(*(torch.tensor(one) for one in (heard, seen, grid, motion, logits))).numpy()
    np.testing.assert_allclose(made, wanted, atol=2e-4)


def test_the_example_gives_the_answers_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example names each second as streamav does, with the same probability, and imports neither torch nor streamav."""
    assert main(["models", "export", "starter", "--onnx", str(tmp_path / "onnx")]) == 0
    said = capsys.readouterr().out
    assert float(re.findall(r"error against torch (\S+);", said)[0]) < 1e-4
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == {
        "README.md", "audio.onnx", "encode_segment.onnx", "evidence.onnx", "localize_window.onnx", "log_mel.onnx", "model.json",
        "motion.onnx", "visual.onnx",
    }  # fmt: skip
    random = np.random.default_rng(2)
    time = np.arange(16_000) / 16_000
    sound = np.stack([0.4 * np.sin(2 * np.pi * (600 + 400 * np.sin(6 * time)) * time) + random.normal(0, 0.01, 16_000) for _ in range(10)])
    pictures = random.integers(0, 255, (10, 4, 112, 112, 3), dtype=np.uint8)
    np.save(tmp_path / "sound.npy", sound.astype(np.float32))
    np.save(tmp_path / "pictures.npy", pictures)
    alone = "import sys, runpy; sys.modules['torch'] = sys.modules['streamav'] = None; sys.argv.pop(0); runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-c", alone, *map(str, (EXAMPLE, tmp_path / "onnx", tmp_path / "sound.npy", tmp_path / "pictures.npy"))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    bundle = find_bundle("starter")
    engine = open_engine(bundle, ModelSettings(name="starter", engine="torch"))
    segments = [Segment(index=k, start_ns=k * SEGMENT_NS, audio=sound[k].astype(np.float32), frames=pictures[k]) for k in range(10)]
    window = Window(segments=tuple(SegmentExtractor(engine, bundle.card).extract(segments)))
    (scores,) = VscgLocalizer(engine, "segment", evidence_of(bundle)).localize([window])
    names = [*(entry.name for entry in bundle.card.classes), "background"]
    for k, (line, row) in enumerate(zip(lines, scores.class_probabilities, strict=True)):
        assert line == f"{k} s  {names[row.argmax()]:<24} {row.max():.2f}"


def test_a_model_without_evidence_is_exported(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model whose network alone decides has no evidence.onnx, its description says so, and --force replaces an earlier export."""
    for options in ([], ["--force"]):
        assert main(["models", "export", str(tiny_bundle), "--onnx", str(tmp_path / "onnx"), *options]) == 0
    assert not (tmp_path / "onnx" / "evidence.onnx").exists()
    capsys.readouterr()
    assert main(["models", "export", str(tiny_bundle), "--onnx", str(tmp_path / "onnx"), "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["file"] for one in told["files"]} == {file.name for file in (tmp_path / "onnx").glob("*.onnx")}
    assert "the softmax of segment_logits" in (tmp_path / "onnx" / "README.md").read_text()
    assert main(["models", "export", str(tiny_bundle), "--onnx", str(tmp_path / "onnx")]) == 2
    assert "--force" in capsys.readouterr().err
