"""Shortens the visual features of a folder to their principal components, so that a study of many networks fits into an hour.

The components are those of the training split alone. It knows no network.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.training.ave import AveData
    from streamav.training.feature_set import FeatureSet

__all__ = ["shortened"]

_SAMPLE_ROWS = 400


def shortened(data: AveData, size: int) -> AveData:
    """Give the same data with visual features of *size* numbers a cell, in memory as float16.

    Args:
        data: splits of one folder.
        size: at least 1, at most the features' own size.

    Raises:
        SettingsError: when the size is out of range.

    Source: principal component analysis; the shares of the sample's variance are not scaled, so distances are kept as far as they go.
    """
    visual = data.train.visual
    own = visual.shape[-1]
    if not 1 <= size <= own:
        msg = f"components must be 1 to {own}, the size of the features, got {size}"
        raise SettingsError(msg)
    rows = data.train.rows[np.linspace(0, len(data.train.rows) - 1, min(_SAMPLE_ROWS, len(data.train.rows))).astype(np.int64)]
    mean, covariance = _moments([np.asarray(visual[int(row)], np.float32).reshape(-1, own) for row in rows])
    basis = np.linalg.eigh(covariance)[1][:, ::-1][:, :size].astype(np.float32)
    short = np.empty((*visual.shape[:-1], size), np.float16)
    for row in range(visual.shape[0]):
        short[row] = (np.asarray(visual[row], np.float32) - mean) @ basis

    def of(part: FeatureSet) -> FeatureSet:
        return replace(part, visual=short)

    background = None if data.background is None else of(data.background)
    return replace(data, train=of(data.train), val=of(data.val), test=of(data.test), background=background)


def _moments(parts: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Give mean and covariance of rows that come in parts."""
    count = sum(len(part) for part in parts)
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / count
    square = sum((part.T @ part).astype(np.float64) for part in parts) / count
    return mean.astype(np.float32), square - np.outer(mean, mean)
