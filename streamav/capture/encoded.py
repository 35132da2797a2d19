"""Encodes the pictures of a camera and the sound of a microphone for clips, because such devices give no encoded packets.

It is cheap rather than small: at most 15 pictures a second, at most 1280 pixels wide, x264's fastest preset. When encoding fails, clips
are left out and capture goes on. Nothing is encoded while nobody wants the packets.
"""

from __future__ import annotations

import io
import logging
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streamav.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    from streamav.capture.stamps import Kind
    from streamav.capture.tap import PacketTap

__all__ = ["EncodedPictures", "EncodedSound"]

_LOG = logging.getLogger(__name__)

_RATE: Final = 15
_WIDEST: Final = 1280
_KEY_S: Final = 2
_MICROSECOND: Final = Fraction(1, 1_000_000)
_SOUND_BITS: Final = 64_000
"""Bit rate of the sound, bit/s."""


class _Encoded:
    """The encoder of one kind in one session of a device; one thread uses it."""

    def __init__(self, tap: PacketTap, kind: Kind, offset_ns: int) -> None:
        self._tap, self._offset_ns = tap, offset_ns
        self._stream: Any = None
        self._number = 0
        self._failed = False
        tap.place(kind, 0)

    def _open(self) -> None:
        """Open the encoder again: what an earlier one holds back is lost."""
        raise NotImplementedError

    def _wanted(self) -> bool:
        """Return whether to encode; the encoder is open then. It is a new one after a time without, because it remembers what it took."""
        wanted = 0 if self._failed else self._tap.wanted
        if wanted != self._number:
            self._number, self._stream = wanted, None
        if wanted and self._stream is None:
            self._open()
        return self._stream is not None

    def _added(self, codec: str, rate: int, **more: Any) -> Any:  # noqa: ANN401 - PyAV's
        """Return a stream of a file that holds it; nothing is written to the file."""
        import av

        self._file = av.open(io.BytesIO(), "w", format="nut")
        return self._file.add_stream(codec, rate=rate, **more)

    def _start(self, stream: Any) -> None:  # noqa: ANN401 - PyAV's
        self._file.start_encoding()  # opens the encoder, and describes the stream for the tap
        self._stream = stream

    def _give(self, frame: Any) -> None:  # noqa: ANN401 - a frame of PyAV
        for packet in self._stream.encode(frame):
            packet.stream = self._stream
            self._tap.packet(packet)

    def _fail(self, what: str, exc: Exception) -> None:
        self._failed = True
        _LOG.warning("%s cannot be encoded, so there are no clips until the device is opened again reason=%s", what, exc)


class EncodedPictures(_Encoded):
    """Encodes the pictures of a camera."""

    def __init__(self, tap: PacketTap, size: tuple[int, int], offset_ns: int) -> None:
        """Prepare an encoder.

        Args:
            tap: receives the packets, on the media clock.
            size: width and height of the camera's pictures, pixels.
            offset_ns: what must be added to the times of pictures to get media times.
        """
        width, height = size
        scale = min(1.0, _WIDEST / max(1, width))
        self._size = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
        self._newest_ns = -(1 << 62)
        super().__init__(tap, "picture", offset_ns)

    def _open(self) -> None:
        options = {"preset": "ultrafast", "crf": "26", "g": str(_RATE * _KEY_S), "bf": "0", "tune": "zerolatency"}
        stream = self._added("libx264", _RATE, options=options)
        (stream.width, stream.height), stream.pix_fmt = self._size, "yuv420p"
        stream.codec_context.time_base = _MICROSECOND
        self._start(stream)

    def take(self, frame: av.VideoFrame, time_ns: int) -> None:
        """Take a picture with its time; a picture too many is left out."""
        time_ns += self._offset_ns
        if time_ns - self._newest_ns < 0.8e9 / _RATE:
            return
        import av

        try:
            if not self._wanted():
                return
            self._newest_ns = time_ns
            shown = frame.reformat(*self._size, "yuv420p")
            shown.pts, shown.time_base, shown.pict_type = max(0, time_ns) // 1_000, _MICROSECOND, 0
            self._give(shown)
        except (av.error.FFmpegError, ValueError) as exc:
            self._fail("pictures", exc)


class EncodedSound(_Encoded):
    """Encodes the sound of a microphone."""

    def __init__(self, tap: PacketTap, offset_ns: int) -> None:
        """Prepare an encoder.

        Args:
            tap: receives the packets, on the media clock.
            offset_ns: what must be added to the times of sound to get media times.
        """
        super().__init__(tap, "sound", offset_ns)

    def _open(self) -> None:
        import av

        stream = self._added("aac", SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = _SOUND_BITS
        self._start(stream)
        self._resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE_HZ, frame_size=stream.codec_context.frame_size)

    def take(self, samples: NDArray[np.float32], start_ns: int) -> None:
        """Take a block of sound, shape (n,), mono, 16 kHz, with its time on the media clock, ns."""
        import av

        try:
            if not self._wanted():
                return
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
            frame.pts = max(0, start_ns + self._offset_ns) * SAMPLE_RATE_HZ // 1_000_000_000
            for one in self._resampler.resample(frame):
                self._give(one)
        except (av.error.FFmpegError, ValueError) as exc:
            self._fail("sound", exc)
