"""Runs a model's networks in TensorRT on an NVIDIA GPU, one engine for each, built once and kept in the engine cache.

**Not run on TensorRT**: checked statically and with a stand-in compiler (docs/tensorrt.md says what by what). What is made here is compared
with eager float32 torch on the machine that runs it before it is used, as every engine is.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from streamav.engines.batching import BoundedNetworks, most_at_once
from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.tensorrt_compiler import TorchTensorRT, tensorrt_problem
from streamav.engines.tensorrt_export import DTYPES, export_network, input_names, output_count
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from streamav.engines.making import EngineRequest
    from streamav.engines.parity import Answers
    from streamav.engines.recipe import Precision, Recipe
    from streamav.engines.tensorrt_compiler import Compiler

__all__ = ["TensorRTEngine", "TensorRTMaker", "TensorRTNetwork", "tensorrt_problem"]


class Port(BaseModel):
    """One input of a network, as numpy arrays must come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """As in the engine."""
    shape: tuple[int, ...]
    """Without the batch axis."""
    dtype: str
    """numpy's name: uint8 for pictures, float32 for the rest."""


class Form(BaseModel):
    """What must be known to run an engine file; kept beside it in the cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[Port, ...]
    outputs: int
    """How many arrays it gives."""
    precision: str
    """Recipe precision of weights, inputs and outputs inside the engine."""


class TensorRTNetwork:
    """One engine behind the numpy interface of a network: casts at the border, uploads from pinned memory."""

    def __init__(self, name: str, run: Callable[..., Tensor | Sequence[Tensor]], form: Form, device: str) -> None:
        """Wrap *run*, which takes and gives tensors of the form's precision on *device*."""
        self._name = name
        self._run = run
        self._form = form
        self._device = device
        self._staging: dict[int, Tensor] = {}
        self._lock = threading.Lock()  # over the staging memory and the engine's one execution context

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the engine on a batch that it was built for.

        Raises:
            EngineError: when the inputs have not the shapes and types that the network takes, or TensorRT fails.
        """
        self._check(inputs)
        try:
            with torch.inference_mode(), self._lock:
                outputs = self._run(*(self._upload(place, array) for place, array in enumerate(inputs)))
                tensors = (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
                # Waits for the GPU, so the staging memory is free again when the lock is.
                return tuple(tensor.to(torch.float32).cpu().numpy() for tensor in tensors)
        except Exception as exc:  # the package's and the driver's errors have no common base but Exception
            msg = f"network {self._name} cannot run in TensorRT on a batch of {len(inputs[0])}: {exc}"
            raise EngineError(msg) from exc

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        wanted = [(port.dtype, port.shape) for port in self._form.inputs]
        if [(array.dtype.name, array.shape[1:]) for array in inputs] != wanted or len({len(array) for array in inputs}) != 1:
            takes = ", ".join(f"{dtype} (n, {', '.join(map(str, shape))})" for dtype, shape in wanted)
            got = ", ".join(f"{array.dtype} {array.shape}" for array in inputs)
            msg = f"network {self._name} cannot run: it takes {takes}, got {got}"
            raise EngineError(msg)

    def _upload(self, place: int, array: NDArray[np.generic]) -> Tensor:
        """Copy into pinned memory and from there to the device in the array's own type (a byte a pixel), then cast."""
        staging = self._staging.get(place)
        if staging is None or len(staging) < len(array):
            # A tensor of numpy's type; empty_like pins without a copy.
            plain = torch.from_numpy(np.empty(array.shape, array.dtype))
            staging = self._staging[place] = torch.empty_like(plain, pin_memory=self._device != "cpu")
        held = staging[: len(array)]
        np.copyto(held.numpy(), array, casting="no")
        return held.to(self._device, non_blocking=True).to(DTYPES[cast("Precision", self._form.precision)])


class TensorRTEngine(BoundedNetworks):
    """The four networks of a model in TensorRT; windows have ten segments."""

    def __init__(self, networks: Mapping[str, TensorRTNetwork], recipe: Recipe) -> None:
        """Bound every network by the batch that its engine was built for."""
        self.name = f"tensorrt-{recipe.precision}"
        super().__init__(networks, recipe.batch)


class TensorRTMaker:
    """Fills the role Maker: exported programs, built into one TensorRT engine a network."""

    def __init__(self, compiler: Compiler | None = None) -> None:
        """Use *compiler*, or Torch-TensorRT."""
        self._compiler: Compiler = TorchTensorRT() if compiler is None else compiler

    def problem(self, recipe: Recipe) -> str | None:
        """Say what is missing on this machine, in half a sentence, or None."""
        return self._compiler.problem(recipe.precision)

    def parts(self, request: EngineRequest) -> dict[str, str]:  # noqa: ARG002 - the role's signature
        """Give versions of torch, torch-tensorrt and TensorRT, compute capability and name of the GPU."""
        return self._compiler.parts()

    def compile(
        self, request: EngineRequest, modules: Mapping[str, nn.Module], answers: Answers, folder: Path
    ) -> dict[str, JsonValue]:
        """Export and build the four networks.

        Raises:
            EngineError: when a network cannot be exported or built.
        """
        forms: dict[str, JsonValue] = {}
        for name in NETWORK_NAMES:
            form, data = self._build(name, request.recipe, modules[name], answers)
            (folder / f"{name}.engine").write_bytes(data)
            forms[name] = form.model_dump(mode="json")
        return {"networks": forms}

    def load(self, request: EngineRequest, folder: Path, facts: Mapping[str, JsonValue]) -> TensorRTEngine:
        """Open the engines on the GPU.

        Raises:
            EngineError: when TensorRT refuses one.
        """
        networks = {}
        for name in NETWORK_NAMES:
            path = folder / f"{name}.engine"
            try:
                form = Form.model_validate(cast("Mapping[str, JsonValue]", facts["networks"])[name])
                run = self._compiler.open(path.read_bytes(), [port.name for port in form.inputs], form.outputs)
            except (KeyError, TypeError, ValidationError) as exc:
                msg = f"the engine at {folder} does not say how {name} is run: {exc}; run: streamav engines clear"
                raise EngineError(msg) from exc
            except Exception as exc:  # the package's errors have no common base but Exception
                msg = f"TensorRT cannot load {path}: {exc}"
                raise EngineError(msg) from exc
            networks[name] = TensorRTNetwork(name, run, form, self._compiler.device)
        return TensorRTEngine(networks, request.recipe)

    def _build(self, name: str, recipe: Recipe, module: nn.Module, answers: Answers) -> tuple[Form, bytes]:
        example, batch = answers.inputs[name], recipe.batch
        most = most_at_once(getattr(batch, name), batch.visual_pixels if name == "visual" else None, example[0])
        usual = most if recipe.usual_batch is None else min(getattr(recipe.usual_batch, name), most)
        precision: Precision = "fp32" if name in recipe.float32 else recipe.precision
        program = export_network(module, example, DTYPES[precision], most)
        form = _form(program, example, precision)
        try:
            return form, self._compiler.build(program, (1, usual, most), recipe.workspace_bytes)
        except Exception as exc:  # the package's errors have no common base but Exception
            msg = f"TensorRT cannot build network {name}: {' '.join(str(exc).split())}"
            raise EngineError(msg) from exc


def _form(program: ExportedProgram, example: Sequence[NDArray[np.generic]], precision: Precision) -> Form:
    ports = [
        Port(name=name, shape=array.shape[1:], dtype=array.dtype.name) for name, array in zip(input_names(program), example, strict=True)
    ]
    return Form(inputs=tuple(ports), outputs=output_count(program), precision=precision)
