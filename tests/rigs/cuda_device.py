"""A device of the CPU that is as late as a GPU may be: each lane keeps its work until somebody waits, and no order holds but events'."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor, nn

from streamav.engines.cuda_pipeline import Lane, Program

UNWRITTEN = 77
"""What page-locked memory holds before it is written."""


@dataclass(eq=False)
class StandInEvent:
    done: bool = False


@dataclass(eq=False)
class StandInProgram:
    """Runs on the memory it was prepared with, and answers in memory of its own, as a graph does."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(output.shape[1:]) for output in self.outputs)


Work = Callable[[], object] | StandInEvent
"""Something to do, or an event to wait for."""


@dataclass(eq=False)
class StandInDevice:
    """The role Device; `calls` tells in which order it was asked, `deaf` leaves out the waiting of a lane."""

    seed: int = 0
    deaf: frozenset[Lane] = frozenset()
    calls: list[str] = field(default_factory=list)
    prepared: list[tuple[str, int]] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=lambda: {"host": 0, "memory": 0})
    """Numbers of which memory was given, of each kind."""

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311
        self._lanes: dict[Lane, deque[Work]] = {lane: deque() for lane in Lane}

    def place(self, module: nn.Module) -> nn.Module:
        return module

    @torch.inference_mode()
    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        given = torch.full(shape, UNWRITTEN, dtype=dtype)
        self.taken["host"] += given.numel()
        return given

    @torch.inference_mode()
    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        given = torch.zeros(shape, dtype=dtype)
        self.taken["memory"] += given.numel()
        return given

    @torch.inference_mode()
    def prepare(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> StandInProgram:
        self.calls.append("prepare")
        self.prepared.append((name, len(inputs[0])))
        outputs = module(*inputs)
        return StandInProgram(module, inputs, outputs if isinstance(outputs, tuple) else (outputs,))

    def launch(self, program: Program) -> tuple[Tensor, ...]:
        assert isinstance(program, StandInProgram)
        self.calls.append("launch")

        def run() -> None:
            outputs = program.module(*program.inputs)
            for own, output in zip(program.outputs, outputs if isinstance(outputs, tuple) else (outputs,), strict=True):
                own.copy_(output)

        self._lanes[Lane.COMPUTE].append(run)
        return program.outputs

    def copy(self, lane: Lane, target: Tensor, source: Tensor) -> None:
        assert target.shape == source.shape
        self.calls.append(f"copy {lane.value}")
        self._lanes[lane].append(lambda: target.copy_(source))

    def record(self, lane: Lane) -> StandInEvent:
        event = StandInEvent()
        self._lanes[lane].append(lambda: setattr(event, "done", True))
        return event

    def wait(self, lane: Lane, event: object) -> None:
        assert isinstance(event, StandInEvent)
        if lane not in self.deaf:
            self._lanes[lane].append(event)

    def join(self, event: object) -> None:
        assert isinstance(event, StandInEvent)
        self.calls.append("join")
        while not event.done:
            self._step()

    def drain(self) -> None:
        self.calls.append("drain")
        for queue in self._lanes.values():
            queue.clear()

    @torch.inference_mode()
    def _step(self) -> None:
        """Do the next work of a lane chosen by chance, among those that need not wait."""
        ready = [queue for queue in self._lanes.values() if queue and not (isinstance(queue[0], StandInEvent) and not queue[0].done)]
        work = self._random.choice(ready).popleft()
        if not isinstance(work, StandInEvent):
            work()
