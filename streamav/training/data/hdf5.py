"""Reads HDF5 datasets of features row by row, and small datasets whole; a large dataset is never held in memory.

A plain (contiguous) dataset is read without the HDF5 library, directly from its place in the file and without a memory map: the
pages of the file then do not count as memory of the process. File names and the meaning of rows are not handled here.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

import h5py
import numpy as np

from streamav.errors import DataError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DATASET_NAMES", "FileRows", "Hdf5Rows", "find_non_finite", "in_memory", "open_rows", "read_whole"]

DATASET_NAMES = ("avadataset", "dataset", "order")
"""Dataset names of published files; a file with a single dataset under another name is read too."""
_FEATURE_KINDS = ("f2", "f4", "f8")
_MAX_ROW_BYTES = 1 << 28
"""Fifty times a row of AVE's visual features in float64. The limit is needed because a header can claim any size."""
_MAX_ROWS = 1 << 22
"""A thousand times the rows of AVE."""
_MAX_WHOLE_BYTES = 1 << 30
"""More than twice the labels of 400 000 clips of 10 segments and 29 classes in float32."""


class FileRows:
    """Rows of a contiguous dataset, read with one system call each."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> None:
        """Open *path*, whose rows begin at byte *offset*."""
        self.shape = shape
        self.dtype = dtype
        self._path = path
        self._offset = offset
        self._stride = int(np.prod(shape[1:])) * dtype.itemsize
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __getitem__(self, row: int) -> NDArray[np.floating]:
        """Read one row.

        Raises:
            DataError: when the file ends before the end of the row.
        """
        values = np.empty(self.shape[1:], dtype=self.dtype)
        view = values.reshape(-1).view(np.uint8).data
        done = 0
        while done < self._stride:
            got = os.preadv(self._file, [view[done:]], self._offset + row * self._stride + done)
            if got <= 0:
                msg = f"{self._path} must hold {self.shape[0]} rows, but ends within row {row}; copy or download it again"
                raise DataError(msg)
            done += got
        return values


class Hdf5Rows:
    """Rows of a chunked or compressed dataset, read by the HDF5 library; the file stays open."""

    def __init__(self, path: Path, name: str) -> None:
        """Open the dataset *name* of *path*."""
        self._path = path
        self._dataset = h5py.File(path, "r")[name]
        self.shape: tuple[int, ...] = self._dataset.shape
        self.dtype: np.dtype[np.floating] = self._dataset.dtype

    def __getitem__(self, row: int) -> NDArray[np.floating]:
        """Read one row.

        Raises:
            DataError: when the file is damaged at this row.
        """
        try:
            values: NDArray[np.floating] = self._dataset[row]
        except OSError as exc:
            msg = f"row {row} of {self._path} cannot be read: {reason_of(exc)}; copy or download it again"
            raise DataError(msg) from exc
        return values


def open_rows(path: Path) -> FileRows | Hdf5Rows:
    """Open a dataset of features for reading row by row.

    Raises:
        DataError: when the file is missing or not HDF5, its dataset is not clear, or the numbers are not floating point.
    """
    with _opened(path) as file:
        dataset = _only_dataset(file, path)
        if dataset.dtype.str[1:] not in _FEATURE_KINDS:
            msg = f"{path} must hold float16, float32 or float64, got {dataset.dtype}"
            raise DataError(msg)
        if len(dataset.shape) > 0 and dataset.shape[0] > _MAX_ROWS:
            msg = f"{path} must have at most {_MAX_ROWS} rows, got the shape {dataset.shape}"
            raise DataError(msg)
        if len(dataset.shape) > 0 and dataset.nbytes > _MAX_ROW_BYTES * max(1, dataset.shape[0]):
            msg = f"a row of {path} must be at most {_MAX_ROW_BYTES} bytes, got the shape {dataset.shape}"
            raise DataError(msg)
        offset = dataset.id.get_offset()
        if offset is not None and dataset.chunks is None:
            return FileRows(path, offset, dataset.shape, dataset.dtype)
        name = dataset.name
    return Hdf5Rows(path, name)


def read_whole(path: Path) -> NDArray[np.generic]:
    """Read a small dataset: labels, tags or an order.

    Raises:
        DataError: when the file is missing or not HDF5, or its dataset is not clear.
    """
    with _opened(path) as file:
        dataset = _only_dataset(file, path)
        if dataset.nbytes > _MAX_WHOLE_BYTES:
            msg = f"{path} must be at most {_MAX_WHOLE_BYTES} bytes, got the shape {dataset.shape}"
            raise DataError(msg)
        try:
            values: NDArray[np.generic] = dataset[()]
        except OSError as exc:
            msg = f"{path} cannot be read: {reason_of(exc)}; copy or download it again"
            raise DataError(msg) from exc
        return values


def find_non_finite(rows: FileRows | Hdf5Rows | NDArray[np.floating]) -> int | None:
    """Return the number of the first row that holds NaN or infinity, or None; rows are read in order, once each."""
    for row in range(rows.shape[0]):
        values = rows[row]
        if not np.isfinite(values.sum(dtype=np.float64)) and not np.isfinite(values).all():
            return row
    return None


def in_memory(rows: FileRows | Hdf5Rows, path: Path) -> NDArray[np.float16]:
    """Copy features into memory as float16: half of float32, a quarter of float64.

    Raises:
        DataError: when a number is not finite or too large for float16.
    """
    copy = np.empty(rows.shape, dtype=np.float16)
    for row in range(rows.shape[0]):
        with np.errstate(over="ignore"):
            copy[row] = rows[row]
        if not np.isfinite(copy[row]).all():
            msg = f"{path}: row {row} must hold finite numbers below 65504 to fit float16; extract it again, or do not set float16"
            raise DataError(msg)
    return copy


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        msg = f"the file {path} is missing"
        raise DataError(msg) from None
    except OSError as exc:
        msg = f"{path} must be a whole HDF5 file: {reason_of(exc)}; copy or download it again"
        raise DataError(msg) from exc


def _only_dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    """Return the dataset under a published name, or the only one; links to other files are never followed.

    Raises:
        DataError: when the file does not hold exactly one such dataset, or the dataset's numbers are in other files.
    """
    # Only hard links are used: a soft or an external link may lead to any file of this machine.
    own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    found = [name for name in own if file.get(name, getclass=True) is h5py.Dataset]
    chosen = [name for name in DATASET_NAMES if name in found][:1] or found
    if len(chosen) != 1:
        links = sorted(set(file) - set(own))
        not_followed = f" (the links {', '.join(links)} are not followed)" if links else ""
        msg = f"{path} must hold one dataset, named {' or '.join(DATASET_NAMES)}; got {', '.join(found) or 'none'}{not_followed}"
        raise DataError(msg)
    dataset = file[chosen[0]]
    if dataset.is_virtual or dataset.external:
        msg = f"{path} must hold its numbers itself, but {chosen[0]} takes them from other files; save it as one plain dataset"
        raise DataError(msg)
    return dataset
