"""Checks that the devices of a source exist, before the seconds in which a model is loaded. It opens none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.clock import SystemClock

if TYPE_CHECKING:
    from streamav.config import SourceSettings

__all__ = ["check_devices"]


def check_devices(source: SourceSettings) -> None:
    """Check that the camera and the microphone of a source exist, where it names any.

    Raises:
        CaptureError: when one does not; the sentence is the one of opening it.
    """
    from streamav.capture.camera import Camera
    from streamav.capture.microphone import Microphone

    clock = SystemClock()
    if source.camera_device is not None:
        Camera(source.camera_device, clock).check()
    if source.mic_device is not None:
        Microphone(source.mic_device, clock).check()
