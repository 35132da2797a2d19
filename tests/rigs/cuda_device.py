"""A stand-in for a CUDA device that runs on the CPU and is as late as a GPU can be: all work runs, in order, in `wait`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

UNWRITTEN = 77
"""Value of page-locked memory before the first write."""


@dataclass(eq=False)
class StandInDevice:
    """Implements the role Device; `calls` lists the calls in order. With *deaf*, `wait` does not run the work."""

    deaf: bool = False
    calls: list[str] = field(default_factory=list)
    prepared: list[tuple[str, int]] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=lambda: {"pinned": 0, "memory": 0})
    """Number of elements allocated, for each kind of memory."""
    given: list[Callable[[], object]] = field(default_factory=list)
    """Work that has not run yet."""

    def place(self, module: nn.Module) -> nn.Module:
        return module

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        memory = torch.full(shape, UNWRITTEN, dtype=dtype)
        self.taken["pinned"] += memory.numel()
        return memory

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        memory = torch.zeros(shape, dtype=dtype)
        self.taken["memory"] += memory.numel()
        return memory

    def prepare(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], tuple[Tensor, ...]]:
        """Return a program that reads fixed inputs and writes its outputs into fixed memory, as a CUDA graph does."""
        self.calls.append("prepare")
        self.prepared.append((name, len(inputs[0])))
        own = _answers(module, inputs)

        def run() -> None:
            for mine, output in zip(own, _answers(module, inputs), strict=True):
                mine.copy_(output)

        def launch() -> tuple[Tensor, ...]:
            self.calls.append("launch")
            self.given.append(run)
            return own

        return launch

    def copy(self, target: Tensor, source: Tensor) -> None:
        assert target.shape == source.shape
        self.calls.append("copy")
        self.given.append(lambda: target.copy_(source))

    def wait(self) -> None:
        self.calls.append("wait")
        if not self.deaf:
            given, self.given = self.given, []
            for work in given:
                work()


def _answers(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    outputs = module(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)
