"""Wraps all calls of Torch-TensorRT in one small object, and checks whether it can be used here.

**Not run on TensorRT**: its libraries and a GPU were not available where this was written. All arguments passed to it are checked against
the signatures of torch-tensorrt 2.11 to 2.14 by a test (tests/unit/test_tensorrt_facts.py), which reads this file.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from streamav.engines.machine import has_nvidia_driver, library_version, library_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.export import ExportedProgram

    from streamav.engines.recipe import Precision

__all__ = ["Compiler", "TorchTensorRT", "tensorrt_problem"]

OLDEST, NEWEST = (2, 11), (2, 14)
"""Oldest and newest version of torch-tensorrt whose signatures and converters were read."""
LIBRARIES = ("torch", "torch-tensorrt", "tensorrt", "tensorrt-cu13", "tensorrt-cu12")
"""Packages whose versions decide whether an engine fits. TensorRT has three names: torch-tensorrt 2.14 does not bring the first one."""
BFLOAT16_FROM = (8, 0)
"""Compute capability from which a GPU multiplies bfloat16. Source: NVIDIA TensorRT support matrix (Ampere and later)."""
_INSTALL = "pip install 'streamav[tensorrt]' --extra-index-url https://pypi.nvidia.com"


class Compiler(Protocol):
    """The compiler that the engine needs; tests fill this role with a compiler that needs no GPU."""

    @property
    def device(self) -> str:
        """Return the device on which engines run, by torch's name."""

    def problem(self, precision: Precision) -> str | None:
        """Return why it cannot be used here, in half a sentence, or None when it can."""

    def parts(self) -> dict[str, str]:
        """Return the versions and the GPU on which an engine depends."""

    def build(self, program: ExportedProgram, batches: tuple[int, int, int], workspace_bytes: int) -> bytes:
        """Build one engine from a program.

        Args:
            program: all its inputs have one floating type; the first axis is the batch.
            batches: smallest, usual and largest batch.
            workspace_bytes: memory for the builder; 0 lets it choose.
        """

    def open(self, data: bytes, inputs: Sequence[str], outputs: int) -> Callable[..., Tensor | Sequence[Tensor]]:
        """Load an engine.

        Args:
            data: the bytes that build() returned.
            inputs: names of the program's inputs, in order.
            outputs: number of arrays that the engine returns.
        """


class TorchTensorRT:
    """The real compiler. Not run on TensorRT (see the module's docstring)."""

    device = "cuda"

    def problem(self, precision: Precision) -> str | None:
        """Return what is missing, or None: package, driver, GPU, libraries, or bfloat16 in the GPU."""
        problem = tensorrt_problem()
        if problem is None and precision == "bf16":
            import torch

            capability = torch.cuda.get_device_capability()
            if capability < BFLOAT16_FROM:
                name = torch.cuda.get_device_name()
                return f"bfloat16 needs a GPU of compute capability 8.0, {name} has {capability[0]}.{capability[1]}; use --precision fp16"
        return problem

    def parts(self) -> dict[str, str]:
        """Return the versions of torch, torch-tensorrt and TensorRT, and the GPU's capability and name: an engine fits no others."""
        import torch

        major, minor = torch.cuda.get_device_capability()
        return {
            "libraries": library_versions(LIBRARIES),
            "compute_capability": f"{major}.{minor}",
            "gpu": torch.cuda.get_device_name(),
        }

    def build(self, program: ExportedProgram, batches: tuple[int, int, int], workspace_bytes: int) -> bytes:
        """Convert the whole program into one serialized engine; an operator without a converter is an error."""
        import torch
        import torch_tensorrt

        values = [program.graph_module.graph.find_nodes(op="placeholder", target=name)[0].meta["val"] for name in _names(program)]
        shapes = [
            torch_tensorrt.Input(
                min_shape=(batches[0], *value.shape[1:]),
                opt_shape=(batches[1], *value.shape[1:]),
                max_shape=(batches[2], *value.shape[1:]),
                dtype=value.dtype,
            )
            for value in values
        ]
        # The package stores timings in a folder of /tmp with a known name, which another user could have filled.
        with tempfile.TemporaryDirectory() as folder:
            engine: bytes = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                program,
                arg_inputs=shapes,
                workspace_size=workspace_bytes,
                disable_tf32=values[0].dtype == torch.float32,  # float32 must not become TF32
                timing_cache_path=str(Path(folder) / "timing.bin"),
            )
        return bytes(engine)

    def open(self, data: bytes, inputs: Sequence[str], outputs: int) -> Callable[..., Tensor | Sequence[Tensor]]:
        """Load an engine; the bytes are TensorRT's own format, which contains no Python code."""
        from torch_tensorrt.dynamo.runtime import TorchTensorRTModule

        module: Callable[..., Tensor | Sequence[Tensor]] = TorchTensorRTModule(
            serialized_engine=data,
            input_binding_names=list(inputs),
            output_binding_names=[f"output{place}" for place in range(outputs)],
        )
        return module


@functools.cache
def tensorrt_problem() -> str | None:
    """Return why TensorRT cannot be used here, in half a sentence, or None when it can; the result is cached.

    Cheap checks come first: without a driver nothing is imported.
    """
    if importlib.util.find_spec("torch_tensorrt") is None:
        return f"the package torch-tensorrt is not installed; on a machine with an NVIDIA GPU run: {_INSTALL}"
    if not has_nvidia_driver():
        return "no NVIDIA driver is loaded here, and TensorRT runs on NVIDIA GPUs only"
    import torch

    if not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU; install its CUDA build, or make the GPU visible to this process"
    own, torchs = _release(library_version("torch-tensorrt")), _release(torch.__version__)
    if not OLDEST <= own <= NEWEST or own != torchs:
        versions = f"torch-tensorrt {'.'.join(map(str, own))} and torch {'.'.join(map(str, torchs))}"
        return f"torch-tensorrt must be 2.11 to 2.14 and torch of the same version, got {versions}; run: {_INSTALL}"
    try:
        # The import prints when it fails, and standard output is reserved for events.
        with contextlib.redirect_stdout(io.StringIO()):
            import torch_tensorrt  # noqa: F401
    except Exception as exc:  # noqa: BLE001 - a bare Exception without libnvinfer, an OSError without the GPU part of torch
        return f"torch-tensorrt cannot be loaded ({' '.join(str(exc).split())}); TensorRT's libraries are NVIDIA's own, run: {_INSTALL}"
    return None


def _names(program: ExportedProgram) -> list[str]:
    return [str(name) for name in program.graph_signature.user_inputs]


def _release(version: str) -> tuple[int, ...]:
    """Return (2, 13) for "2.13.0+cpu", and an empty tuple for text that is no version."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
