"""Runs one network on a GPU: page-locked input rows, the captured graph of the batch's size, page-locked output rows.

All work runs in order in one stream, and the host waits once for each piece of a batch. How a copy or a graph is done is defined by
the `Device` (`cuda_device.py`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor, nn

    Program = Callable[[], tuple[Tensor, ...]]
    """Runs a network on its own input memory; the returned tensors are valid until the next program of the device runs."""

__all__ = ["Device", "GraphedNetwork", "Port", "bucket_sizes"]

Port = tuple[tuple[int, ...], "torch.dtype"]
"""Shape of one input without the batch axis, and its type (uint8 or float32)."""


class Device(Protocol):
    """Memory and work of a GPU. Copies and programs run in the order of the calls, and are done at the latest when wait() returns."""

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module's weights to the device and return it."""

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return page-locked memory of the host."""

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return zeros on the device."""

    def prepare(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Program:
        """Return a program that runs *module* on the contents that *inputs* have at the time of the run."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy between host and device."""

    def wait(self) -> None:
        """Block the host until all copies and programs are done."""


def bucket_sizes(most: int) -> tuple[int, ...]:
    """Return the batch sizes that have a graph: 1, 2, 4, 8 ... below *most*, and *most* itself."""
    return (*(1 << power for power in range((most - 1).bit_length())), most)


class GraphedNetwork:
    """Fills the role Network with one program for each batch size of `bucket_sizes`; longer batches are cut into pieces.

    A piece is padded up to its program's size with the rows of earlier batches (zeros at first). The networks compute each row
    independently, so these rows change no result, and they are never returned.
    """

    def __init__(
        self, name: str, module: nn.Module, ports: Sequence[Port], most: int, device: Device, lock: AbstractContextManager[object]
    ) -> None:
        """Move the module to the device; a program is prepared when a batch first needs it.

        Args:
            name: name of the network, for messages.
            module: returns one or several float32 tensors.
            ports: shape and type of each input.
            most: largest number of inputs at once, at least 1.
            device: runs the network.
            lock: shared by all networks of the device; graphs share memory, so only one call may run at a time.
        """
        self._name, self._ports, self._most = name, tuple(ports), most
        self._device, self._lock = device, lock
        self._module = device.place(module)
        self._sent = [device.pinned((most, *shape), dtype) for shape, dtype in self._ports]
        self._inputs = [device.memory((most, *shape), dtype) for shape, dtype in self._ports]
        self._programs: dict[int, Program] = {}
        self._came: list[Tensor] = []

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network on a batch of any size.

        Raises:
            EngineError: when the inputs do not have the shapes and types that the network takes, or the device fails.
        """
        self._check(inputs)
        firsts = range(0, len(inputs[0]), self._most)
        with self._lock, torch.inference_mode():
            try:
                pieces = [self._run([array[first : first + self._most] for array in inputs]) for first in firsts]
            except RuntimeError as exc:  # torch raises this type for errors of CUDA, also for too little memory
                with contextlib.suppress(RuntimeError):
                    self._device.wait()  # the buffers are free for the next call
                msg = f"network {self._name} failed on the device, in pieces of at most {self._most} inputs: {exc}"
                raise EngineError(msg) from exc
        return pieces[0] if len(pieces) == 1 else tuple(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))

    def warm_up(self, count: int) -> None:
        """Prepare the programs that a batch of *count* inputs needs.

        Raises:
            EngineError: when the device fails.
        """
        self(*(np.zeros((count, *shape), np.uint8 if dtype == torch.uint8 else np.float32) for shape, dtype in self._ports))

    def _run(self, inputs: Sequence[NDArray[np.generic]]) -> tuple[NDArray[np.float32], ...]:
        """Run one piece: copy in, launch, copy out, wait."""
        count = len(inputs[0])
        bucket = next(size for size in bucket_sizes(self._most) if size >= count)
        if bucket not in self._programs:
            own = tuple(memory[:bucket] for memory in self._inputs)
            self._programs[bucket] = self._device.prepare(self._name, self._module, own)
        for array, sent, memory in zip(inputs, self._sent, self._inputs, strict=True):
            np.copyto(sent[:count].numpy(), array)
            self._device.copy(memory[:count], sent[:count])
        outputs = self._programs[bucket]()
        if not self._came:
            self._came = [self._device.pinned((self._most, *output.shape[1:]), output.dtype) for output in outputs]
        for came, output in zip(self._came, outputs, strict=True):
            self._device.copy(came[:count], output[:count])
        self._device.wait()
        return tuple(came[:count].numpy().copy() for came in self._came)

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        wanted = [(str(dtype).removeprefix("torch."), shape) for shape, dtype in self._ports]
        got = [(str(array.dtype), tuple(array.shape[1:])) for array in inputs]
        lengths = {len(array) for array in inputs if array.ndim}
        if got != wanted or len(lengths) != 1 or 0 in lengths:
            shapes = [f"{array.dtype} {array.shape}" for array in inputs]
            takes = [f"{kind} (n, {', '.join(map(str, shape))})" for kind, shape in wanted]
            msg = f"network {self._name} cannot run on inputs of {shapes}; it takes {takes} with the same n of at least 1"
            raise EngineError(msg)
