"""Runs one network on a device that works behind the host's back: three lanes, rotating buffers, one wait at the end.

    host      stage 0   stage 1   stage 2 ...                                     wait for the last download
    upload              up 0      up 1      up 2
    compute                       run 0     run 1     run 2
    download                                down 0    down 1    down 2

Lanes run at once; what keeps them from overwriting each other are events that one lane waits for, never the host. The
host writes page-locked rows once for each round, and reads results after the round's only wait. This module says which
copy waits for what; what a copy, an event or a launch is, is the business of the `Device` (`cuda_device.py` for a GPU).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from streamav.engines.cuda_plan import bucket_sizes, cut, rounds
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from streamav.engines.cuda_plan import Piece

__all__ = ["SLOTS", "Device", "Lane", "PipelinedNetwork", "Port", "Program"]

SLOTS = 2
"""Buffers on the device that take turns: one is filled or emptied while the network works on the other's contents."""

Port = tuple[tuple[int, ...], "torch.dtype"]
"""Shape of one input without the batch axis, and its type: uint8 or float32."""


class Lane(Enum):
    """Work of one lane is done in the order in which it was given; lanes know nothing of each other but events."""

    UPLOAD = "upload"
    COMPUTE = "compute"
    DOWNLOAD = "download"


class Program(Protocol):
    """A network made ready for one batch size, always on the same input memory."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of its outputs without the batch axis; all are float32."""


class Device(Protocol):
    """What the order of work is spelled in. All but place, host, memory, prepare, join and drain return at once."""

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module's weights to the device and give it."""

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give page-locked memory of the host."""

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give memory of the device, all zeros."""

    def prepare(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Program:
        """Make *module* ready to run on what then lies in *inputs*."""

    def launch(self, program: Program) -> tuple[Tensor, ...]:
        """Run a program in the lane COMPUTE; its outputs hold until the next launch in that lane."""

    def copy(self, lane: Lane, target: Tensor, source: Tensor) -> None:
        """Copy in a lane."""

    def record(self, lane: Lane) -> object:
        """Give an event that happens when all work given to the lane so far is done."""

    def wait(self, lane: Lane, event: object) -> None:
        """Let what is given to the lane from now on begin after *event*."""

    def join(self, event: object) -> None:
        """Block the host until *event* happened."""

    def drain(self) -> None:
        """Block the host until nothing is under way, after an error; never raises."""


class _Slot:
    """One of the rotating buffers, and the events after which it may be written again."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.read: object | None = None
        """The network's own input memory has what was in `inputs`."""
        self.fetched: object | None = None
        """The host has what was in `outputs`."""


class PipelinedNetwork:
    """A network (role Network) with one program for each batch size of `bucket_sizes`.

    Rows beyond a piece's count hold what an earlier batch left there (zeros at first): the networks treat each row alone,
    so they cost no copy and change nothing, and are never given back.
    """

    def __init__(
        self, name: str, module: nn.Module, ports: Sequence[Port], most: int, device: Device, lock: AbstractContextManager[object]
    ) -> None:
        """Put the module on the device; programs are prepared when a batch first needs one.

        Args:
            name: of the network, for messages.
            module: gives one or several float32 tensors.
            ports: one for each input.
            most: inputs at once, at least 1.
            device: does the work.
            lock: shared by all networks of the device; graphs share memory, so that one call runs at a time.
        """
        self._name, self._ports, self._most = name, tuple(ports), most
        self._device, self._lock = device, lock
        self._module = device.place(module)
        self._inputs = [device.memory((most, *shape), dtype) for shape, dtype in self._ports]
        self._slots = [_Slot() for _ in range(SLOTS)]
        for slot in self._slots:
            slot.inputs = [device.memory((most, *shape), dtype) for shape, dtype in self._ports]
        self._programs: dict[int, Program] = {}
        self._sent: list[Tensor] = []
        self._came: list[Tensor] = []

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network on a batch of any size.

        Raises:
            EngineError: when the inputs have not the shapes and types that the network takes, or the device fails.
        """
        self._check(inputs)
        with self._lock:
            try:
                return self._run(inputs)
            except RuntimeError as exc:  # torch's errors of CUDA, out of memory among them, are of this type
                self._device.drain()
                for slot in self._slots:
                    slot.read = slot.fetched = None  # nothing is under way, and events of a failed call may never happen
                msg = f"network {self._name} failed on the device, in pieces of at most {self._most} inputs: {exc}"
                raise EngineError(msg) from exc

    def warm_up(self, count: int) -> None:
        """Prepare the programs that a batch of *count* inputs will need.

        Raises:
            EngineError: when the device fails.
        """
        self(*(np.zeros((count, *shape), np.uint8 if dtype == torch.uint8 else np.float32) for shape, dtype in self._ports))

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        wanted = [(str(dtype).removeprefix("torch."), shape) for shape, dtype in self._ports]
        got = [(str(array.dtype), tuple(array.shape[1:])) for array in inputs]
        lengths = {len(array) for array in inputs if array.ndim}
        if got != wanted or len(lengths) != 1 or 0 in lengths:
            shapes = [f"{array.dtype} {array.shape}" for array in inputs]
            takes = [f"{kind} (n, {', '.join(map(str, shape))})" for kind, shape in wanted]
            msg = f"network {self._name} cannot run on inputs of {shapes}; it takes {takes} with the same n of at least 1"
            raise EngineError(msg)

    def _run(self, inputs: tuple[NDArray[np.generic], ...]) -> tuple[NDArray[np.float32], ...]:
        pieces = cut(len(inputs[0]), self._most)
        programs = {bucket: self._program(bucket) for bucket in sorted({piece.bucket for piece in pieces})}
        shapes = programs[pieces[0].bucket].shapes
        results = tuple(np.empty((len(inputs[0]), *shape), np.float32) for shape in shapes)
        for turn in rounds(pieces):
            first, last = turn[0].first, turn[-1].last
            self._reserve(last - first, shapes)
            for place, piece in enumerate(turn):
                fetched = self._give(self._slots[place % SLOTS], programs[piece.bucket], piece, inputs, first)
            self._device.join(fetched)  # the last download; those before it are in the same lane
            for result, came in zip(results, self._came, strict=True):
                result[first:last] = came[: last - first].numpy()
        return results

    def _give(self, slot: _Slot, program: Program, piece: Piece, inputs: tuple[NDArray[np.generic], ...], base: int) -> object:
        """Give all work of one piece to the lanes; returns the event of its download. *base* is the first row of the round."""
        device, count = self._device, piece.count
        rows = slice(piece.first - base, piece.last - base)
        if slot.read is not None:
            device.wait(Lane.UPLOAD, slot.read)
        for array, sent, there in zip(inputs, self._sent, slot.inputs, strict=True):
            np.copyto(sent[rows].numpy(), array[piece.first : piece.last])
            device.copy(Lane.UPLOAD, there[:count], sent[rows])
        device.wait(Lane.COMPUTE, device.record(Lane.UPLOAD))
        for there, own in zip(slot.inputs, self._inputs, strict=True):
            device.copy(Lane.COMPUTE, own[:count], there[:count])
        slot.read = device.record(Lane.COMPUTE)
        outputs = device.launch(program)
        if slot.fetched is not None:
            device.wait(Lane.COMPUTE, slot.fetched)
        for output, here in zip(outputs, slot.outputs, strict=True):
            device.copy(Lane.COMPUTE, here[:count], output[:count])
        device.wait(Lane.DOWNLOAD, device.record(Lane.COMPUTE))
        for here, came in zip(slot.outputs, self._came, strict=True):
            device.copy(Lane.DOWNLOAD, came[rows], here[:count])
        slot.fetched = device.record(Lane.DOWNLOAD)
        return slot.fetched

    def _program(self, bucket: int) -> Program:
        """Give the program of a batch size, preparing it, and with the first one the buffers of the outputs."""
        program = self._programs.get(bucket)
        if program is None:
            program = self._device.prepare(self._name, self._module, tuple(own[:bucket] for own in self._inputs))
            self._programs[bucket] = program
            for slot in self._slots:
                if not slot.outputs:
                    slot.outputs = [self._device.memory((self._most, *shape), torch.float32) for shape in program.shapes]
        return program

    def _reserve(self, rows: int, shapes: tuple[tuple[int, ...], ...]) -> None:
        """See to page-locked memory for so many rows; nothing is under way here, so that it may be exchanged."""
        if self._sent and len(self._sent[0]) >= rows:
            return
        # In the steps of the buckets, so that streams that come and go do not exchange it each second.
        rows = next((size for size in bucket_sizes(self._most) if size >= rows), -(-rows // self._most) * self._most)
        self._sent = [self._device.host((rows, *shape), dtype) for shape, dtype in self._ports]
        self._came = [self._device.host((rows, *shape), torch.float32) for shape in shapes]
