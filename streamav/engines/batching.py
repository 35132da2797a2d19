"""Cuts long batches of a network into pieces: pieces of bounded size, to bound the memory, or one piece for each core.

It wraps any network and depends on no inference library.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from streamav.engines.recipe import Batch
    from streamav.protocols import Network

__all__ = ["BoundedNetworks", "MicroBatches", "NamedNetworks", "ParallelBatches", "most_at_once"]

LEAST_SHARE = 2
"""A second thread is used only when it gets at least this many inputs; with fewer, waking it costs more than it gives."""


def most_at_once(batch: Batch, name: str, picture: tuple[int, ...]) -> int:
    """Return how many inputs of a network run at once; *picture* is the height and width of the visual encoder's input."""
    most, pixels = _bounds(batch, name)
    return _fitting(most, pixels, picture)


class MicroBatches:
    """Runs the wrapped network on at most `most` inputs at once."""

    def __init__(self, network: Network, most: int, pixels: int | None = None) -> None:
        """Wrap *network*.

        Args:
            network: takes a batch of any size.
            most: largest number of inputs at once, at least 1.
            pixels: for pictures, also the largest number of pixels at once (but one picture runs in any case).
        """
        self._network = network
        self._most = most
        self._pixels = pixels

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network on inputs whose first axis is the batch."""
        most = _fitting(self._most, self._pixels, inputs[0].shape[1:3])
        if len(inputs[0]) <= most:
            return self._network(*inputs)
        return _joined(self._network(*piece) for piece in _pieces(inputs, -(-len(inputs[0]) // most)))


class ParallelBatches:
    """Shares the batches of a one-thread network out to several threads; the results do not depend on the number of threads."""

    def __init__(self, network: Network, threads: int) -> None:
        """Wrap *network*; it must allow calls from several threads at once."""
        self._network = network
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1), "networks")

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network on inputs whose first axis is the batch."""
        count = min(self._threads, len(inputs[0]) // LEAST_SHARE)
        if count <= 1:
            return self._network(*inputs)
        *others, own = _pieces(inputs, count)
        # The calling thread takes one piece itself: it already runs on a core, and one thread less has to be woken.
        started = [self._pool.submit(self._network, *piece) for piece in others]
        last = self._network(*own)
        return _joined([*(one.result() for one in started), last])


class NamedNetworks:
    """The networks of a model by name."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        """Use *networks* as they are."""
        self._networks = networks

    def network(self, name: str) -> Network:
        """Return the named network.

        Raises:
            EngineError: when there is no such network.
        """
        if name not in self._networks:
            msg = f"a model has the networks {', '.join(self._networks)}, got {name!r}"
            raise EngineError(msg)
        return self._networks[name]


class BoundedNetworks(NamedNetworks):
    """The networks of a model by name, each with the bounds that a recipe sets for its batches."""

    def __init__(self, networks: Mapping[str, Network], batch: Batch) -> None:
        """Wrap every one of *networks*; only the visual encoder is also bounded by pixels."""
        super().__init__({name: MicroBatches(network, *_bounds(batch, name)) for name, network in networks.items()})


def _bounds(batch: Batch, name: str) -> tuple[int, int | None]:
    """Return the most inputs of a network at once, and the most pixels of all pictures together (None if it takes no pictures)."""
    return getattr(batch, name), batch.visual_pixels if name == "visual" else None


def _fitting(most: int, pixels: int | None, picture: tuple[int, ...]) -> int:
    """Return *most*, or less when *pixels* allow fewer pictures, but at least 1."""
    if pixels is None:
        return most
    height, width = picture
    return max(1, min(most, pixels // (height * width)))


def _pieces(inputs: tuple[NDArray[np.generic], ...], count: int) -> list[tuple[NDArray[np.generic], ...]]:
    """Cut a batch into *count* pieces of nearly equal size: 17 inputs in two pieces are 8 and 9, not 16 and 1."""
    ends = [len(inputs[0]) * place // count for place in range(count + 1)]
    return [tuple(array[a:b] for array in inputs) for a, b in itertools.pairwise(ends)]


def _joined(parts: Iterable[tuple[NDArray[np.float32], ...]]) -> tuple[NDArray[np.float32], ...]:
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
