"""Makes the starter's two encoders: renders their examples once, then trains each for a time; what exists is not made again.

It knows the plan (how many examples, how long at which picture size) and leaves rendering and training to others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.training.composite.material import Material
from streamav.training.encoder_examples import (
    audio_teacher,
    render_drawn_pictures,
    render_drawn_seconds,
    render_pictures,
    render_seconds,
    visual_teacher,
)
from streamav.training.encoders import train_audio, train_visual

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamav.training.encoder_examples import Examples

__all__ = ["AUDIO_MINUTES", "VISUAL_PLAN", "make_encoders"]

AUDIO_MINUTES = 28.0
"""On one x86 core. More did not help: the teacher itself reaches little more on these seconds."""
VISUAL_PLAN = ((64, 20.0), (80, 40.0), (112, 30.0))
"""Side of the pictures in pixels, and minutes, on two x86 cores."""
_SIZES = {"train": (1150, 20, 3600), "val": (76, 4, 200)}
_SECONDS = {"train": (2200, 7000), "val": (60, 300)}
_SEEDS = {"train": 1, "val": 2}
_DRAWN_SEED, _DRAWN_PICTURES, _DRAWN_SECONDS = 5, 300, 500


def make_encoders(data: Path, teachers: Path, work: Path) -> None:
    """Leave audio.safetensors and visual.safetensors in *work*/runs.

    Args:
        data: folder with index.csv.
        teachers: folder with yamnet.safetensors and mobilenetv2.safetensors.
        work: folder for examples (about 3 GB) and results.
    """
    runs = work / "runs"
    if not (runs / "audio.safetensors").exists():
        train, val = _examples(work, "audio", lambda: _seconds(data, teachers, work))
        train_audio(train, val, runs, AUDIO_MINUTES)
    if not (runs / "visual.safetensors").exists():
        train, val = _examples(work, "visual", lambda: _pictures(data, teachers, work))
        for number, (side, minutes) in enumerate(VISUAL_PLAN):
            train_visual(train, val, runs, minutes, side=side, seed=number)


def _examples(work: Path, kind: str, make: Callable[[], tuple[Examples, Examples]]) -> tuple[Examples, Examples]:
    """Load the examples of one encoder, made first where they are not there."""
    folders = [work / "examples" / f"{kind}-{split}" for split in ("train", "val")]
    if not all((folder / "labels.npy").exists() for folder in folders):
        for folder, whole in zip(folders, make(), strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            for name, array in sorted(whole.items(), key=lambda entry: entry[0] == "labels"):  # labels last: they say that all is there
                np.save(folder / f"{name}.npy", array)
    train, val = ({file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")} for folder in folders)
    return train, val


def _seconds(data: Path, teachers: Path, work: Path) -> tuple[Examples, Examples]:
    teacher = audio_teacher(teachers)
    materials = {split: Material(data, split, work) for split in ("train", "val")}
    train, val = (render_seconds(materials[split], teacher, _SEEDS[split], *_SECONDS[split]) for split in ("train", "val"))
    drawn = render_drawn_seconds(materials["train"].labels, teacher, _DRAWN_SEED, _DRAWN_SECONDS)
    return {name: np.concatenate([train[name], drawn[name]]) for name in drawn}, val


def _pictures(data: Path, teachers: Path, work: Path) -> tuple[Examples, Examples]:
    teacher = visual_teacher(teachers)
    materials = {split: Material(data, split, work) for split in ("train", "val")}
    train, val = (render_pictures(materials[split], teacher, _SEEDS[split], _SIZES[split]) for split in ("train", "val"))
    basis = train["basis"].astype(np.float32)
    drawn = render_drawn_pictures(materials["train"].labels, teacher, basis, _DRAWN_SEED, _DRAWN_PICTURES)
    return {name: np.concatenate([train[name], drawn[name]]) for name in drawn}, val
