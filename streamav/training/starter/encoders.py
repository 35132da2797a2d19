"""Makes the starter's two encoders: renders their examples once, then trains each; existing results are not made again.

An encoder learns a teacher's features first and the class scores then. It holds the plan (number of examples, number of steps); other
modules render and train.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from safetensors.torch import load_file

from streamav import vocabulary
from streamav.bundle.catalogue import encoder_file
from streamav.training.composite.material import Material
from streamav.training.starter.degradation import noise_patches
from streamav.training.starter.distillation import train_audio, train_visual
from streamav.training.starter.picture_examples import PictureCounts, render_pictures
from streamav.training.starter.score_distillation import ScorePlan, teach_audio_scores, teach_visual_scores
from streamav.training.starter.score_examples import ScoredCounts, render_scored_pictures, render_scored_sounds
from streamav.training.starter.sound_examples import SegmentCounts, render_segments
from streamav.training.starter.student import Steps
from streamav.training.starter.teachers import audio_teacher, picture_scores, read_probes, sound_scores, visual_teacher
from streamav.vocabulary import class_names, find_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from streamav.training.composite.material import Split

__all__ = [
    "AUDIO_SIZE",
    "PARTS",
    "VISUAL_SIZE",
    "EncoderPlan",
    "ScoreTeachers",
    "held_encoders",
    "make_encoders",
    "score_teachers",
    "state_file",
    "teach_scores",
]

PARTS = ("audio", "visual")
_SEEDS = {"train": 1, "val": 2}
OWN_CLASSES = ("face", "helicopter", "mandolin", "fire")
"""Picture classes of the model itself, which labels may name beside ImageNet's; probes see them."""
AUDIO_SIZE, VISUAL_SIZE = 128, 256
"""A and V of the starter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPlan:
    """Number of examples and of training steps. The defaults took about 65 minutes on two cores with bfloat16 arithmetic."""

    pictures: PictureCounts = field(
        default_factory=lambda: PictureCounts(per_class=2300, most_per_photo=60, none=8000, mixed=16000, drawn=350)
    )
    pictures_val: PictureCounts = field(default_factory=lambda: PictureCounts(per_class=76, most_per_photo=4, none=200, mixed=0, drawn=0))
    seconds: SegmentCounts = field(default_factory=lambda: SegmentCounts(per_class=2300, none=8000, mixed=6000, drawn=500))
    seconds_val: SegmentCounts = field(default_factory=lambda: SegmentCounts(per_class=80, none=300, mixed=0, drawn=0))
    audio_steps: tuple[Steps, ...] = (Steps(4000),)
    visual_steps: tuple[Steps, ...] = (Steps(1500, 64), Steps(1500, 80), Steps(1900, 112))
    scored_pictures: ScoredCounts = field(default_factory=lambda: ScoredCounts(material=10000, further=20000))
    scored_seconds: ScoredCounts = field(default_factory=lambda: ScoredCounts(material=30000, further=20000))
    noises: int = 3000
    """Patches of noise that the student of scores hears, and its teacher does not."""
    audio_scores: ScorePlan = field(default_factory=lambda: ScorePlan(steps=6000, batch=96, rate=1.2e-3))
    visual_scores: ScorePlan = field(default_factory=lambda: ScorePlan(steps=6000))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTeachers:
    """What the encoders learn class scores from."""

    picture: Path | None = None
    """Weights of EfficientNet-Lite0; None for those in the teachers' folder or in an installed package."""
    probes: Path | None = None
    """Probes on the picture teacher's grid, see `teachers.read_probes`."""
    further: Path | None = None
    """Folder of further pictures and sounds, without labels."""
    hear: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """AudioSet indices of each label; these classes count more."""
    see: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """ImageNet indices of each label; the labels' evidence is made of them."""


def state_file(work: Path, part: str, *, scored: bool) -> Path:
    """Return the file of an encoder that knows the features only, or also the class scores."""
    return work / ("scores" if scored else "runs") / f"{part}.safetensors"


def score_teachers(probes: Path | None = None, further: Path | None = None) -> ScoreTeachers:
    """Return the teachers of class scores; the classes that count more are those of the labels by definition."""
    labels = tomllib.loads(resources.files(vocabulary).joinpath("labels.toml").read_text(encoding="utf-8"))
    hear = {slug: find_classes("hear", label["hear"]) for slug, label in labels.items()}
    imagenet = range(len(class_names("see")))
    see = {slug: [i for i in find_classes("see", label.get("see", ()), OWN_CLASSES) if i in imagenet] for slug, label in labels.items()}
    return ScoreTeachers(probes=probes, further=further, hear=hear, see=see)


def held_encoders(work: Path) -> dict[str, dict[str, Tensor]]:
    """Return the state_dicts of the starter's encoders: those that know class scores where they are made, else those that do not."""
    files = {part: state_file(work, part, scored=True) for part in PARTS}
    return {part: load_file(file if file.exists() else state_file(work, part, scored=False)) for part, file in files.items()}


def teach_scores(
    data: Path, teachers: Path, work: Path, score: ScoreTeachers, plan: EncoderPlan | None = None, parts: Sequence[str] = PARTS
) -> None:
    """Teach the encoders in *work*/runs the class scores; write audio.safetensors, visual.safetensors and probes.npz into *work*/scores.

    Args:
        data: folder with index.csv.
        teachers: folder with yamnet.safetensors.
        work: folder of `make_encoders`.
        score: the picture teacher, the labels' classes, and further material.
        plan: None for the starter's plan.
        parts: some of `PARTS`.

    Raises:
        ModelError: when EfficientNet-Lite0's weights are missing; the message states how to get them.
    """
    plan = EncoderPlan() if plan is None else plan
    seed = _SEEDS["train"]
    if "audio" in parts and not state_file(work, "audio", scored=True).exists():

        def hear(out: Path) -> None:
            material = Material(data, "train", work)
            render_scored_sounds(material, score.further, sound_scores(teachers), plan.scored_seconds, out, seed=seed)

        train = _examples(work / "examples" / "audio-scores", hear, last="logits")
        start = load_file(state_file(work, "audio", scored=False))
        noises = noise_patches(Material(data, "train", work), plan.noises, seed)
        teach_audio_scores(start, train, noises, work / "scores", plan.audio_scores, list(score.hear.values()))
    if "visual" in parts and not state_file(work, "visual", scored=True).exists():
        probes = read_probes(score.probes)

        def look(out: Path) -> None:
            material = Material(data, "train", work)
            weights = encoder_file("efficientnet_lite0", teachers) if score.picture is None else score.picture
            render_scored_pictures(material, score.further, picture_scores(weights, probes), plan.scored_pictures, out, seed=seed)

        train = _examples(work / "examples" / "visual-scores", look, last="cells")
        start = load_file(state_file(work, "visual", scored=False))
        groups = [group for group in score.see.values() if group]
        teach_visual_scores(start, train, work / "scores", plan.visual_scores, groups, probes.names, VISUAL_SIZE)


def make_encoders(data: Path, teachers: Path, work: Path, plan: EncoderPlan | None = None, parts: Sequence[str] = PARTS) -> None:
    """Make audio.safetensors and visual.safetensors in *work*/runs.

    Args:
        data: folder with index.csv.
        teachers: folder with yamnet.safetensors and mobilenetv2.safetensors.
        work: folder for examples (about 6 GB) and results.
        plan: None for the starter's plan.
        parts: some of `PARTS`; two processes can make one part each at the same time.
    """
    plan = EncoderPlan() if plan is None else plan
    runs = work / "runs"
    if "audio" in parts and not (runs / "audio.safetensors").exists():
        hearing = cache(lambda: audio_teacher(teachers))  # the teacher is loaded once, when the first missing split is rendered

        def hear(out: Path, split: Split, counts: SegmentCounts) -> None:
            render_segments(Material(data, split, work), hearing(), _SEEDS[split], counts, out)

        train = _examples(work / "examples" / "audio-train", lambda out: hear(out, "train", plan.seconds))
        val = _examples(work / "examples" / "audio-val", lambda out: hear(out, "val", plan.seconds_val))
        train_audio(train, val, runs, plan.audio_steps, size=AUDIO_SIZE)
    if "visual" in parts and not (runs / "visual.safetensors").exists():
        looking = cache(lambda: visual_teacher(teachers))

        def look(out: Path, split: Split, counts: PictureCounts) -> None:
            render_pictures(Material(data, split, work), looking(), _SEEDS[split], counts, out)

        train = _examples(work / "examples" / "visual-train", lambda out: look(out, "train", plan.pictures))
        val = _examples(work / "examples" / "visual-val", lambda out: look(out, "val", plan.pictures_val))
        train_visual(train, val, runs, plan.visual_steps, size=VISUAL_SIZE)


def _examples(folder: Path, make: Callable[[Path], None], last: str = "labels") -> Mapping[str, NDArray[np.generic]]:
    """Render the examples of one split if they are missing, and map them; the file *last* is written last and marks them as complete."""
    if not (folder / f"{last}.npy").exists():
        make(folder)
    return {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
