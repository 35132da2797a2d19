"""Reads the index of composite material (sounds, photos, ambience, backdrops) and decodes the files once into a cache.

It handles files, their classes, their split and their samples or pixels; it handles no scenes and runs no network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamav.errors import DataError
from streamav.files import whole_file
from streamav.slugs import class_slugs
from streamav.tables import find_below, read_table
from streamav.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Half", "Item", "Kind", "Material", "Split", "decode_picture", "decode_sound", "read_index"]

Kind = Literal["sound", "photo", "ambient", "backdrop"]
Split = Literal["train", "val", "test"]
Half = Literal["whole", "first", "second"]
"""Part of a split: every other source recording, so that choices on one half can be judged on the other."""

PICTURE_SIDE = 160
"""Longest side, in pixels, of a picture in the cache; the encoders take 112."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file of the material."""

    path: str
    """Relative to the folder that holds index.csv."""
    kind: Kind
    label: str
    """Class of a sound or photo; empty for ambience and backdrops."""
    split: Split
    origin: str = ""
    """The source recording; files of one origin sound or look alike."""


def read_index(root: Path) -> list[Item]:
    """Read index.csv.

    Raises:
        DataError: when the file or a column is missing, or a class gives no valid label or the same label as another; it names the lines.
    """
    file = root / "index.csv"
    items: list[Item] = []
    lines: dict[str, int] = {}
    columns, rows = read_table(file)
    if missing := [name for name in ("path", "kind", "class", "split") if name not in columns]:
        msg = f"{file} must be a table (CSV, UTF-8) with columns path, kind, class and split, got none named {', '.join(missing)}"
        raise DataError(msg)
    for line, row in rows:
        path = find_below(root, row["path"]) or row["path"]
        origin = row.get("original_id") or row["path"]
        items.append(Item(path=path, kind=row["kind"], label=row["class"], split=row["split"], origin=origin))  # type: ignore[arg-type]
        lines.setdefault(row["class"], line)
    class_slugs(file, ((line, label) for label, line in lines.items() if label))
    return items


def decode_sound(file: Path) -> NDArray[np.float32]:
    """Decode a sound file, shape (n,), mono, 16 kHz, range [-1, 1]."""
    import av

    with av.open(str(file.absolute()), metadata_errors="replace") as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
        blocks = [out.to_ndarray() for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        blocks += [out.to_ndarray() for out in resampler.resample(None)]
    return np.asarray(np.concatenate(blocks, axis=1)[0], dtype=np.float32)


def decode_picture(file: Path, side: int = PICTURE_SIDE) -> NDArray[np.uint8]:
    """Decode a picture, shape (H, W, 3) RGB, and scale it down if its longest side is above *side* pixels."""
    import av

    with av.open(str(file.absolute()), metadata_errors="replace") as container:
        frame = next(container.decode(video=0))
        scale = min(1.0, side / max(frame.width, frame.height))
        width, height = max(8, round(frame.width * scale)), max(8, round(frame.height * scale))
        scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        return np.asarray(scaled.to_ndarray(), dtype=np.uint8)


def _half(items: list[Item], half: Half) -> list[Item]:
    """Return the items of every other origin, counted separately for each kind and class."""
    if half == "whole":
        return items
    places: dict[tuple[str, str], dict[str, int]] = {}
    for item in items:
        known = places.setdefault((item.kind, item.label), {})
        known.setdefault(item.origin, len(known))
    wanted = 0 if half == "first" else 1
    return [item for item in items if places[item.kind, item.label][item.origin] % 2 == wanted]


class Material:
    """All sounds and pictures of one split, decoded, in memory."""

    def __init__(self, root: Path, split: Split, cache: Path, half: Half = "whole") -> None:
        """Load the material from the cache; decode it first if the cache does not hold it.

        Raises:
            DataError: when index.csv is wrong, or has no row of the split.
        """
        self.items = _half([item for item in read_index(root) if item.split == split], half)
        if not self.items:
            msg = f"{root / 'index.csv'} must have rows of the split {split!r}, got none"
            raise DataError(msg)
        self.labels = sorted({item.label for item in self.items if item.label})
        """The C classes in alphabetical order; their position is their index."""
        digest = hashlib.sha256("\n".join(item.path for item in self.items).encode()).hexdigest()[:12]
        self._file = cache / f"material-{split}-{digest}.npz"
        if not self._file.exists():
            cache.mkdir(parents=True, exist_ok=True)
            self._decode(root)
        stored = np.load(self._file)
        self._sound_data, self._sound_ends = stored["sound_data"], stored["sound_ends"]
        self._picture_data, self._picture_ends = stored["picture_data"], stored["picture_ends"]
        self._picture_shapes = stored["picture_shapes"]
        self._order = {item.path: n for n, item in enumerate(i for i in self.items if i.kind in {"sound", "ambient"})}
        self._picture_order = {i.path: n for n, i in enumerate(i for i in self.items if i.kind in {"photo", "backdrop"})}

    def _decode(self, root: Path) -> None:
        sounds = [decode_sound(root / i.path) for i in self.items if i.kind in {"sound", "ambient"}]
        pictures = [decode_picture(root / i.path) for i in self.items if i.kind in {"photo", "backdrop"}]
        # The file is written completely, since an existing file is used without a check; not `alone`, since two processes may write it.
        with whole_file(self._file) as part, part.open("wb") as file:
            np.savez(
                file,
                sound_data=np.concatenate([np.round(np.clip(s, -1, 1) * 32767).astype(np.int16) for s in sounds]),
                sound_ends=np.cumsum([len(s) for s in sounds]),
                picture_data=np.concatenate([p.reshape(-1) for p in pictures]),
                picture_ends=np.cumsum([p.size for p in pictures]),
                picture_shapes=np.array([p.shape[:2] for p in pictures]),
            )

    def of(self, kind: Kind, label: str = "") -> list[Item]:
        """Return the items of one kind, and of one class if *label* is not empty, in the order of the index."""
        return [item for item in self.items if item.kind == kind and (not label or item.label == label)]

    def sound(self, item: Item) -> NDArray[np.float32]:
        """Return the samples of a sound or of ambience, shape (n,), 16 kHz, range [-1, 1]."""
        n = self._order[item.path]
        start = 0 if n == 0 else int(self._sound_ends[n - 1])
        return np.asarray(self._sound_data[start : int(self._sound_ends[n])] / 32767.0, dtype=np.float32)

    def picture(self, item: Item) -> NDArray[np.uint8]:
        """Return the pixels of a photo or backdrop, shape (H, W, 3), RGB."""
        n = self._picture_order[item.path]
        start = 0 if n == 0 else int(self._picture_ends[n - 1])
        height, width = self._picture_shapes[n]
        return np.asarray(self._picture_data[start : int(self._picture_ends[n])].reshape(height, width, 3), dtype=np.uint8)
