"""Runs a model's networks in ONNX Runtime on the CPU, from files that were exported once and are kept in the engine cache.

When the files are there, no torch is imported: a start takes a fraction of a second and a fraction of the memory.
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from streamav.engines.batching import BoundedNetworks, ParallelBatches
from streamav.engines.recipe import NETWORK_NAMES
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue
    from torch import nn

    from streamav.engines.making import EngineRequest
    from streamav.engines.parity import Answers
    from streamav.engines.recipe import Recipe
    from streamav.protocols import Network

__all__ = ["OnnxEngine", "OnnxMaker", "OnnxNetwork"]

ONE_THREAD = frozenset({"encode_segment", "localize_window"})
"""Networks of many small steps: waking a second thread at each costs more than it gives, so batches are shared out whole."""
LIBRARIES = ("onnxruntime", "torch", "numpy")


class OnnxNetwork:
    """One ONNX file, loaded."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load *path* with *threads* threads.

        Raises:
            EngineError: when ONNX Runtime refuses the file.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads take the cores from capture and from other sources between two runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._name = path.stem
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # its exceptions have no common base but Exception
            msg = f"ONNX Runtime cannot load {path}: {exc}"
            raise EngineError(msg) from exc
        self._inputs = [port.name for port in self._session.get_inputs()]

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network.

        Raises:
            EngineError: when the inputs have not the shapes and types that the network takes.
        """
        try:
            # Copies only what is not contiguous.
            feed = {name: np.ascontiguousarray(array) for name, array in zip(self._inputs, inputs, strict=True)}
            return tuple(self._session.run(None, feed))
        except Exception as exc:  # its exceptions have no common base but Exception
            shapes = [f"{array.dtype} {array.shape}" for array in inputs]
            msg = f"network {self._name} cannot run on inputs of {shapes}: {exc}"
            raise EngineError(msg) from exc


class OnnxEngine(BoundedNetworks):
    """The four networks of a model in ONNX Runtime; windows have ten segments."""

    def __init__(self, folder: Path, recipe: Recipe, threads: int) -> None:
        """Load the networks.

        Args:
            folder: holds one .onnx file a network.
            recipe: how much runs at once.
            threads: of the two encoders.
        """
        self.name = f"onnxruntime-{recipe.precision}"
        super().__init__({name: _load(folder / f"{name}.onnx", threads) for name in NETWORK_NAMES}, recipe.batch)


def _load(path: Path, threads: int) -> Network:
    if path.stem in ONE_THREAD:
        return ParallelBatches(OnnxNetwork(path, 1), threads)
    return OnnxNetwork(path, threads)


class OnnxMaker:
    """Fills the role Maker: ONNX files, exported once, run in ONNX Runtime."""

    def problem(self, recipe: Recipe) -> str | None:  # noqa: ARG002 - the role's signature
        """Say why it cannot be used: never, the package is one of ours."""
        return None

    def parts(self, request: EngineRequest) -> dict[str, str]:  # noqa: ARG002 - the role's signature
        """Give the versions of the libraries that exporting and running depend on."""
        return {"libraries": " ".join(f"{name} {_version(name)}" for name in LIBRARIES)}

    def compile(
        self,
        request: EngineRequest,  # noqa: ARG002 - the role's signature
        modules: Mapping[str, nn.Module],
        answers: Answers,
        folder: Path,
    ) -> dict[str, JsonValue]:
        """Export the four networks.

        Raises:
            EngineError: when a network holds something that ONNX cannot say.
        """
        from streamav.engines.onnx_export import export_onnx

        for name in NETWORK_NAMES:
            export_onnx(modules[name], answers.inputs[name], folder / f"{name}.onnx", len(answers.outputs[name]))
        return {}

    def load(self, request: EngineRequest, folder: Path, facts: Mapping[str, JsonValue]) -> OnnxEngine:  # noqa: ARG002 - the role's
        """Open the files.

        Raises:
            EngineError: when ONNX Runtime refuses one.
        """
        return OnnxEngine(folder, request.recipe, request.settings.threads or len(os.sched_getaffinity(0)))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
