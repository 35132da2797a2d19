"""Writes a clip of flashes and beeps for a telephone that is held in front of the camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["make_clip"]

_PAUSES_S: Final = (1.3, 1.9, 1.5, 2.3, 1.7, 2.1)
"""From flash to flash. They differ, so that a beep fits its own flash only."""
_LENGTH_S: Final = 0.1
"""Length of a flash and of a beep, s."""
_TONE_HZ: Final = 1_000
_RATE_HZ: Final = 48_000
_AAC_SAMPLES: Final = 1_024
"""Samples of one frame of AAC (ISO/IEC 14496-3)."""


def make_clip(
    path: Path, *, seconds: float = 30.0, skew_ms: float = 0.0, rate: int = 60, size: tuple[int, int] = (360, 640)
) -> list[float]:
    """Write an MP4 with H.264 and AAC; return the times of its flashes, s.

    Args:
        path: the file.
        seconds: its length, at least 5.
        skew_ms: how late the beeps are.
        rate: pictures a second.
        size: height and width, even.

    Raises:
        OSError: when the file cannot be written.
    """
    import av

    times = _times(seconds, rate)
    sound = _sound(seconds, [time + skew_ms / 1000.0 for time in times])
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        picture: Any = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        (picture.height, picture.width), picture.pix_fmt = size, "yuv420p"
        voice: Any = file.add_stream("aac", rate=_RATE_HZ, layout="mono")
        dark, bright = (np.full((*size, 3), level, np.uint8) for level in (0, 255))
        heard = 0
        for number in range(round(seconds * rate)):
            lit = any(time <= number / rate < time + _LENGTH_S for time in times)
            file.mux(picture.encode(av.VideoFrame.from_ndarray(bright if lit else dark, format="rgb24")))
            while heard < sound.size and heard / _RATE_HZ <= number / rate:
                frame = av.AudioFrame.from_ndarray(sound[None, heard : heard + _AAC_SAMPLES], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = _RATE_HZ, heard
                file.mux(voice.encode(frame))
                heard += _AAC_SAMPLES
        for stream in (picture, voice):
            file.mux(stream.encode())
    return times


def _times(seconds: float, rate: int) -> list[float]:
    """Return when flashes begin: with a picture, in pauses that differ."""
    times, at = [], 1.5
    while at < seconds - 1.0:
        times.append(round(at * rate) / rate)
        at += _PAUSES_S[len(times) % len(_PAUSES_S)]
    return times


def _sound(seconds: float, times: list[float]) -> NDArray[np.float32]:
    sound = np.zeros(round(seconds * _RATE_HZ), np.float32)
    length = round(_LENGTH_S * _RATE_HZ)
    tone = 0.7 * np.sin(2 * np.pi * _TONE_HZ * np.arange(length) / _RATE_HZ)
    tone[-480:] *= np.linspace(1.0, 0.0, 480)
    for time in times:
        first = round(time * _RATE_HZ)
        begin, end = max(0, first), min(sound.size, first + length)
        sound[begin:end] = tone[begin - first : end - first]
    return sound
