"""Reads and draws the pictures that probes are trained on, and runs a picture encoder over them.

A table faces.csv lists the faces that any detector found: file, x, y, width and height in pixels of the picture; a row without a box is a
picture without faces. This module trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.files import whole_file
from streamav.tables import find_below, read_table
from streamav.training.composite.drawn import KINDS, drawn_view
from streamav.training.composite.material import decode_picture, read_index
from streamav.training.composite.picture import flat_picture, scale, to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FACES_FILE", "Marked", "covered_cells", "drawings", "flat_pictures", "grids", "material_photos", "pictures_in", "read_faces"]

FACES_FILE = "faces.csv"
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_LONGEST = 448
"""Longest side of a picture after decoding; the encoders take 112 to 260."""
_BATCH = 16


@dataclass(frozen=True, eq=False, slots=True)
class Marked:
    """One picture file."""

    path: Path
    label: str = ""
    """Class of a photo of the material; empty for other pictures."""
    covered: NDArray[np.float32] | None = None
    """Shape (G, G): share of each cell that faces cover; None where nobody looked for faces."""


def read_faces(folder: Path, grid: int) -> list[Marked]:
    """Return the pictures of faces.csv with the share of each cell of a grid (G, G) that faces cover.

    Raises:
        DataError: when the table or a picture is missing, or a box is no box; the message names the row.
    """
    table = folder / FACES_FILE
    columns, rows = read_table(table)
    if missing := [name for name in ("file", "x", "y", "width", "height") if name not in columns]:
        msg = f"{table} must have the columns file, x, y, width and height, got none named {', '.join(missing)}"
        raise DataError(msg)
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for line, row in rows:
        found = boxes.setdefault(row["file"], [])
        if row["x"]:
            found.append(_box(row, f"{table}, row {line}"))
    pictures = []
    for name, marked in boxes.items():
        spelled = find_below(folder, name)
        if spelled is None:
            msg = f"{table}: picture {name[:200]} must be in {folder}, got no such file"
            raise DataError(msg)
        height, width = decode_picture(folder / spelled, 1 << 16).shape[:2] if marked else (1, 1)
        pictures.append(Marked(folder / spelled, covered=covered_cells(marked, (height, width), grid)))
    return pictures


def covered_cells(boxes: Sequence[tuple[float, float, float, float]], size: tuple[int, int], grid: int) -> NDArray[np.float32]:
    """Return the share of each cell (G, G) that boxes cover.

    Args:
        boxes: x, y, width and height of each, pixels.
        size: height and width of the picture, pixels.
        grid: G.
    """
    covered = np.zeros((grid, grid))
    edges = np.arange(grid)
    for x, y, width, height in boxes:
        left, right, top, bottom = grid * x / size[1], grid * (x + width) / size[1], grid * y / size[0], grid * (y + height) / size[0]
        across = np.clip(np.minimum(right, edges + 1) - np.maximum(left, edges), 0.0, 1.0)
        down = np.clip(np.minimum(bottom, edges + 1) - np.maximum(top, edges), 0.0, 1.0)
        covered += down[:, None] * across
    return np.minimum(covered, 1.0).astype(np.float32)


def material_photos(root: Path) -> list[Marked]:
    """Return the photos and backdrops of the train split of composite material."""
    return [Marked(root / one.path, one.label) for one in read_index(root) if one.split == "train" and one.kind in {"photo", "backdrop"}]


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder and below it, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())


def drawings(count: int, side: int) -> list[NDArray[np.uint8]]:
    """Draw pictures of the embedded scene, each kind of event and the empty room in turn, shape (side, side, 3) each."""
    rng = np.random.default_rng(1)
    kinds = (None, *KINDS)
    return [drawn_view(kinds[number % len(kinds)], rng, side).permute(1, 2, 0).numpy() for number in range(count)]


def flat_pictures(count: int, side: int) -> list[NDArray[np.uint8]]:
    """Draw pictures without anything in them: colours, gradients, noise, night, shape (side, side, 3) each."""
    rng = np.random.default_rng(2)
    return [flat_picture(rng, side).permute(1, 2, 0).numpy() for _ in range(count)]


def grids(
    network: Callable[[NDArray[np.uint8]], Sequence[NDArray[np.float32]]],
    pictures: Sequence[Marked] | Sequence[NDArray[np.uint8]],
    side: int,
    kept: Path,
) -> NDArray[np.float16]:
    """Return the encoder's grids of pictures, shape (N, G, G, V), from the disk; they are computed if the file is not there.

    Args:
        network: the picture encoder: from pictures (B, side, side, 3) to grids, and perhaps class scores.
        pictures: files or pixels.
        side: height and width of the encoder's input.
        kept: file for the grids.

    Raises:
        DataError: when the file holds the grids of another number of pictures.
    """
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            np.asarray(network(np.stack([_pixels(one, side) for one in pictures[first : first + _BATCH]]))[0], np.float16)
            for first in range(0, len(pictures), _BATCH)
        ]
        with whole_file(kept) as path, path.open("wb") as opened:
            np.save(opened, np.concatenate(rows))
    found: NDArray[np.float16] = np.load(kept, mmap_mode="r", allow_pickle=False)
    if len(found) != len(pictures):
        msg = f"{kept} must hold the grids of {len(pictures)} pictures, got {len(found)}; delete it, or choose another work folder"
        raise DataError(msg)
    return found


def _pixels(picture: Marked | NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if isinstance(picture, Marked):
        return scale(to_tensor(decode_picture(picture.path, _LONGEST)), side, side).permute(1, 2, 0).contiguous().numpy()
    return picture


def _box(row: dict[str, str], where: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(row[name]) for name in ("x", "y", "width", "height"))
    except ValueError:
        msg = f"{where}: x, y, width and height must be numbers of pixels, or all empty; got {row}"
        raise DataError(msg) from None
    if not (np.isfinite([x, y, width, height]).all() and width > 0 and height > 0):
        msg = f"{where}: width and height must be above 0, got {width:g} and {height:g}"
        raise DataError(msg)
    return x, y, width, height
