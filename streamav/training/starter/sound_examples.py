"""Renders the training segments of sound for the compact audio encoder, each with the features of a public teacher.

The teacher gets every segment at one level, so that its features do not depend on the level for the student. This module trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.features.logmel import LogMelOptions, log_mel
from streamav.training.composite.drawn import KINDS, drawn_segment
from streamav.training.composite.sound import rms
from streamav.training.composite.views import segment_of_ambience, segment_of_sound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.training.composite.material import Item, Material

__all__ = ["OFFSET", "SegmentCounts", "render_segments"]

OFFSET = LogMelOptions(offset=0.001)
"""Log-mel options of the compact audio encoder, the same as YAMNet's (its teacher): quiet sounds stay visible."""
TEACHER_BATCH = 32
"""Segments that the teacher takes at once."""
TEACHER_RMS = 0.08
"""RMS level of the sound for the teacher, as a share of full scale."""
UNLABELLED = -1
"""Label of a segment with sounds of two classes, or with a sound that is hardly audible."""
AUDIBLE_SHARE = 0.25
"""A segment has its class as label if the sound is audible in at least this share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCounts:
    """Number of segments of each kind."""

    per_class: int
    none: int
    """Segments of ambience, noise or silence."""
    mixed: int
    """Segments of two classes at once, without a label."""
    drawn: int
    """Segments of each kind of the embedded scene, and of its ambience."""


def render_segments(
    material: Material, teacher: Callable[[NDArray[np.float32]], NDArray[np.float32]], seed: int, counts: SegmentCounts, folder: Path
) -> None:
    """Render segments of sound in ambience, and the teacher's embeddings of them.

    Args:
        material: one split.
        teacher: see `teachers.audio_teacher`.
        seed: seed of all random choices.
        counts: number of segments of each kind.
        folder: folder for patches.npy (n, 96, 64) float16, embeddings.npy (n, 1024) float16 and, last, labels.npy (n,) int64:
            C for none, -1 for two classes or a sound that is hardly audible.
    """
    rng = np.random.default_rng(seed)
    plan = _plan(material, counts, rng)
    folder.mkdir(parents=True, exist_ok=True)
    patches = np.lib.format.open_memmap(folder / "patches.npy", "w+", dtype=np.float16, shape=(len(plan), 96, 64))
    embeddings = np.lib.format.open_memmap(folder / "embeddings.npy", "w+", dtype=np.float16, shape=(len(plan), 1024))
    labels = np.empty(len(plan), np.int64)
    source = _Seconds(material, rng)
    for start in range(0, len(plan), TEACHER_BATCH):
        heard = []
        for number, (kind, index) in enumerate(plan[start : start + TEACHER_BATCH], start):
            wave, labels[number] = source.render(kind, index)
            patches[number] = log_mel(_limited(wave * 10 ** (rng.uniform(-48, -10) / 20)), OFFSET)
            heard.append(log_mel(_limited(wave * TEACHER_RMS), OFFSET))
        embeddings[start : start + len(heard)] = teacher(np.stack(heard))
    patches.flush()
    embeddings.flush()
    np.save(folder / "labels.npy", labels)


def _plan(material: Material, counts: SegmentCounts, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Return kind and class index of every segment, in random order."""
    none = len(material.labels)
    plan = [("sound", index) for index in range(none) for _ in range(counts.per_class)]
    plan += [("ambience", none)] * counts.none + [("mixed", UNLABELLED)] * counts.mixed
    drawn = [material.labels.index(kind) for kind in KINDS if kind in material.labels]
    plan += [("drawn", index) for index in [*drawn, none] for _ in range(counts.drawn)]
    return [plan[place] for place in rng.permutation(len(plan))]


class _Seconds:
    """Mixes one segment of a kind, RMS near 1, and returns it with its label."""

    def __init__(self, material: Material, rng: np.random.Generator) -> None:
        self._material, self._rng = material, rng
        self._ambients = material.of("ambient")
        self._sounds: list[list[Item]] = [material.of("sound", label) for label in material.labels]

    def render(self, kind: str, index: int) -> tuple[NDArray[np.float32], int]:
        if kind == "drawn":
            return drawn_segment(self._material.labels[index] if index < len(self._sounds) else None, self._rng), index
        if kind == "ambience":
            chance = self._rng.random()
            gain = 0.0 if chance < 0.03 else 10 ** (self._rng.uniform(-40, 0) / 20) if chance < 0.3 else 1.0  # noqa: PLR2004
            return self._ambience() * np.float32(gain), index
        if kind == "mixed":
            first, second = self._rng.choice(len(self._sounds), 2, replace=False)
            wave = self._sound(int(first))[0] + self._sound(int(second))[0] * np.float32(10 ** (self._rng.uniform(-10, 10) / 20))
            return self._in_ambience(wave), UNLABELLED
        wave, share = self._sound(index)
        return self._in_ambience(wave), index if share >= AUDIBLE_SHARE else UNLABELLED

    def _sound(self, index: int) -> tuple[NDArray[np.float32], float]:
        items = self._sounds[index]
        return segment_of_sound(self._material, items[int(self._rng.integers(len(items)))], self._rng)

    def _ambience(self) -> NDArray[np.float32]:
        return segment_of_ambience(self._material, self._ambients, self._rng)

    def _in_ambience(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        snr_db = self._rng.uniform(-5, 30)
        if self._rng.random() < 0.85:  # noqa: PLR2004
            wave = wave + self._ambience() * np.float32(10 ** (-snr_db / 20))
        return (wave / max(rms(wave), 1e-3)).astype(np.float32)


def _limited(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(wave, -1.0, 1.0).astype(np.float32)
