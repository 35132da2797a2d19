"""Runs TensorRT engine files behind the numpy interface of a network.

**Not run on TensorRT**: tested with a stand-in on the CPU. It imports torch; it builds nothing and uses no cache.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from streamav.engines.batching import BoundedNetworks
from streamav.engines.recipe import Precision
from streamav.engines.tensorrt_export import DTYPES, input_names, output_count
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

    from streamav.engines.recipe import Recipe

__all__ = ["Form", "Port", "TensorRTEngine", "TensorRTNetwork", "form_of"]


class Port(BaseModel):
    """Name, shape and type of one input array of a network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of the input in the engine."""
    shape: tuple[int, ...]
    """Without the batch axis."""
    dtype: str
    """numpy's name: uint8 for pictures, float32 for the rest."""


class Form(BaseModel):
    """Inputs, outputs and precision of an engine file; kept beside it in the cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[Port, ...]
    outputs: int
    """Number of arrays that the engine returns."""
    precision: Precision
    """Precision of weights, inputs and outputs inside the engine."""


class TensorRTNetwork:
    """One engine behind the numpy interface of a network; it casts at the border and uploads from pinned memory."""

    def __init__(self, name: str, run: Callable[..., Tensor | Sequence[Tensor]], form: Form, device: str) -> None:
        """Wrap *run*, which takes and returns tensors of the form's precision on *device*."""
        self._name = name
        self._run = run
        self._form = form
        self._device = device
        self._staging: dict[int, Tensor] = {}
        self._lock = threading.Lock()  # guards the staging memory and the engine's one execution context

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the engine on a batch size that it was built for.

        Raises:
            EngineError: when the inputs do not have the shapes and types that the network takes, or TensorRT fails.
        """
        self._check(inputs)
        try:
            with torch.inference_mode(), self._lock:
                outputs = self._run(*(self._upload(place, array) for place, array in enumerate(inputs)))
                tensors = (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
                # cpu() waits for the GPU, so the staging memory is free again when the lock is released.
                return tuple(tensor.to(torch.float32).cpu().numpy() for tensor in tensors)
        except Exception as exc:  # errors of the package and the driver have no common base but Exception
            msg = f"network {self._name} cannot run in TensorRT on a batch of {len(inputs[0])}: {exc}"
            raise EngineError(msg) from exc

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        wanted = [(port.dtype, port.shape) for port in self._form.inputs]
        if [(array.dtype.name, array.shape[1:]) for array in inputs] != wanted or len({len(array) for array in inputs}) != 1:
            takes = ", ".join(f"{dtype} (n, {', '.join(map(str, shape))})" for dtype, shape in wanted)
            got = ", ".join(f"{array.dtype} {array.shape}" for array in inputs)
            msg = f"network {self._name} must get inputs of {takes}, got {got}"
            raise EngineError(msg)

    def _upload(self, place: int, array: NDArray[np.generic]) -> Tensor:
        """Copy into pinned memory and from there to the device in the array's own type (uint8 for pictures), then cast."""
        staging = self._staging.get(place)
        if staging is None or len(staging) < len(array):
            # This tensor has numpy's type; empty_like pins memory without a copy.
            plain = torch.from_numpy(np.empty(array.shape, array.dtype))
            staging = self._staging[place] = torch.empty_like(plain, pin_memory=self._device != "cpu")
        held = staging[: len(array)]
        np.copyto(held.numpy(), array, casting="no")
        return held.to(self._device, non_blocking=True).to(DTYPES[self._form.precision])


class TensorRTEngine(BoundedNetworks):
    """The four networks of a model in TensorRT; windows have ten segments."""

    def __init__(self, networks: Mapping[str, TensorRTNetwork], recipe: Recipe) -> None:
        """Bound every network by the largest batch that its engine was built for."""
        self.name = f"tensorrt-{recipe.precision}"
        super().__init__(networks, recipe.batch)


def form_of(program: ExportedProgram, example: Sequence[NDArray[np.generic]], precision: Precision) -> Form:
    """Return the inputs, outputs and precision of the engine of *program*, for inputs like *example*."""
    ports = [
        Port(name=name, shape=array.shape[1:], dtype=array.dtype.name) for name, array in zip(input_names(program), example, strict=True)
    ]
    return Form(inputs=tuple(ports), outputs=output_count(program), precision=precision)
