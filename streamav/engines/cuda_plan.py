"""Plans a batch for captured graphs: cuts it into pieces, and gives each the size of the graph that it is padded up to.

Pure whole numbers: it knows no torch and no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ROUND_PIECES", "Piece", "bucket_sizes", "cut", "rounds"]

ROUND_PIECES = 8
"""Pieces that are under way before the host waits for results; bounds the page-locked memory of a batch of any size."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Inputs *first* to *last* (without it) of a batch, run by the graph of *bucket* inputs."""

    first: int
    last: int
    bucket: int

    @property
    def count(self) -> int:
        """Inputs in it, at least 1 and at most `bucket`."""
        return self.last - self.first


def bucket_sizes(most: int) -> tuple[int, ...]:
    """Give the batch sizes that have a graph: 1, 2, 4, 8 ... below *most*, and *most* itself."""
    return (*(1 << power for power in range((most - 1).bit_length())), most)


def cut(count: int, most: int) -> list[Piece]:
    """Cut *count* inputs into pieces of *most*, and a last one that is padded up to the smallest bucket that holds it."""
    sizes = bucket_sizes(most)
    pieces = []
    for first in range(0, count, most):
        last = min(first + most, count)
        pieces.append(Piece(first, last, next(size for size in sizes if size >= last - first)))
    return pieces


def rounds(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    """Give the pieces in rounds of at most `ROUND_PIECES`."""
    for first in range(0, len(pieces), ROUND_PIECES):
        yield pieces[first : first + ROUND_PIECES]
