"""Reads the three splits of a folder of features, and checks that they share no row. Row = line of Annotations.txt."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.training.data.file_names import needed_file
from streamav.training.data.hdf5 import read_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_splits"]


def read_splits(folder: Path, clips: int) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the splits "train", "val" and "test".

    Args:
        folder: folder of features.
        clips: number of its clips.

    Raises:
        DataError: when a file is missing or damaged, names a row that is not there or one row twice, or two splits share a row.
    """
    splits = {name: _order(needed_file(folder, name), clips) for name in ("train", "val", "test")}
    for first, second in combinations(splits, 2):
        both = np.intersect1d(splits[first], splits[second])
        if both.size:
            msg = f"{first}_order.h5 and {second}_order.h5 must not share rows, got row {both[0]} in both"
            raise DataError(msg)
    return splits


def _order(path: Path, clips: int) -> NDArray[np.int64]:
    values = np.asarray(read_whole(path))
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or values.size == 0:
        msg = f"{path} must be a list of whole row numbers, got {values.dtype} {values.shape}"
        raise DataError(msg)
    order = values.astype(np.int64)
    outside = np.flatnonzero((order < 0) | (order >= clips))
    if outside.size:
        msg = f"{path}, entry {outside[0]}: row numbers must lie in 0 to {clips - 1}, got {order[outside[0]]}"
        raise DataError(msg)
    rows, counts = np.unique(order, return_counts=True)
    if (counts > 1).any():
        msg = f"{path} must name each row once, got row {rows[counts > 1][0]} {counts[counts > 1][0]} times"
        raise DataError(msg)
    return order
