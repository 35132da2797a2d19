"""Encodes the pictures and the sound of a segment for a browser: JPEG pictures, and the log-mel patch as one byte for each value.

It shows what the networks took: the pictures at the model's size, and the patch with the model's offset.
"""

from __future__ import annotations

import math
from base64 import b64encode
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from streamav.features.logmel import log_mel

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    from streamav.features.logmel import LogMelOptions
    from streamav.types import Segment

__all__ = ["MOST_PICTURES", "PictureEncoder", "mel_bytes", "mel_text"]

MOST_PICTURES = 4
"""Pictures of a segment that are shown: enough to see movement (our choice)."""
_QUALITY = "3"
"""Quantiser of the JPEG encoder, 2 (best) to 31: about 2 kB for a picture of 112 x 112 pixels."""
_LOUDEST = 4.0
"""Log-mel value that is drawn brightest: a loud sound in one band. Louder values are drawn as this one."""


class PictureEncoder:
    """Encodes pictures of one size as JPEG."""

    def __init__(self) -> None:
        """Start without an encoder; the first picture decides its size."""
        self._codec: av.VideoCodecContext | None = None
        self._count = 0

    def pictures(self, segment: Segment) -> list[bytes]:
        """Return at most `MOST_PICTURES` pictures of a segment, oldest first, as JPEG."""
        return [self.jpeg(pixels) for pixels in segment.looked_at(MOST_PICTURES).frames]

    def jpeg(self, pixels: NDArray[np.uint8]) -> bytes:
        """Return one picture, shape (h, w, 3) RGB, as the bytes of a JPEG file."""
        import av

        height, width = pixels.shape[:2]
        codec = self._codec
        if codec is None or (codec.height, codec.width) != (height, width):
            codec = self._codec = self._open(width, height)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(format="yuvj420p")
        frame.pts = self._count
        self._count += 1
        return b"".join(bytes(packet) for packet in codec.encode(frame))

    def _open(self, width: int, height: int) -> av.VideoCodecContext:
        import av

        codec = av.CodecContext.create("mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
        codec.time_base = Fraction(1, 25)
        codec.thread_count = 1  # with more threads the encoder delays its output
        codec.options = {"qmin": _QUALITY, "qmax": _QUALITY}
        return codec


def mel_bytes(samples: NDArray[np.float32], options: LogMelOptions) -> NDArray[np.uint8]:
    """Return the log-mel patch of a segment, shape (96, 64): columns of time, each of 64 bands from low to high, one byte a value.

    Byte 0 is silence (the logarithm of the offset), byte 255 a loud band; between them the logarithm is linear.

    Args:
        samples: shape (16000,), as in Segment.audio.
        options: of the front end: quiet segments are drawn as the model hears them.
    """
    lowest = math.log(options.offset)
    shares = (log_mel(samples, options) - lowest) / (_LOUDEST - lowest)
    values: NDArray[np.uint8] = (np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)
    return values


def mel_text(samples: NDArray[np.float32], options: LogMelOptions) -> str:
    """Return the bytes of `mel_bytes` in base64, column by column; the arguments are the same."""
    return b64encode(mel_bytes(samples, options).tobytes()).decode("ascii")
