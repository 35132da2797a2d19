"""Runs a model's networks in plain eager float32 torch: the reference that every other engine is compared with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from streamav.engines.batching import BoundedNetworks
from streamav.engines.modules import build_modules
from streamav.engines.recipe import load_recipe
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from streamav.bundle import Bundle
    from streamav.config import ModelSettings
    from streamav.engines.recipe import Batch

__all__ = ["TorchEngine", "TorchNetwork", "open_torch_engine"]


class TorchNetwork:
    """One torch module behind the numpy interface of a network."""

    def __init__(self, name: str, module: nn.Module, device: str = "cpu") -> None:
        """Move *module* to *device*."""
        self._name = name
        self._module = module.to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the module.

        Raises:
            EngineError: when the inputs do not have the shapes that the module takes.
        """
        try:
            # torch has no read-only tensors and warns about read-only arrays, so torch.tensor copies; inference never writes to its inputs.
            tensors = [torch.tensor(array).to(self._device) for array in inputs]
            outputs = self._module(*tensors)
        except (RuntimeError, TypeError, ValueError) as exc:
            msg = f"network {self._name} cannot run on inputs of shapes {[array.shape for array in inputs]}: {exc}"
            raise EngineError(msg) from exc
        return tuple(output.cpu().numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))


class TorchEngine(BoundedNetworks):
    """The four networks of a model in eager torch."""

    def __init__(self, modules: Mapping[str, nn.Module], batch: Batch, device: str = "cpu") -> None:
        """Use *modules* as they are."""
        self.name = "torch-fp32"
        super().__init__({name: TorchNetwork(name, module, device) for name, module in modules.items()}, batch)


def open_torch_engine(bundle: Bundle, settings: ModelSettings) -> TorchEngine:
    """Open eager torch on the CPU with the modules of a bundle, on `settings.threads` threads (set for the whole process).

    Raises:
        ModelError: when weights are missing or do not fit.
    """
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    return TorchEngine(build_modules(bundle, settings.weights_dir), load_recipe("torch-fp32").batch)
