"""Shortens the visual features of a folder to their principal components, so that trainings take less time.

The first layers of a localizer for visual features are linear, so a network trained on shortened features can be turned, without loss,
into one that takes the whole features (`lengthened`). The components are computed from the training split only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from streamav.errors import SettingsError
from streamav.networks.vscg import VSCG

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.training.data.feature_set import FeatureSet
    from streamav.training.data.folder import AveData

__all__ = ["components_of", "lengthened", "shortened"]

_SAMPLE_ROWS = 400
"""Rows from which the components are computed (our choice): 196 000 cells."""


def components_of(data: AveData, size: int) -> NDArray[np.float32]:
    """Return the first *size* principal directions of the training split's cells, shape (V, *size*); columns have length 1.

    Args:
        data: splits of one folder.
        size: number of directions, at least 1, at most V.

    Raises:
        SettingsError: when the size is out of range.

    Source: principal component analysis of the second moment: the mean is not subtracted, so that shortening is linear.
    """
    visual = data.train.visual
    own = visual.shape[-1]
    if not 1 <= size <= own:
        msg = f"components must be 1 to {own}, the size of the features, got {size}"
        raise SettingsError(msg)
    rows = data.train.rows[np.linspace(0, len(data.train.rows) - 1, min(_SAMPLE_ROWS, len(data.train.rows))).astype(np.int64)]
    moment = np.zeros((own, own))
    for row in rows:
        cells = np.asarray(visual[int(row)], np.float32).reshape(-1, own)
        moment += cells.T @ cells
    return np.ascontiguousarray(np.linalg.eigh(moment)[1][:, ::-1][:, :size], dtype=np.float32)


def shortened(data: AveData, basis: NDArray[np.float32]) -> AveData:
    """Return the same data with the visual features projected on *basis* (V, v), in memory as float16."""
    visual = data.train.visual
    short = np.empty((*visual.shape[:-1], basis.shape[1]), np.float16)
    for row in range(visual.shape[0]):
        short[row] = np.asarray(visual[row], np.float32) @ basis

    def of(part: FeatureSet) -> FeatureSet:
        return replace(part, visual=short)

    background = None if data.background is None else of(data.background)
    return replace(data, train=of(data.train), val=of(data.val), test=of(data.test), background=background)


def lengthened(network: VSCG, basis: NDArray[np.float32]) -> VSCG:
    """Return a network that gives on whole features the same output as *network* on the features projected on *basis* (V, v).

    Args:
        network: a VSCG with visual_size v.
        basis: the result of `components_of`.

    Raises:
        SettingsError: when the network's visual_size is not v.
    """
    if network.options.visual_size != basis.shape[1]:
        msg = f"the network must take visual features of {basis.shape[1]} numbers, got {network.options.visual_size}"
        raise SettingsError(msg)
    whole = VSCG(replace(network.options, visual_size=basis.shape[0]))
    state = dict(network.state_dict())
    seeing = [
        whole.attention.visual_in,
        *([whole.visual_front[0]] if isinstance(whole.visual_front, nn.Sequential) else [whole.visual_front]),
    ]
    names = {id(module): name for name, module in whole.named_modules()}
    for layer in seeing:
        key = f"{names[id(layer)]}.weight"
        state[key] = state[key] @ torch.from_numpy(basis).T
    whole.load_state_dict(state)
    return whole.eval()
