"""Speaks to an NVIDIA GPU through torch.cuda: streams, events, page-locked memory and captured graphs.

Not run on a GPU: the machine it was written on has none. Its calls are checked against torch's signatures and run with
stand-ins; `make test-gpu` holds what is to be run on a GPU. It does not know what is copied when (`cuda_pipeline.py`).
"""

from __future__ import annotations

import contextlib
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch

from streamav.engines.cuda_pipeline import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from streamav.engines.cuda_pipeline import Program

__all__ = ["CudaDevice", "CudaProgram"]

WARM_UPS = 3
"""Plain runs before a capture: cuDNN chooses its algorithms and libraries take their workspaces, which a capture must not do.

Source: pytorch/pytorch docs/source/notes/cuda.rst, "CUDA Graphs", whose examples warm up three times on a side stream.
"""

log = logging.getLogger(__name__)


class CudaProgram:
    """One network for one batch size: a captured graph, or plain launches where it could not be captured."""

    def __init__(
        self, module: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], graph: torch.cuda.CUDAGraph | None
    ) -> None:
        """Keep what a launch needs; *outputs* are the graph's own memory."""
        self.shapes = tuple(tuple(output.shape[1:]) for output in outputs)
        self._module = module
        self._inputs = inputs
        self._graph = graph
        self._outputs = outputs if graph is not None else ()

    def launch(self) -> tuple[Tensor, ...]:
        """Run in the current stream."""
        if self._graph is None:
            with _ieee_float32():
                return _answers(self._module, self._inputs)
        self._graph.replay()
        return self._outputs


class CudaDevice:
    """The role Device on one GPU."""

    def __init__(self, device: torch.device | None = None) -> None:
        """Use *device*, or the GPU that is torch's current one."""
        self._device = torch.device("cuda", torch.cuda.current_device()) if device is None else device
        self._streams = {
            lane: torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            for lane in Lane
        }
        # One pool for all graphs: what one needs while it runs, the next may use after it. No output outlives its launch.
        self._pool = torch.cuda.graph_pool_handle()
        self._uncaptured: set[str] = set()
        self.graphs = 0
        """How many graphs have been captured."""

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the GPU."""
        module = module.to(self._device)
        torch.cuda.synchronize(self._device)  # torch's own stream did it; ours would not wait for that one
        return module

    @torch.inference_mode()
    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give page-locked memory of the host."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    @torch.inference_mode()
    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give zeros on the GPU."""
        zeros = torch.zeros(shape, dtype=dtype, device=self._device)
        torch.cuda.synchronize(self._device)  # as in place()
        return zeros

    @torch.inference_mode()
    def prepare(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> CudaProgram:
        """Capture a graph of *module*; when that fails, say so once for each network and launch it plainly from then on."""
        # The with leaves the stream even when a failed capture does not (torch.cuda.graph.__exit__).
        with torch.cuda.stream(self._streams[Lane.COMPUTE]), _ieee_float32():
            for _ in range(WARM_UPS):
                outputs = _answers(module, inputs)
            if name not in self._uncaptured:
                try:
                    return self._captured(module, inputs)
                except RuntimeError as exc:
                    self._uncaptured.add(name)
                    self._pool = torch.cuda.graph_pool_handle()  # torch leaves the old one open (CUDAGraph.cpp, capture_end)
                    log.warning("engine: network %s runs without CUDA graphs, its capture failed: %s", name, exc)
            return CudaProgram(module, inputs, outputs, None)

    def _captured(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> CudaProgram:
        graph = torch.cuda.CUDAGraph()
        # A pool asks for the same stream each time. "thread_local": what other threads do on the GPU does not spoil the capture.
        stream = self._streams[Lane.COMPUTE]
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            outputs = _answers(module, inputs)
        self.graphs += 1
        return CudaProgram(module, inputs, outputs, graph)

    @torch.inference_mode()
    def launch(self, program: Program) -> tuple[Tensor, ...]:
        """Run what prepare() gave."""
        with torch.cuda.stream(self._streams[Lane.COMPUTE]):
            return cast("CudaProgram", program).launch()

    @torch.inference_mode()
    def copy(self, lane: Lane, target: Tensor, source: Tensor) -> None:
        """Copy without waiting; the host's side is page-locked."""
        with torch.cuda.stream(self._streams[lane]):
            target.copy_(source, non_blocking=True)

    def record(self, lane: Lane) -> torch.cuda.Event:
        """Mark the end of what the lane has to do."""
        # blocking: whoever joins it sleeps, so that capture and other sources have the core; spinning would save microseconds.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._streams[lane])
        return event

    def wait(self, lane: Lane, event: object) -> None:
        """Make the lane wait; the host does not."""
        self._streams[lane].wait_event(cast("torch.cuda.Event", event))

    def join(self, event: object) -> None:
        """Make the host wait."""
        cast("torch.cuda.Event", event).synchronize()

    def drain(self) -> None:
        """Let all lanes end, whatever comes of it."""
        with contextlib.suppress(RuntimeError):
            torch.cuda.synchronize(self._device)


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
