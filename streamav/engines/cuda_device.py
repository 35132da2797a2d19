"""Speaks to an NVIDIA GPU through torch.cuda: one stream, page-locked memory, captured graphs.

Not run on a GPU: the machine it was written on has none. Its calls are checked against torch's signatures and run with
stand-ins; `make test-gpu` holds what is to be run on a GPU.
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
"""Plain runs before a capture: cuDNN chooses its algorithms and libraries take their workspaces, which a capture must not do.

Source: pytorch/pytorch docs/source/notes/cuda.rst, "CUDA Graphs", whose examples warm up three times on a side stream.
"""

log = logging.getLogger(__name__)


class CudaDevice:
    """The role Device on one GPU."""

    def __init__(self, device: torch.device | None = None) -> None:
        """Use *device*, or the GPU that is torch's current one."""
        self._device = torch.device("cuda", torch.cuda.current_device()) if device is None else device
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        # One pool for all graphs: what one needs while it runs, the next may use after it, since all run in one stream.
        self._pool = torch.cuda.graph_pool_handle()
        self._uncaptured: set[str] = set()
        self.graphs = 0
        """How many graphs have been captured."""

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the GPU."""
        module = module.to(self._device)
        torch.cuda.synchronize(self._device)  # torch's own stream did it; ours would not wait for that one
        return module

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return page-locked memory of the host."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return zeros on the GPU."""
        zeros = torch.zeros(shape, dtype=dtype, device=self._device)
        torch.cuda.synchronize(self._device)  # as in place()
        return zeros

    def prepare(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Program:
        """Capture a graph of *module*; when that fails, say so once for each network and launch it plainly from then on."""
        # The with leaves the stream even when a failed capture does not (torch.cuda.graph.__exit__).
        with torch.cuda.stream(self._stream), _ieee_float32():
            for _ in range(WARM_UPS):
                _answers(module, inputs)
            if name not in self._uncaptured:
                try:
                    return self._captured(module, inputs)
                except RuntimeError as exc:
                    self._uncaptured.add(name)
                    self._pool = torch.cuda.graph_pool_handle()  # torch leaves the old one open (CUDAGraph.cpp, capture_end)
                    log.warning("engine: network %s runs without CUDA graphs, its capture failed: %s", name, exc)

        def launch() -> tuple[Tensor, ...]:
            with torch.cuda.stream(self._stream), _ieee_float32():
                return _answers(module, inputs)

        return launch

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy without waiting; the host's side is page-locked."""
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def wait(self) -> None:
        """Make the host wait, asleep, so that capture and other sources have the core; spinning would save microseconds."""
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        event.synchronize()

    def _captured(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Program:
        graph = torch.cuda.CUDAGraph()
        # A pool asks for the same stream each time. "thread_local": what other threads do on the GPU does not spoil the capture.
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

    torch's default is TF32 in convolutions and float32 elsewhere. A recipe that says fp32 means it; one that may round takes
    fp16, which has the same 10 bits at twice the speed (NVIDIA's figures for tensor cores). Chosen when a graph is captured
    and frozen in it. The flags are the process's: other threads that compute in these moments see them.
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
