"""Pictures of the running segment that went through the visual encoder before the segment was complete, and how they are used.

Pure numpy. The features of a segment are the same as without it: each picture is encoded once, alone or with others, and the mean over
the segment is taken in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamav.types import LookedAt

__all__ = ["encode_rest"]


def encode_rest(
    encode: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], ...]],
    pixels: NDArray[np.uint8],
    counts: Sequence[int],
    ahead: Sequence[Sequence[LookedAt]],
) -> tuple[NDArray[np.float32], ...]:
    """Return the outputs of all pictures of B segments; those that were looked at ahead are not encoded again.

    Args:
        encode: the visual encoder; takes and returns arrays whose first axis is the picture.
        pixels: shape (n, h, w, 3), the segments one after another.
        counts: pictures of each segment, B numbers that sum to n.
        ahead: for each segment, what was looked at ahead, in the order of the segment.

    Returns:
        Arrays whose first axis is n.
    """
    known: dict[int, LookedAt] = {}
    place = 0
    for count, looked in zip(counts, ahead, strict=True):
        for one in looked:
            same = next((number for number in range(place, place + count) if number not in known and _equal(one, pixels[number])), None)
            if same is not None:
                known[same] = one
        place += count
    if not known:
        return encode(pixels)
    rest = [number for number in range(len(pixels)) if number not in known]
    fresh = encode(pixels[rest]) if rest else ()
    first = next(iter(known.values())).outputs
    found = tuple(np.empty((len(pixels), *output.shape), np.float32) for output in first)
    for array, number in ((array, number) for number in known for array in range(len(found))):
        found[array][number] = known[number].outputs[array]
    for array, values in enumerate(fresh):
        found[array][rest] = values
    return found


def _equal(one: LookedAt, pixels: NDArray[np.uint8]) -> bool:
    return np.array_equal(one.pixels, pixels)
