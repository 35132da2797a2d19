"""Reads the class heard and the class seen in each segment of each clip, if a folder of features holds them (`heard.h5`, `seen.h5`).

With these classes, windows can join the sound of one clip with the picture of another and still have known labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.training.data.hdf5 import read_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Presence", "read_presence"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Presence:
    """The class heard and the class seen in each segment, each (n, T), 0 to C; C means no class."""

    heard: NDArray[np.int64]
    seen: NDArray[np.int64]


def read_presence(folder: Path, labels: NDArray[np.int64], classes: int) -> Presence | None:
    """Read both files; return None if a folder has neither.

    Args:
        folder: a folder of AVE-named features.
        labels: shape (n, T), of all rows; the last rows may be background-only clips, in which no class is heard or seen.
        classes: C.

    Raises:
        DataError: when only one of the files exists, or a file has a wrong shape, a class outside 0 to C, or contradicts the labels.
    """
    paths = [folder / "heard.h5", folder / "seen.h5"]
    there = [path.is_file() for path in paths]
    if not any(there):
        return None
    if not all(there):
        msg = f"{folder} must hold heard.h5 and seen.h5 or neither, got only {paths[there.index(True)].name}"
        raise DataError(msg)
    found = []
    for path in paths:
        values = np.asarray(read_whole(path))
        if values.ndim != 2 or values.shape[1] != labels.shape[1] or len(values) > len(labels):  # noqa: PLR2004 - clips, segments
            msg = f"{path} must have up to {len(labels)} rows of {labels.shape[1]} segments, got {values.shape}"
            raise DataError(msg)
        outside = np.flatnonzero(((values < 0) | (values > classes)).any(axis=1))
        if outside.size:
            msg = f"{path}, row {outside[0]}: classes must lie in 0 to {classes}, got {values[outside[0]].tolist()}"
            raise DataError(msg)
        whole = np.full(labels.shape, classes, np.int64)
        whole[: len(values)] = values
        found.append(whole)
    heard, seen = found
    clear = (labels < classes) & ((heard != labels) | (seen != labels))
    rows = np.flatnonzero(clear.any(axis=1))
    if rows.size:
        msg = (
            f"{paths[0]} and {paths[1].name}, row {rows[0]}: the class of an event must be heard and seen in each of its segments; "
            f"the labels are {labels[rows[0]].tolist()}"
        )
        raise DataError(msg)
    return Presence(heard=heard, seen=seen)
