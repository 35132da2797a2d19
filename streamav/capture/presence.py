"""Checks that the devices of a source exist, before the seconds in which a model is loaded. It opens none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.clock import SystemClock
from streamav.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.config import SourceSettings

__all__ = ["check_devices"]


def check_devices(source: SourceSettings) -> None:
    """Check that the camera and the microphone of a source exist, where it names any.

    Raises:
        CaptureError: when one does not, with the sentence of opening it; when both do not, with both sentences.
    """
    from streamav.capture.camera import Camera
    from streamav.capture.microphone import Microphone

    clock = SystemClock()
    checks: list[Callable[[], None]] = []
    if source.camera_device is not None:
        checks.append(Camera(source.camera_device, clock).check)
    if source.mic_device is not None:
        checks.append(Microphone(source.mic_device, clock).check)
    missing = [told for check in checks if (told := _told(check)) is not None]
    if missing:
        raise CaptureError("\n".join(missing))


def _told(check: Callable[[], None]) -> str | None:
    try:
        check()
    except CaptureError as exc:
        return str(exc)
    return None
