"""Encodes the pictures and the sound of a camera and a microphone for clips, because such devices give no encoded packets.

It is cheap rather than small: at most 15 pictures a second, at most 1280 pixels wide, x264's fastest preset. When encoding fails, clips
are left out and capture goes on. Nothing is encoded when nobody wants the packets.
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

    from streamav.capture.tap import PacketTap

__all__ = ["PairEncoder"]

_LOG = logging.getLogger(__name__)

_RATE: Final = 15
_WIDEST: Final = 1280
_KEY_S: Final = 2
_MICROSECOND: Final = Fraction(1, 1_000_000)
_SOUND_BITS: Final = 64_000


class PairEncoder:
    """Encodes one session. Pictures come from one thread and sound from another; each kind has its own encoder."""

    def __init__(self, tap: PacketTap, width: int, height: int) -> None:
        """Open both encoders and begin a session of the tap.

        Args:
            tap: receives the packets, on the media clock.
            width: of the camera's pictures, pixels.
            height: the same.
        """
        import av

        self._tap = tap
        scale = min(1.0, _WIDEST / max(1, width))
        self._size = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
        self._file = av.open(io.BytesIO(), "w", format="nut")  # holds the streams; nothing is written to it
        options = {"preset": "ultrafast", "crf": "26", "g": str(_RATE * _KEY_S), "bf": "0", "tune": "zerolatency"}
        picture: Any = self._file.add_stream("libx264", rate=_RATE, options=options)
        (picture.width, picture.height), picture.pix_fmt = self._size, "yuv420p"
        picture.codec_context.time_base = _MICROSECOND
        sound: Any = self._file.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        sound.bit_rate = _SOUND_BITS
        self._file.start_encoding()  # opens the encoders, and describes the streams for the tap
        self._picture, self._sound = picture, sound
        self._resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE_HZ, frame_size=sound.codec_context.frame_size)
        self._newest_ns = -(1 << 62)
        self._failed = False
        tap.begin(sound, picture)
        tap.place("sound", 0)
        tap.place("picture", 0)

    def picture(self, frame: av.VideoFrame, time_ns: int) -> None:
        """Take a picture of the camera with its media time; a picture too many is left out."""
        if self._failed or not self._tap.wanted or time_ns - self._newest_ns < 0.8e9 / _RATE:
            return
        self._newest_ns = time_ns
        import av

        try:
            shown = frame.reformat(*self._size, "yuv420p")
            shown.pts, shown.time_base, shown.pict_type = max(0, time_ns) // 1_000, _MICROSECOND, 0
            self._give(self._picture, self._picture.encode(shown))
        except (av.error.FFmpegError, ValueError) as exc:
            self._fail(exc)

    def sound(self, samples: NDArray[np.float32], start_ns: int) -> None:
        """Take a block of sound, mono, 16 kHz, with its media time."""
        if self._failed or not self._tap.wanted:
            return
        import av

        try:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ)
            frame.pts = max(0, start_ns) * SAMPLE_RATE_HZ // 1_000_000_000
            for one in self._resampler.resample(frame):
                self._give(self._sound, self._sound.encode(one))
        except (av.error.FFmpegError, ValueError) as exc:
            self._fail(exc)

    def _give(self, stream: Any, packets: list[Any]) -> None:  # noqa: ANN401 - a stream and packets of PyAV
        for packet in packets:
            packet.stream = stream
            self._tap.packet(packet)

    def _fail(self, exc: Exception) -> None:
        self._failed = True
        _LOG.warning("pictures and sound cannot be encoded, so there are no clips until the devices are opened again reason=%s", exc)
