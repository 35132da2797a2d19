"""Reads a camera through FFmpeg's capture devices and stamps its pictures on the computer's monotonic clock.

It uses no microphone and does not reopen a device.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from streamav.capture.address import LAVFI
from streamav.capture.devices import find_camera
from streamav.capture.pacing import Pacer
from streamav.errors import CaptureError
from streamav.redaction import show_address

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import av

    from streamav.clock import Clock

__all__ = ["Camera"]

_KERNEL_STAMP_LIMIT_NS = 2_000_000_000


class Camera:
    """One camera. For tests, "lavfi:GRAPH" replaces the camera by a filter graph that plays at its own pace."""

    def __init__(self, device: str, clock: Clock, *, timeout_s: float = 5.0) -> None:
        """Keep the name of the device: a number, a path, or part of its name."""
        self.device, self._clock, self._timeout_s = device, clock, timeout_s
        self._container: av.container.InputContainer | None = None

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
                self._container = av.open(file, format=form, timeout=(self._timeout_s, self._timeout_s))
        except av.error.FFmpegError as exc:
            shown = show_address(self.device)
            msg = f"camera {shown!r} cannot be opened: {exc.strerror}. `streamav devices` lists the devices of this machine"
            raise CaptureError(msg) from exc
        if not self._container.streams.video:
            self.close()
            msg = f"camera {show_address(self.device)!r} gives no pictures"
            raise CaptureError(msg)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures, pixels; 0 before it is open."""
        if self._container is None:
            return 0, 0
        context = self._container.streams.video[0].codec_context
        return context.width, context.height

    def close(self) -> None:
        """Close the device; only the thread that reads it may call this."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

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
            msg = f"camera {show_address(self.device)!r} failed: {exc.strerror}"
            raise CaptureError(msg) from exc
        msg = f"camera {show_address(self.device)!r} is gone: it was unplugged or switched off"
        raise CaptureError(msg)


def _capture_device(device: str) -> tuple[str, str]:
    """Return FFmpeg's name of a camera, and the name of its input format, on this system."""
    if sys.platform == "darwin":
        return device, "avfoundation"
    return find_camera(device), "v4l2"
