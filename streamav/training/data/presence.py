"""Reads which class each second of each clip plays and shows, where a folder of features tells it (`heard.h5`, `seen.h5`).

With it sound and picture of different clips can be put together into windows whose truth is known.
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
    """What is heard and what is seen, each (n, T), 0 to C; C is neither."""

    heard: NDArray[np.int64]
    seen: NDArray[np.int64]


def read_presence(folder: Path, labels: NDArray[np.int64], classes: int) -> Presence | None:
    """Read both files; None where a folder has neither.

    Args:
        folder: of AVE-named features.
        labels: shape (n, T), of all rows, background-only ones (which play and show nothing) at the end.
        classes: C.

    Raises:
        DataError: when only one is there, or a file has another shape, a class outside 0 to C, or contradicts the labels.
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
            msg = f"{path} must have up to {len(labels)} rows of {labels.shape[1]} seconds, got {values.shape}"
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
            f"{paths[0]} and {paths[1].name}, row {rows[0]}: an event's class must be heard and seen, labels are {labels[rows[0]].tolist()}"
        )
        raise DataError(msg)
    return Presence(heard=heard, seen=seen)
