"""Loads arrays into a module as its weights, after a check of names, shapes and numbers.

It opens no file and works with any network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["checked_state", "load_arrays"]

_COUNTER = "num_batches_tracked"
"""Batch norm's counter of training batches. It is not used after training, and public files do not have it."""


def checked_state(arrays: Mapping[str, NDArray[np.generic]], module: nn.Module, what: str) -> dict[str, Tensor]:
    """Check arrays and return them as a float32 state_dict of *module*.

    Args:
        arrays: by the names of the state_dict.
        module: defines the names and shapes; may be on the meta device.
        what: what the arrays are and where they come from, for messages.

    Raises:
        ModelError: when a name is missing or unknown, a shape differs, or a number is not finite.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items() if not name.endswith(_COUNTER)}
    missing, unknown = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
    if missing or unknown:
        msg = f"{what} must hold {len(wanted)} tensors; missing: {_few(missing)}; unknown: {_few(unknown)}"
        raise ModelError(msg)
    for name, shape in wanted.items():
        if tuple(arrays[name].shape) != shape:
            msg = f"{what}: {name} must have shape {shape}, got {tuple(arrays[name].shape)}"
            raise ModelError(msg)
        if not np.isfinite(arrays[name]).all():
            msg = f"{what}: {name} must hold finite numbers, got NaN or infinity"
            raise ModelError(msg)
    return {name: torch.from_numpy(np.array(arrays[name], dtype=np.float32, order="C")) for name in wanted}


def load_arrays(module: nn.Module, arrays: Mapping[str, NDArray[np.generic]], what: str) -> None:
    """Load arrays into *module* as all of its weights.

    Raises:
        ModelError: as `checked_state`.
    """
    module.load_state_dict(checked_state(arrays, module, what), strict=False)


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or "none"  # noqa: PLR2004
