"""Asks a Video4Linux camera what it can send: formats, sizes and rates.

Not used: linuxpy, a package of its own for one list; FFmpeg's `list_formats`, which prints no rates and has no stable form. The structures
are those of linux/videodev2.h, a stable interface of the kernel.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Ioctl = Callable[[int, int, bytearray], object]

__all__ = ["CameraFormat", "camera_formats"]

_CAPTURE: Final = 1
"""V4L2_BUF_TYPE_VIDEO_CAPTURE."""
_FORMAT: Final = struct.Struct("=III32sI4I")
_SIZE: Final = struct.Struct("=III6I2I")
_INTERVAL: Final = struct.Struct("=IIIII6I2I")
_DISCRETE: Final = 1
_MOST: Final = 100
"""More formats, sizes or rates than this are an error of a driver."""
_WORDS: Final = {"MJPG": "mjpeg", "YUYV": "yuyv422", "H264": "h264", "HEVC": "hevc", "NV12": "nv12", "YU12": "yuv420p", "UYVY": "uyvy422"}
"""FFmpeg's words for formats of pictures, which `camera_format` takes; others keep the kernel's four letters in small letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFormat:
    """One size in one format, and how many pictures a second the camera can send of it."""

    format: str
    """Value for `camera_format`."""
    size: str
    """Value for `camera_size`."""
    rates: tuple[float, ...]
    """Values for `camera_rate`, highest first; empty where the camera does not tell."""


def camera_formats(device: Path, ioctl: Ioctl = fcntl.ioctl) -> tuple[CameraFormat, ...]:
    """Return what a camera can send; nothing where it cannot be opened or does not tell.

    Args:
        device: device file, such as /dev/video0.
        ioctl: the system's call.
    """
    try:
        file = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return ()
    try:
        return tuple(
            CameraFormat(format=_word(letters), size=f"{width}x{height}", rates=tuple(_rates(file, ioctl, letters, width, height)))
            for letters in _formats(file, ioctl)
            for width, height in _sizes(file, ioctl, letters)
        )
    finally:
        os.close(file)


def _ask(file: int, ioctl: Ioctl, number: int, form: struct.Struct, *values: object) -> tuple[int, ...] | None:
    """Return the structure that the driver fills; None at the end of its list."""
    data = bytearray(form.pack(*values))
    try:
        ioctl(file, 3 << 30 | form.size << 16 | ord("V") << 8 | number, data)  # _IOWR of linux/ioctl.h
    except OSError:
        return None
    return form.unpack(data)


def _formats(file: int, ioctl: Ioctl) -> Iterator[int]:
    for index in range(_MOST):
        found = _ask(file, ioctl, 2, _FORMAT, index, _CAPTURE, 0, b"", *[0] * 5)
        if found is None:
            return
        yield found[4]


def _sizes(file: int, ioctl: Ioctl, letters: int) -> Iterator[tuple[int, int]]:
    """Yield width and height; of a range of sizes the largest one."""
    for index in range(_MOST):
        found = _ask(file, ioctl, 74, _SIZE, index, letters, *[0] * 9)
        if found is None:
            return
        if found[2] != _DISCRETE:
            yield found[4], found[7]
            return
        yield found[3], found[4]


def _rates(file: int, ioctl: Ioctl, letters: int, width: int, height: int) -> Iterator[float]:
    """Yield pictures a second; of a range of rates the highest one."""
    for index in range(_MOST):
        found = _ask(file, ioctl, 75, _INTERVAL, index, letters, width, height, *[0] * 9)
        if found is None or not found[5]:
            return
        yield round(found[6] / found[5], 2)
        if found[4] != _DISCRETE:
            return


def _word(letters: int) -> str:
    name = letters.to_bytes(4, "little").decode("ascii", "replace").strip()
    return _WORDS.get(name, name.lower())
