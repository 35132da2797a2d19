"""Runs a model's networks on an NVIDIA GPU with torch alone: captured CUDA graphs, encoders in half precision.

docs/cuda.md states what was run on a GPU. Importing this module imports no torch, so that the check for a GPU costs nothing on a machine
without one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from streamav.engines.batching import NamedNetworks, most_at_once
from streamav.engines.machine import has_nvidia_driver
from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.samples import PATCH
from streamav.errors import EngineError, reason_of
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pydantic import JsonValue
    from torch import nn

    from streamav.bundle import Bundle, ModelCard
    from streamav.config import ModelSettings
    from streamav.engines.cuda_graphs import Device, Port
    from streamav.engines.maker import EngineRequest
    from streamav.engines.parity import Answers
    from streamav.engines.recipe import Precision, Recipe
    from streamav.engines.torch_engine import TorchEngine

__all__ = ["CudaEngine", "CudaMaker", "cuda_problem", "open_eager_cuda"]


class CudaEngine(NamedNetworks):
    """The four networks of a model on a GPU; windows have ten segments. Calls from several threads run one after another."""

    def __init__(self, modules: Mapping[str, nn.Module], card: ModelCard, recipe: Recipe, device: Device) -> None:
        """Move the modules to the device.

        Args:
            modules: the four float32 torch modules, on the CPU, in evaluation mode; they are changed.
            card: of their model; it defines their inputs.
            recipe: precision and batch bounds.
            device: runs the networks.
        """
        from streamav.engines.cuda_graphs import GraphedNetwork
        from streamav.engines.cuda_modules import lower

        self.name = f"cuda-{recipe.precision}"
        lock = threading.Lock()
        ports = _ports(card)
        self._graphed = {
            name: GraphedNetwork(name, module, ports[name], most_at_once(recipe.batch, name, card.visual.picture), device, lock)
            for name, module in lower(modules, recipe.precision).items()
        }
        super().__init__(self._graphed)
        self._frames = card.visual.frames_per_second

    def warm_up(self) -> None:
        """Capture the graphs that one segment of one stream needs; graphs of larger batches are captured with the first such batch.

        Raises:
            EngineError: when the device fails.
        """
        for name, network in self._graphed.items():
            network.warm_up(self._frames if name == "visual" else 1)


class CudaMaker:
    """Fills the role Maker: only the reference's answers are stored, since graphs exist in the process only."""

    def __init__(self, open_device: Callable[[], Device] | None = None) -> None:
        """Use the device that *open_device* returns; None uses the GPU."""
        self._open_device = open_device

    def problem(self, recipe: Recipe) -> str | None:
        """Return why this machine cannot run the engine, or None when it can."""
        return cuda_problem(recipe.precision) if self._open_device is None else None

    def parts(self, request: EngineRequest) -> dict[str, str]:  # noqa: ARG002 - the role's signature
        """Return the versions of torch, CUDA and cuDNN, and the GPU's name and compute capability."""
        import torch

        parts = {"torch": torch.__version__, "cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
        if not torch.cuda.is_available():
            return parts | {"gpu": "none"}
        major, minor = torch.cuda.get_device_capability()
        return parts | {"gpu": torch.cuda.get_device_name(), "compute_capability": f"{major}.{minor}"}

    def compile(
        self,
        request: EngineRequest,  # noqa: ARG002 - the role's signature
        modules: Mapping[str, nn.Module],  # noqa: ARG002
        answers: Answers,  # noqa: ARG002
        folder: Path,  # noqa: ARG002
    ) -> dict[str, JsonValue]:
        """Write nothing: a captured graph holds addresses of this process and cannot be stored."""
        return {}

    def load(self, request: EngineRequest, folder: Path, facts: Mapping[str, JsonValue]) -> CudaEngine:  # noqa: ARG002 - the role's
        """Build the modules from the bundle, move them to the GPU and capture the graphs of one stream.

        Raises:
            EngineError: when the GPU fails, for example when it has too little memory.
            ModelError: when weights are missing or do not fit.
        """
        from streamav.engines.modules import build_modules

        modules = build_modules(request.bundle, request.settings.weights_dir)
        try:
            engine = CudaEngine(modules, request.bundle.card, request.recipe, (self._open_device or _gpu)())
        except RuntimeError as exc:  # torch raises this type for errors of CUDA, also for too little memory
            msg = f"the model {request.bundle.card.name} cannot be moved to the GPU: {exc}"
            raise EngineError(msg) from exc
        engine.warm_up()
        return engine


def cuda_problem(precision: Precision = "fp32") -> str | None:
    """Return in half a sentence why CUDA cannot be used here and what to do, or None when it can; never raises.

    torch is imported only where a driver is loaded.
    """
    if not has_nvidia_driver():
        return "no NVIDIA driver is loaded here (a container must be started with the GPU); use --engine cpu"
    try:
        import torch
    except (ImportError, OSError) as exc:
        return f"torch cannot be imported ({reason_of(exc)}); install torch with CUDA"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA; install the CUDA build of the same version"
    if not torch.cuda.is_available():
        hint = f"check that CUDA_VISIBLE_DEVICES does not hide it and that the driver is new enough for CUDA {torch.version.cuda}"
        return f"torch sees no GPU; {hint}"
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name()} has no bfloat16; use --precision fp16"
    return None


def open_eager_cuda(bundle: Bundle, settings: ModelSettings) -> TorchEngine:
    """Open plain eager float32 torch on the GPU: the reference of CUDA's rows in the benchmark, never the engine of a run.

    torch's own defaults hold, so that its convolutions may use TF32: this is the speed of a model after `.to("cuda")` and no other change.

    Raises:
        EngineError: when there is no GPU.
        ModelError: when weights are missing or do not fit.
    """
    problem = cuda_problem()
    if problem is not None:
        raise EngineError(problem)
    from streamav.engines.modules import build_modules
    from streamav.engines.recipe import load_recipe
    from streamav.engines.torch_engine import TorchEngine

    engine = TorchEngine(build_modules(bundle, settings.weights_dir), load_recipe("torch-fp32").batch, "cuda")
    engine.name = "torch_cuda-fp32"
    return engine


def _gpu() -> Device:
    from streamav.engines.cuda_device import CudaDevice

    return CudaDevice()


def _ports(card: ModelCard) -> dict[str, tuple[Port, ...]]:
    """Return the shape and type of each input of each network."""
    import torch

    from streamav.networks.options import VSCGOptions

    grid = (card.visual.grid, card.visual.grid, card.visual.size)
    window = (WINDOW_SEGMENTS, VSCGOptions.from_dict(card.localizer.options).segment_size)
    ports = (
        (((*card.visual.picture, 3), torch.uint8),),
        ((PATCH, torch.float32),),
        (((card.audio.size,), torch.float32), (grid, torch.float32)),
        ((window, torch.float32), (window, torch.float32)),
    )
    return dict(zip(NETWORK_NAMES, ports, strict=True))
