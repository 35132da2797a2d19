"""Cuts long batches of a network into pieces of bounded size, so that memory is bounded whatever is asked.

It knows no library: it wraps any network.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.protocols import Network

__all__ = ["MicroBatches"]


class MicroBatches:
    """A network that hands at most so many inputs at once to the one inside."""

    def __init__(self, network: Network, most: int) -> None:
        """Wrap *network*; *most* is at least 1."""
        self._network = network
        self._most = most

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network on inputs whose first axis is the batch."""
        count = len(inputs[0])
        if count <= self._most:
            return self._network(*inputs)
        # Pieces of nearly equal size: 17 inputs at most 16 at once are 9 and 8, not 16 and 1.
        pieces = -(-count // self._most)
        ends = [count * place // pieces for place in range(pieces + 1)]
        parts = [self._network(*(array[a:b] for array in inputs)) for a, b in itertools.pairwise(ends)]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
