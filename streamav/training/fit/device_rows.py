"""Keeps features in the memory of a GPU, so that batches are gathered there and each feature is copied to the GPU only once.

If the features do not fit, the feature sets stay unchanged. File formats and the training loop are not handled here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.training.data.feature_set import FeatureRows, FeatureSet
    from streamav.training.data.folder import AveData

__all__ = ["DeviceRows", "fits", "on_device"]

_BLOCK_ROWS = 32
"""Number of rows copied at once: 32 MB of AVE's visual features."""
_STEP_BYTES = 3 * 2**30
"""Memory left free for a step. At batch 128 its largest tensors have 128 MB each, and eager attention keeps fewer than twelve."""
_log = logging.getLogger(__name__)


class DeviceRows:
    """Rows of features in the memory of one device."""

    def __init__(self, rows: FeatureRows, device: torch.device) -> None:
        """Copy *rows* to *device* block by block, so that the host memory never holds all of them; float64 becomes float32.

        Raises:
            DataError: when a feature is NaN or infinite; the message names the row.
        """
        kind = torch.float16 if rows.dtype == np.float16 else torch.float32
        self.shape = tuple(rows.shape)
        self.dtype: np.dtype[np.floating] = np.dtype(np.float16 if kind == torch.float16 else np.float32)
        self._values = torch.empty(self.shape, dtype=kind, device=device)
        for start in range(0, self.shape[0], _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, self.shape[0])
            block = np.stack([rows[row] for row in range(start, stop)]).astype(self.dtype, copy=False)
            bad = ~np.isfinite(block.reshape(stop - start, -1)).all(axis=1)
            if bad.any():
                msg = f"features must be finite, got NaN or infinity in row {start + int(bad.argmax())}; extract that clip again"
                raise DataError(msg)
            self._values[start:stop].copy_(torch.from_numpy(block))

    def __getitem__(self, row: int) -> NDArray[np.floating]:
        """Return one row, copied to host memory."""
        values: NDArray[np.floating] = self._values[row].cpu().numpy()
        return values

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Gather rows (B,) into a new float32 tensor (B, T, ...) on the device."""
        return self._values.index_select(0, self._places(rows)).float()

    def take_segments(self, rows: NDArray[np.int64], seconds: NDArray[np.int64]) -> torch.Tensor:
        """Gather single segments, (B, T) row and segment indices, into a new float32 tensor (B, T, ...); row -1 gives zeros."""
        segments = self.shape[1]
        flat = self._values.flatten(0, 1)
        found = flat.index_select(0, self._places(np.maximum(rows * segments + seconds, 0).reshape(-1))).float()
        found[self._places(np.flatnonzero(rows.reshape(-1) < 0))] = 0.0
        return found.view(*rows.shape, *self.shape[2:])

    def _places(self, places: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(places)).to(self._values.device)


def fits(data: AveData, free: int) -> bool:
    """Return whether all features fit into *free* bytes beside the memory of a step."""
    arrays = (data.train.audio, data.train.visual)
    return sum(int(np.prod(rows.shape)) * min(rows.dtype.itemsize, 4) for rows in arrays) + _STEP_BYTES <= free


def on_device(data: AveData, device: torch.device) -> AveData:
    """Return the same splits with their features in the memory of *device*; unchanged if it is a CPU or the features do not fit.

    Raises:
        DataError: when a feature is NaN or infinite.
    """
    if device.type == "cpu":
        return data
    free, _ = torch.cuda.mem_get_info(device)
    if not fits(data, free):
        _log.warning("the features do not fit into the %.1f GB that are free on %s: each batch is copied there", free / 1e9, device)
        return data
    return held(data, device)


def held(data: AveData, device: torch.device) -> AveData:
    """Return the same splits with their features copied to *device*; all splits share one copy."""
    audio, visual = DeviceRows(data.train.audio, device), DeviceRows(data.train.visual, device)

    def moved(features: FeatureSet) -> FeatureSet:
        return replace(features, audio=audio, visual=visual)

    background = None if data.background is None else moved(data.background)
    return replace(data, train=moved(data.train), val=moved(data.val), test=moved(data.test), background=background)
