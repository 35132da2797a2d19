"""Reads a camera through FFmpeg's capture devices and stamps its pictures on the computer's monotonic clock.

It uses no microphone and does not reopen a device.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.capture.address import LAVFI
from streamav.capture.devices import find_camera
from streamav.capture.encoded import EncodedPictures
from streamav.capture.pacing import Pacer
from streamav.errors import CaptureError, reason_of
from streamav.redaction import show_address
from streamav.types import VideoFrame

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import av

    from streamav.capture.look import Look
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock

__all__ = ["Camera", "CameraMode"]

_KERNEL_STAMP_LIMIT_NS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraMode:
    """What a camera is asked to send; None leaves it the choice."""

    size: str | None = None
    """Width and height, such as 1280x720."""
    rate: float | None = None
    """Pictures a second."""
    pixels: str | None = None
    """Format of the pictures, FFmpeg's word."""

    def options(self, form: str) -> dict[str, str]:
        """Return the options of FFmpeg's input format *form*, v4l2 or avfoundation."""
        named = {
            "video_size": self.size,
            "framerate": None if self.rate is None else f"{self.rate:g}",
            "input_format" if form == "v4l2" else "pixel_format": self.pixels,
        }
        return {name: value for name, value in named.items() if value is not None}


class Camera:
    """One camera. For tests, "lavfi:GRAPH" replaces the camera by a filter graph that plays at its own pace."""

    def __init__(self, device: str, clock: Clock, *, timeout_s: float = 5.0, mode: CameraMode | None = None) -> None:
        """Keep the name of the device: a number, a path, or part of its name."""
        self.device, self._clock, self._timeout_s, self._mode = device, clock, timeout_s, mode or CameraMode()
        self._container: av.container.InputContainer | None = None
        self._encoded: EncodedPictures | None = None
        """Sees every picture with its time, for clips; called in the thread that reads the camera."""

    @property
    def name(self) -> str:
        """The camera, for messages."""
        return f"camera {show_address(self.device)!r}"

    @property
    def first_s(self) -> float:
        """Longest wait for the first picture, s."""
        return self._timeout_s

    def open(self) -> None:
        """Open the device.

        Raises:
            CaptureError: when there is no such camera, it is busy, or it gives no pictures.
        """
        import av

        try:
            if self.device.startswith(LAVFI):
                self._container = av.open(self.device.removeprefix(LAVFI), format="lavfi")
            else:
                file, form = _capture_device(self.device)
                options = self._mode.options(form)
                self._container = av.open(file, format=form, options=options, timeout=(self._timeout_s, self._timeout_s))
        except av.error.FFmpegError as exc:
            raise CaptureError(self._not_opened(reason_of(exc))) from exc
        if not self._container.streams.video:
            self.close()
            msg = f"camera {show_address(self.device)!r} sends no pictures"
            raise CaptureError(msg)

    def check(self) -> None:
        """Check that the device exists, without opening it.

        Raises:
            CaptureError: when there is no such camera.
        """
        if self.device.startswith(LAVFI):
            return
        file, form = _capture_device(self.device)
        if form == "v4l2" and not Path(file).exists():
            raise CaptureError(self._not_opened(f"{file} does not exist"))

    def _not_opened(self, reason: str) -> str:
        asked = ", ".join(f"{name}={value}" for name, value in self._mode.options("v4l2").items())
        return (
            f"{self.name} cannot be opened{f' with {asked}' if asked else ''}: {reason}. "
            "`streamav devices` lists the devices of this machine and what they can do"
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures, pixels; 0 before it is open."""
        if self._container is None:
            return 0, 0
        context = self._container.streams.video[0].codec_context
        return context.width, context.height

    def feed(self, tap: PacketTap, offset_ns: int) -> None:
        """Encode its pictures for a tap, as PictureInlet."""
        self._encoded = EncodedPictures(tap, self.size, offset_ns)

    def close(self) -> None:
        """Close the device; only the thread that reads it may call this."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def pictures(self, look: Look, offset_ns: int, stop: threading.Event) -> Iterator[VideoFrame]:
        """Yield the pictures that are used; their times are monotonic times plus *offset_ns*.

        Raises:
            CaptureError: when the camera ends or fails.
        """
        from streamav.capture.picture import InstantSampler, Scaler

        sampler: InstantSampler[av.VideoFrame] = InstantSampler(look.frames_per_second)
        scaler = Scaler(look.picture)
        for time_ns, frame in self.frames(stop):
            if self._encoded is not None:
                self._encoded.take(frame, time_ns)
            for shown_ns, wanted in sampler.push(time_ns + offset_ns, frame):
                yield VideoFrame(start_ns=shown_ns, pixels=scaler.scale(wanted))

    def frames(self, stop: threading.Event) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield monotonic times in ns and decoded pictures.

        Raises:
            CaptureError: when the camera ends or fails.
        """
        import av

        container = self._container
        if container is None:
            msg = "a camera must be opened before its pictures are read"
            raise CaptureError(msg)
        pacer = Pacer(self._clock, stop) if self.device.startswith(LAVFI) else None
        try:
            for frame in container.decode(video=0):
                stamp_ns = None if frame.pts is None or frame.time_base is None else round(frame.pts * frame.time_base * 10**9)
                if pacer is not None and stamp_ns is not None:
                    pacer.wait_until(stamp_ns)
                if stop.is_set():
                    return
                now_ns = self._clock.monotonic_ns()
                # Most drivers stamp the picture with the monotonic clock when they take it. For the others the time of arrival is used.
                trusted = stamp_ns is not None and pacer is None and 0 <= now_ns - stamp_ns < _KERNEL_STAMP_LIMIT_NS
                yield (stamp_ns if stamp_ns is not None and trusted else now_ns), frame
        except av.error.FFmpegError as exc:
            msg = f"camera {show_address(self.device)!r} failed: {reason_of(exc)}"
            raise CaptureError(msg) from exc
        msg = f"camera {show_address(self.device)!r} is gone: it was unplugged or switched off"
        raise CaptureError(msg)


def _capture_device(device: str) -> tuple[str, str]:
    """Return FFmpeg's name of a camera, and the name of its input format, on this system."""
    if sys.platform == "darwin":
        return device, "avfoundation"
    return find_camera(device), "v4l2"
