"""Stores sound and pictures without loss in a NUT file, and reads them back up to where the file was cut off.

NUT is FFmpeg's container for streams: it needs no index, each packet is written at once, and ffplay and mpv play it. Pictures are FFV1
(each one alone), sound is 32-bit floats: any other coding of the 16 kHz sound that the networks take would change it.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streamav.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MediaReader", "MediaWriter"]

_MICROSECOND: Final = Fraction(1, 1_000_000)
_PICTURE_FORMAT: Final = "bgr0"
_TOGETHER_US: Final = "100000"
"""A packet waits no longer for the other stream, media time."""


class MediaWriter:
    """Appends to one file. Only one thread uses it."""

    def __init__(self, path: Path, picture: tuple[int, int]) -> None:
        """Create the file; pictures have *picture* height and width.

        Raises:
            OSError: when it cannot be written.
        """
        import av

        path.touch(mode=0o600)
        options = {"flush_packets": "1", "max_interleave_delta": _TOGETHER_US}
        self._file = av.open(str(path), "w", format="nut", options=options)
        sound: Any = self._file.add_stream("pcm_f32le", rate=SAMPLE_RATE_HZ, layout="mono")
        shown: Any = self._file.add_stream("ffv1", rate=25, options={"level": "3", "coder": "0", "slicecrc": "1"})
        shown.height, shown.width = picture
        shown.pix_fmt, shown.codec_context.time_base = _PICTURE_FORMAT, _MICROSECOND
        self._sound, self._shown = sound, shown
        self._heard, self._seen_us = 0, -1

    def sound(self, samples: NDArray[np.float32], start_ns: int) -> int:
        """Append a block, shape (n,); return its size in the file, bytes. The time stamps in the file serve players only."""
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
        frame.pts = self._heard = max(self._heard, start_ns * SAMPLE_RATE_HZ // 1_000_000_000)
        self._heard += samples.size
        return self._mux(self._sound.encode(frame))

    def picture(self, pixels: NDArray[np.uint8], start_ns: int) -> int:
        """Append a picture, shape (h, w, 3) RGB; return its size in the file, bytes."""
        import av

        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=_PICTURE_FORMAT)
        frame.time_base = _MICROSECOND
        frame.pts = self._seen_us = max(self._seen_us + 1, start_ns // 1_000)
        return self._mux(self._shown.encode(frame))

    def close(self) -> None:
        """Write what is left and close the file."""
        self._file.close()

    def _mux(self, packets: list[Any]) -> int:
        size = sum(int(packet.size) for packet in packets)
        self._file.mux(packets)
        return size


class MediaReader:
    """Reads sound and pictures, each kind in the order in which it was written."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: when it cannot be read.
            av.error.FFmpegError: when it is not such a file.
        """
        import av

        self._file = av.open(str(path), format="nut")
        self._sound, self._shown = self._file.streams.audio[0], self._file.streams.video[0]
        self._packets = self._file.demux(self._sound, self._shown)
        self._waiting: dict[str, deque[Any]] = {"audio": deque(), "video": deque()}

    def sound(self) -> NDArray[np.float32] | None:
        """Return the next block, shape (n,); None at the end of the file."""
        packet = self._next("audio")
        return None if packet is None else np.frombuffer(bytes(packet), "<f4").astype(np.float32)

    def picture(self) -> NDArray[np.uint8] | None:
        """Return the next picture, shape (h, w, 3) RGB; None at the end of the file, or when it cannot be decoded."""
        import av

        packet = self._next("video")
        if packet is None:
            return None
        try:
            frames = self._shown.codec_context.decode(packet)
        except av.error.FFmpegError:
            return None
        return np.ascontiguousarray(frames[0].to_ndarray(format="rgb24")) if frames else None

    def more(self, sound: bool) -> bool:  # noqa: FBT001 - which of two kinds
        """Return whether the file holds another block (True), or another picture (False)."""
        return self._fill("audio" if sound else "video")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _next(self, kind: str) -> Any:  # noqa: ANN401 - a packet of PyAV
        return self._waiting[kind].popleft() if self._fill(kind) else None

    def _fill(self, kind: str) -> bool:
        """Read until a packet of this kind waits; return False at the end of the file."""
        import av

        while not self._waiting[kind]:
            try:
                packet = next(self._packets, None)
            except av.error.FFmpegError:  # the file was cut off within a packet
                packet = None
            if packet is None:
                return False
            if packet.size:
                self._waiting[packet.stream.type].append(packet)
        return True
