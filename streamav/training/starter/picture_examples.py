"""Renders the training pictures of the compact visual encoder, each with the features of a public teacher.

The teacher takes the picture at 224 pixels, the student at 112. This module trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from streamav.networks.compact import COMPACT_SIDE
from streamav.networks.mobilenetv2 import MOBILENETV2_SIDE
from streamav.training.composite.drawn import KINDS, drawn_view
from streamav.training.composite.views import mixed_view, nothing_view, photo_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from streamav.training.composite.material import Item, Material

__all__ = ["GRID_DIMENSIONS", "PictureCounts", "render_pictures"]

GRID_DIMENSIONS = 64
"""Principal components kept of the visual teacher's 1280 channels per grid cell."""
TEACHER_BATCH = 32
"""Pictures that the teacher takes at once."""
UNLABELLED = -1
"""Label of a view of several photos; its only target is from the teacher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureCounts:
    """Number of views of each kind."""

    per_class: int
    most_per_photo: int
    """Most views of one photo; classes with few photos show each photo more often than others."""
    none: int
    """Views without any class."""
    mixed: int
    """Views of several photos at once, without a label."""
    drawn: int
    """Views of each kind of the embedded scene, and of its empty room."""


def render_pictures(
    material: Material, teacher: Callable[[NDArray[np.uint8]], NDArray[np.float32]], seed: int, counts: PictureCounts, folder: Path
) -> None:
    """Render views and the teacher's features of them, directly into arrays on disk, because they may not fit into memory.

    Args:
        material: one split.
        teacher: see `teachers.visual_teacher`.
        seed: seed of all random choices.
        counts: number of views of each kind.
        folder: folder for pictures.npy (n, 112, 112, 3) uint8, pooled.npy (n, 1280) float16, grid.npy (n, 7, 7, 64) float16 (principal
            components of the cells) and, last, labels.npy (n,) int64: C for none, -1 for views of several photos.
    """
    rng = np.random.default_rng(seed)
    plan = _plan(material, counts, rng)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {"pictures": (COMPACT_SIDE, COMPACT_SIDE, 3), "pooled": (1280,), "grid": (7, 7, GRID_DIMENSIONS)}
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", dtype=np.uint8 if name == "pictures" else np.float16, shape=(len(plan), *shape)
        )
        for name, shape in shapes.items()
    }
    basis: NDArray[np.float32] | None = None
    for start, views in _batches(material, plan, rng):
        grid = teacher(np.ascontiguousarray(views.permute(0, 2, 3, 1).numpy()))
        if basis is None:
            cells = grid.reshape(-1, grid.shape[-1])
            basis = np.linalg.svd(cells - cells.mean(0), full_matrices=False)[2][:GRID_DIMENSIONS].T.astype(np.float32)
        rows = slice(start, start + len(views))
        small = functional.avg_pool2d(views.float(), MOBILENETV2_SIDE // COMPACT_SIDE).round().permute(0, 2, 3, 1)
        arrays["pictures"][rows] = small.to(torch.uint8).numpy()
        arrays["pooled"][rows] = grid.mean(axis=(1, 2))
        arrays["grid"][rows] = grid @ basis
    for array in arrays.values():
        array.flush()
    np.save(folder / "labels.npy", np.array([label for _, _, label in plan], np.int64))


_View = tuple[str, "Item | None", int]
"""Kind of view, photo or none, label."""


def _plan(material: Material, counts: PictureCounts, rng: np.random.Generator) -> list[_View]:
    """Return the views to render, in random order."""
    none = len(material.labels)
    plan: list[_View] = []
    for index, label in enumerate(material.labels):
        photos = material.of("photo", label)
        views = int(np.clip(round(counts.per_class / len(photos)), 1, counts.most_per_photo))
        plan += [("photo", photo, index) for photo in photos for _ in range(views)]
    plan += [("nothing", None, none)] * counts.none + [("mixed", None, UNLABELLED)] * counts.mixed
    for kind in (kind for kind in KINDS if kind in material.labels):
        plan += [("drawn", None, material.labels.index(kind))] * counts.drawn
    plan += [("drawn", None, none)] * counts.drawn
    return [plan[place] for place in rng.permutation(len(plan))]


def _batches(material: Material, plan: list[_View], rng: np.random.Generator) -> Iterator[tuple[int, Tensor]]:
    """Render the plan in order; yield the place of a batch's first view, and the views (B, 3, 224, 224) uint8."""
    backdrops, side = material.of("backdrop"), MOBILENETV2_SIDE
    photos = material.of("photo")

    def view(kind: str, photo: Item | None, label: int) -> Tensor:
        if kind == "drawn":
            return drawn_view(material.labels[label] if label < len(material.labels) else None, rng, side)
        if kind == "mixed":
            return mixed_view(material, photos, rng, side)
        return nothing_view(material, backdrops, rng, side) if photo is None else photo_view(material, photo, backdrops, rng, side)

    for start in range(0, len(plan), TEACHER_BATCH):
        yield start, torch.stack([view(*one) for one in plan[start : start + TEACHER_BATCH]])
