"""A stand-in compiler that needs no GPU: its "engine" is the exported program itself, which runs on the CPU.

The process keeps the programs, and an engine's bytes name one of them: to save and load a program of 1500 nodes takes many seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.export import ExportedProgram

from streamav.engines.recipe import Precision

_PROGRAMS: dict[bytes, Callable[..., Tensor | Sequence[Tensor]]] = {}
"""Every program that was built in this process, by the bytes of its engine."""


@dataclass
class StandInCompiler:
    """Builds, loads and runs programs as Torch-TensorRT does for the maker, and records the calls."""

    capability: str = "8.6"
    libraries: str = "torch 2.13.0 torch-tensorrt 2.13.0 tensorrt 11.0.0"
    device: str = "cpu"
    trouble: str | None = None
    """Return value of problem()."""
    failure: Exception | None = None
    """Exception that build() raises, in call number *failing*; None for no failure."""
    failing: int = 1
    """Number of the call of build() that raises *failure*, counted from 1."""
    shift: float = 0.0
    """Added to every output, to build a wrong engine."""
    built: list[tuple[tuple[int, int, int], int]] = field(default_factory=list)
    """Batch sizes (three numbers) and workspace in bytes of each call of build()."""
    batches: list[int] = field(default_factory=list)
    """Batch size of each run."""

    def problem(self, precision: Precision) -> str | None:
        return self.trouble

    def parts(self) -> dict[str, str]:
        return {"libraries": self.libraries, "compute_capability": self.capability, "gpu": "Stand-in"}

    def build(self, program: ExportedProgram, batches: tuple[int, int, int], workspace_bytes: int) -> bytes:
        self.built.append((batches, workspace_bytes))
        if self.failure is not None and len(self.built) == self.failing:
            raise self.failure
        data = f"engine {len(_PROGRAMS)}".encode()
        _PROGRAMS[data] = program.module(check_guards=False)
        return data

    def open(self, data: bytes, inputs: Sequence[str], outputs: int) -> Callable[..., Tensor | Sequence[Tensor]]:
        module = _PROGRAMS[data]

        def run(*tensors: Tensor) -> Tensor | Sequence[Tensor]:
            assert len(tensors) == len(inputs)
            self.batches.append(len(tensors[0]))
            given = module(*tensors)
            if isinstance(given, Tensor):
                return given + self.shift
            assert len(given) == outputs
            return tuple(tensor + self.shift for tensor in given)

        return run
