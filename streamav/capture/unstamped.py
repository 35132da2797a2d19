"""Sets time stamps of pictures in formats that have none: bare H.264 and H.265, and MJPEG as phones and cheap cameras send it."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import av

__all__ = ["PictureStamps", "without_stamps"]

_NAMED: Final = frozenset({"mpjpeg", "jpeg_pipe"})
"""Formats of pictures that have no time stamps, although FFmpeg does not mark them so."""
_NO_TIMESTAMPS: Final = 0x80
"""AVFMT_NOTIMESTAMPS of FFmpeg's avformat.h."""
_BASE: Final = Fraction(1, 1_000_000)
_USUAL_S: Final = Fraction(1, 25)
"""What FFmpeg supposes where a format says nothing of its rate."""


def without_stamps(container: av.container.InputContainer) -> bool:
    """Return whether the pictures of a container have no time stamps of their own."""
    return container.format.name in _NAMED or bool(int(container.format.flags) & _NO_TIMESTAMPS)


class PictureStamps:
    """Stamps the packets of pictures: in a file by their rate, in a live stream by their arrival.

    Only the decoding time is set. The decoder orders the pictures by what the codec says, and hands that time on with them.
    """

    def __init__(self, *, live: bool, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Begin at 0 s; *monotonic_ns* tells when a picture of a live stream arrives."""
        self._live, self._monotonic_ns = live, monotonic_ns
        self._begun_ns: int | None = None
        self._next = 0

    def stamp(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Set the time of a packet of pictures; the stamps of a file that FFmpeg counted itself stay as they are."""
        if packet.stream.type != "video" or not packet.size:
            return
        if not self._live:
            self._count(packet)
            return
        now_ns = self._monotonic_ns()
        self._begun_ns = now_ns if self._begun_ns is None else self._begun_ns
        at = max((now_ns - self._begun_ns) // 1000, self._next)  # no two pictures at the same time
        packet.time_base, packet.pts, packet.dts, self._next = _BASE, None, at, at + 1

    def _count(self, packet: av.Packet[av.stream.Stream]) -> None:
        if packet.dts is None and packet.time_base is not None:
            packet.dts = self._next
            self._next += packet.duration or round(_USUAL_S / packet.time_base)
