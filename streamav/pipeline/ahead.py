"""Chooses which pictures of running segments are encoded before their segments are complete.

It uses lanes and no network. Pictures are looked at only while no segment waits, so a segment waits for at most one small batch, and
nothing is computed for a second that the machine has no time for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.pipeline.early import PARTS
from streamav.pipeline.lane import Ahead
from streamav.types import looked_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.pipeline.lane import Lane
    from streamav.types import LookedAt

__all__ = ["due_pictures", "share_out"]

MOST_PICTURES = 8
"""Most pictures of one batch: a segment that is complete meanwhile waits for it."""


def due_pictures(lanes: Sequence[Lane], frames: int) -> list[tuple[Lane, NDArray[np.uint8]]]:
    """Return pictures to look at now, each with its lane: whole parts of segments, of several sources where they are due together.

    Args:
        lanes: the sources.
        frames: frames of a live segment that are processed (the frame budget).
    """
    due: list[tuple[Lane, NDArray[np.uint8]]] = []
    for lane in lanes:
        if not (lane.setup.paced and lane.running):
            continue
        index, pixels = lane.feed.running
        all_frames = lane.setup.segmenter.frames_per_second
        places = tuple(looked_places(frames if lane.thinned else all_frames, all_frames))
        ahead = lane.ahead
        if ahead.index != index:
            ahead = lane.ahead = Ahead(index, places)
        part = max(1, len(places) // PARTS)
        if ahead.places != places or len(due) + part > MOST_PICTURES:  # the budget has changed within the segment: nothing more of it
            continue
        here = sum(place < len(pixels) for place in places)
        if here - ahead.taken >= part:
            due += [(lane, shown) for shown in _changed(pixels, places, ahead.taken, ahead.taken + part)]
            ahead.taken += part
    return due


def _changed(pixels: Sequence[NDArray[np.uint8] | None], places: Sequence[int], first: int, last: int) -> list[NDArray[np.uint8]]:
    """Return the pictures at some places that differ from the one before; repeated ones are encoded once (features.visual)."""
    found = []
    for number in range(first, last):
        shown = pixels[places[number]]
        before = pixels[places[number - 1]] if number else None
        if shown is not None and (before is None or not np.array_equal(shown, before)):
            found.append(shown)
    return found


def share_out(due: Sequence[tuple[Lane, NDArray[np.uint8]]], looked: Sequence[LookedAt], busy_ns: int) -> None:
    """Pass to each lane what was computed for it, and its share of the time."""
    for (lane, _), one in zip(due, looked, strict=True):
        lane.ahead.looked.append(one)
        lane.ahead.busy_ns += busy_ns // len(due)
