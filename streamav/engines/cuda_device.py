"""Runs work on an NVIDIA GPU through torch.cuda: one stream, page-locked memory, captured graphs.

Its calls are checked against torch's signatures and run with stand-ins; `make test-gpu` runs the tests that need a GPU, and docs/cuda.md
states which of them passed on one.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from streamav.engines.cuda_graphs import Program

__all__ = ["CudaDevice"]

WARM_UPS = 3
"""Plain runs before a capture: cuDNN chooses algorithms and libraries allocate workspaces, which must not happen in a capture.

Source: pytorch/pytorch docs/source/notes/cuda.rst, "CUDA Graphs", whose examples warm up three times on a side stream.
"""

_log = logging.getLogger(__name__)


class CudaDevice:
    """Fills the role Device with one GPU."""

    def __init__(self, device: torch.device | None = None) -> None:
        """Use *device*, or the GPU that is torch's current one."""
        self._device = torch.device("cuda", torch.cuda.current_device()) if device is None else device
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        # One memory pool for all graphs: all graphs run in one stream, so that each may use the memory of the one before.
        self._pool = torch.cuda.graph_pool_handle()
        self._uncaptured: set[str] = set()
        self.graphs = 0
        """Number of graphs captured so far."""

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the GPU."""
        module = module.to(self._device)
        torch.cuda.synchronize(self._device)  # torch copies in its own stream; ours would not wait for it
        return module

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return page-locked memory of the host."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return zeros on the GPU."""
        zeros = torch.zeros(shape, dtype=dtype, device=self._device)
        torch.cuda.synchronize(self._device)  # for the same reason as in place()
        return zeros

    def prepare(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Program:
        """Capture a graph of *module*; when that fails, warn once for each network and launch it without a graph from then on."""
        # This `with` leaves the stream also after a failed capture; torch.cuda.graph.__exit__ does not.
        with torch.cuda.stream(self._stream), _ieee_float32():
            for _ in range(WARM_UPS):
                _answers(module, inputs)
            if name not in self._uncaptured:
                try:
                    return self._captured(module, inputs)
                except RuntimeError as exc:
                    self._uncaptured.add(name)
                    self._pool = torch.cuda.graph_pool_handle()  # torch leaves the old one open (CUDAGraph.cpp, capture_end)
                    _log.warning("engine: network %s runs without CUDA graphs, since its capture failed: %s", name, exc)

        def launch() -> tuple[Tensor, ...]:
            with torch.cuda.stream(self._stream), _ieee_float32():
                return _answers(module, inputs)

        return launch

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Start a copy and return without waiting for its end; the host's side is page-locked."""
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def wait(self) -> None:
        """Block the host until the stream's work is done, asleep, so that capture has the core; spinning would save only microseconds."""
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        event.synchronize()

    def _captured(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Program:
        graph = torch.cuda.CUDAGraph()
        # A shared pool needs the same stream in each capture. "thread_local": GPU work of other threads does not break the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            outputs = _answers(module, inputs)
        self.graphs += 1

        def replay() -> tuple[Tensor, ...]:
            with torch.cuda.stream(self._stream):
                graph.replay()
            return outputs

        return replay


@contextmanager
def _ieee_float32() -> Iterator[None]:
    """Compute float32 in float32, not in TF32 (10 bits), and let cuDNN measure which algorithm is fastest.

    torch's default is TF32 in convolutions and float32 elsewhere. A recipe with fp32 asks for float32; a recipe that may round uses
    fp16, which has the same 10 bits at twice the speed (NVIDIA's figures for tensor cores). The choice is made when a graph is captured
    and stays in the graph. The flags hold for the whole process: other threads that compute at the same time see them too.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _answers(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    outputs = module(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)
