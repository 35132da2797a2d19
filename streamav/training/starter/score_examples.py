"""Renders pictures and segments of sound for teaching class scores, each with the answers of a public teacher.

They are views of the composite material, and crops of further pictures and sounds from a folder, which need no labels.
Teacher and student get the same crop and the same level, because scores depend on both. This module trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from streamav.features.logmel import log_mel
from streamav.networks.compact import COMPACT_SIDE
from streamav.networks.mobilenetv2 import MOBILENETV2_SIDE
from streamav.training.composite.material import decode_picture, decode_sound
from streamav.training.composite.picture import crop, scale, to_tensor
from streamav.training.composite.sound import colour, rms
from streamav.training.composite.views import mixed_view, nothing_view, photo_view, segment_of_ambience, segment_of_sound
from streamav.training.starter.sound_examples import OFFSET
from streamav.types import SAMPLES_PER_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from streamav.training.composite.material import Material
    from streamav.training.starter.teachers import SceneAnswer

__all__ = ["COMPONENTS", "ScoredCounts", "further_files", "render_scored_pictures", "render_scored_sounds"]

COMPONENTS = 128
"""Principal components kept of the picture teacher's 1280 channels per grid cell."""
TEACHER_BATCH = 32
"""Examples that the teacher takes at once."""
FURTHER_SIDE = 448
"""Longest side, in pixels, of a further picture before it is cropped."""
PICTURE_NAMES, SOUND_NAMES = (".jpg", ".jpeg", ".png"), (".wav", ".ogg", ".opus", ".mp3", ".flac")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCounts:
    """Number of examples of a medium."""

    material: int
    """Views or mixtures of the composite material."""
    further: int = 0
    """Crops of the files of the further folder; each file is used about equally often."""


def further_files(folder: Path | None, names: tuple[str, ...]) -> list[Path]:
    """Return the files below *folder* with such a name's end, in order; none without a folder."""
    return [] if folder is None else sorted(file for file in folder.rglob("*") if file.suffix.lower() in names)


def render_scored_pictures(
    material: Material,
    further: Path | None,
    teacher: Callable[[NDArray[np.uint8]], SceneAnswer],
    counts: ScoredCounts,
    folder: Path,
    *,
    seed: int,
) -> None:
    """Render pictures, and store the teacher's scores for them.

    Args:
        material: one split.
        further: folder of further pictures, or None.
        teacher: see `teachers.picture_scores`.
        counts: number of pictures.
        folder: folder for pictures.npy (n, 112, 112, 3) uint8, probabilities.npy (n, 9, 1000), probes.npy (n, 7, 7, P), all float16, and,
            last, cells.npy (n, 7, 7, 128) float16, principal components of the grid.
        seed: seed of all random choices.
    """
    rng = np.random.default_rng(seed)
    files = further_files(further, PICTURE_NAMES)
    plan = _plan(counts, len(files), rng)
    photos, backdrops, side = material.of("photo"), material.of("backdrop"), MOBILENETV2_SIDE

    def view(place: int) -> Tensor:
        if place >= 0:
            return scale(crop(to_tensor(decode_picture(files[place], FURTHER_SIDE)), rng, 0.4), side, side)
        chance = rng.random()
        if chance < 0.15:  # noqa: PLR2004
            return nothing_view(material, backdrops, rng, side)
        if chance < 0.5:  # noqa: PLR2004
            return mixed_view(material, photos, rng, side)
        return photo_view(material, photos[int(rng.integers(len(photos)))], backdrops, rng, side)

    rows: dict[str, list[NDArray[np.generic]]] = {"pictures": [], "probabilities": [], "probes": [], "cells": []}
    basis: NDArray[np.float32] | None = None
    for start in range(0, len(plan), TEACHER_BATCH):
        views = torch.stack([view(int(place)) for place in plan[start : start + TEACHER_BATCH]])
        said = teacher(np.ascontiguousarray(views.permute(0, 2, 3, 1).numpy()))
        if basis is None:
            flat = said.grid.reshape(-1, said.grid.shape[-1])
            basis = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:COMPONENTS].T.astype(np.float32)
        small = functional.avg_pool2d(views.float(), side // COMPACT_SIDE).round().permute(0, 2, 3, 1)
        rows["pictures"].append(small.to(torch.uint8).numpy())
        rows["probabilities"].append(said.probabilities.astype(np.float16))
        rows["probes"].append(said.probes.astype(np.float16))
        rows["cells"].append((said.grid @ basis).astype(np.float16))
    _write(rows, folder)


def render_scored_sounds(
    material: Material,
    further: Path | None,
    teacher: Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]],
    counts: ScoredCounts,
    folder: Path,
    *,
    seed: int,
) -> None:
    """Render segments of sounds, alone, in ambience and mixed, at random levels, and store the teacher's scores.

    Args:
        material: one split.
        further: folder of further sounds, or None.
        teacher: see `teachers.sound_scores`.
        counts: number of segments.
        folder: folder for patches.npy (n, 96, 64), embeddings.npy (n, 1024) and, last, logits.npy (n, 521), all float16.
        seed: seed of all random choices.
    """
    rng = np.random.default_rng(seed)
    files = further_files(further, SOUND_NAMES)
    waves: dict[int, NDArray[np.float32]] = {}
    sounds, ambients = material.of("sound"), material.of("ambient")

    def one(place: int) -> NDArray[np.float32]:
        if place < 0:
            wave = segment_of_sound(material, sounds[int(rng.integers(len(sounds)))], rng)[0]
        else:
            if place not in waves:
                waves[place] = decode_sound(files[place])
            wave = _segment(waves[place], rng)
        return np.asarray(wave / max(rms(wave), 1e-5), dtype=np.float32)

    def mixture(place: int) -> NDArray[np.float32]:
        chance = rng.random()
        wave = segment_of_ambience(material, ambients, rng) if chance < 0.08 else one(place)  # noqa: PLR2004
        if chance > 0.72:  # noqa: PLR2004
            wave = wave + one(-1) * np.float32(10 ** (rng.uniform(-14, 6) / 20))
        if rng.random() < 0.55:  # noqa: PLR2004
            wave = wave + segment_of_ambience(material, ambients, rng) * np.float32(10 ** (-rng.uniform(-5, 28) / 20))
        if rng.random() < 0.12:  # noqa: PLR2004
            wave = colour(wave, rng)
        level = 10 ** (rng.uniform(-50, -9) / 20) / max(rms(wave), 1e-5)
        return np.asarray(np.clip(wave * level, -1, 1), dtype=np.float32)

    plan = _plan(counts, len(files), rng)
    rows: dict[str, list[NDArray[np.generic]]] = {"patches": [], "embeddings": [], "logits": []}
    for start in range(0, len(plan), TEACHER_BATCH):
        patches = np.stack([log_mel(mixture(int(place)), OFFSET) for place in plan[start : start + TEACHER_BATCH]]).astype(np.float32)
        embeddings, logits = teacher(patches)
        for name, values in zip(rows, (patches, embeddings, logits), strict=True):
            rows[name].append(values.astype(np.float16))
    _write(rows, folder)


def _plan(counts: ScoredCounts, files: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return, in random order, -1 for an example of the material and a file's place for a further one."""
    further = np.arange(counts.further if files else 0) % max(1, files)
    return rng.permutation(np.concatenate([np.full(counts.material, -1), further])).astype(np.int64)


def _segment(wave: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return one second of a sound from a random place; a shorter sound is placed at random in silence."""
    room = SAMPLES_PER_SEGMENT - len(wave)
    if room > 0:
        before = int(rng.integers(room + 1))
        return np.pad(wave, (before, room - before))
    start = int(rng.integers(-room + 1))
    return wave[start : start + SAMPLES_PER_SEGMENT]


def _write(rows: dict[str, list[NDArray[np.generic]]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in rows.items():  # the last one marks the folder as complete
        np.save(folder / f"{name}.npy", np.concatenate(parts))
