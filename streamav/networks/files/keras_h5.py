"""Reads the arrays of a Keras weights file (.h5) after a check of every array's size against the size of the file.

It works for any network. It follows no link inside the file and none to another file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from streamav.errors import ModelError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "read_keras_h5"]

MAX_BYTES = 1 << 30
"""Largest weights file: VGG-19 with its classifier is 575 MB."""


def read_keras_h5(path: Path, keep: Callable[[str], bool]) -> dict[str, NDArray[np.float32]]:
    """Read the floating-point arrays of an HDF5 file that *keep* selects by path.

    Args:
        path: the file.
        keep: returns True for the path of each wanted array, such as "block1_conv1/block1_conv1_W_1:0".

    Returns:
        float32 arrays by path.

    Raises:
        ModelError: when the file is missing, too large, damaged or not HDF5, or a wanted array is compressed or stored in another file.
    """
    try:
        length = path.stat().st_size
        if not path.is_file() or length > MAX_BYTES:
            msg = f"Keras weights must be a file of at most {MAX_BYTES} bytes, got {path} with {length}"
            raise ModelError(msg)
        with h5py.File(path, "r") as file:
            return _arrays(file, keep, length)
    except OSError as exc:
        msg = f"{path} must be a whole HDF5 file with Keras weights: {reason_of(exc)}"
        raise ModelError(msg) from exc
    except (RuntimeError, ValueError, TypeError, KeyError, MemoryError) as exc:
        msg = f"{path} must be a whole HDF5 file with Keras weights, but it is damaged: {exc}"
        raise ModelError(msg) from exc


def _arrays(file: h5py.File, keep: Callable[[str], bool], length: int) -> dict[str, NDArray[np.float32]]:
    wanted: dict[str, h5py.Dataset] = {}

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and keep(name):
            wanted[name] = item

    file.visititems(look)  # visits hard links only and each object once: no cycles, no other files
    arrays: dict[str, NDArray[np.float32]] = {}
    rest = length
    for name, dataset in wanted.items():
        rest -= dataset.nbytes
        is_plain = dataset.chunks is None and not dataset.is_virtual and not dataset.external and dataset.dtype.kind == "f"
        if not is_plain or rest < 0:
            msg = f"{file.filename}: {name} must be an uncompressed floating-point array that is stored completely in this file"
            raise ModelError(msg)
        arrays[name] = np.asarray(dataset[()], dtype=np.float32)
    return arrays
