"""Chooses the decoded pictures that the model uses, and scales only those to the size of the model.

A segment uses the pictures at F instants. To convert the other pictures of a 1080p stream would cost more than the networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

__all__ = ["InstantSampler", "Scaler", "quarter_turns"]

_SECOND_NS = 1_000_000_000
FrameT = TypeVar("FrameT")


class InstantSampler(Generic[FrameT]):
    """Passes on the pictures that are on display at an instant k + i / F seconds; drops the others.

    A picture is returned at once when an instant lies within the time that it is expected to stay. A picture that stays longer than
    expected is returned when the next one arrives. So no needed picture is lost, and few are delayed.
    """

    def __init__(self, frames_per_second: int) -> None:
        """Sample *frames_per_second* instants a second, at least 1."""
        self._rate = frames_per_second
        self._held: tuple[int, FrameT] | None = None
        self._last_ns: int | None = None
        self._gap_ns = _SECOND_NS // 25

    def push(self, time_ns: int, frame: FrameT) -> list[tuple[int, FrameT]]:
        """Take the next picture and return the pictures now known to be needed, oldest first; a picture out of order is dropped."""
        given: list[tuple[int, FrameT]] = []
        if self._last_ns is not None:
            if time_ns <= self._last_ns:
                return given
            self._gap_ns = time_ns - self._last_ns
            if self._held is not None and self._next_instant_ns(self._held[0]) < time_ns:
                given.append(self._held)
        self._last_ns = time_ns
        if self._next_instant_ns(time_ns) < time_ns + self._gap_ns:
            self._held = None
            given.append((time_ns, frame))
        else:
            self._held = (time_ns, frame)
        return given

    def flush(self) -> list[tuple[int, FrameT]]:
        """Return the picture that is still on display when the source ends."""
        held, self._held = self._held, None
        return [] if held is None else [held]

    def _next_instant_ns(self, time_ns: int) -> int:
        """Return the first instant that is not before *time_ns*."""
        number = -(-time_ns * self._rate // _SECOND_NS)
        return number * _SECOND_NS // self._rate


def quarter_turns(frame: av.VideoFrame) -> int:
    """Return how many quarter turns to the left show a picture upright, 0 to 3, as its container or its camera says."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


class Scaler:
    """Converts decoded pictures to RGB of one size with swscale's bilinear filter, which averages when it shrinks.

    The picture is stretched to the size without keeping its aspect ratio, as in training; a display rotation by quarter
    turns is undone first. The size and pixel format of the frames may change.
    """

    def __init__(self, picture: tuple[int, int]) -> None:
        """Scale to *picture*, height and width in pixels."""
        from av.video.reformatter import VideoReformatter

        self._height, self._width = picture
        self._reformatter = VideoReformatter()  # kept, because it holds the tables of the scaler

    def scale(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Return the picture, shape (h, w, 3) uint8, RGB."""
        turns = quarter_turns(frame)
        width, height = (self._height, self._width) if turns % 2 else (self._width, self._height)
        scaled = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation="BILINEAR")
        return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns))
