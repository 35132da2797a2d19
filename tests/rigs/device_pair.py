"""Joins a camera and a microphone without settings of a source, so that tests can choose clock and tap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.capture.camera import Camera
from streamav.capture.microphone import Microphone
from streamav.capture.pair import PairSource
from streamav.clock import Clock, SystemClock
from streamav.config import CaptureSettings

if TYPE_CHECKING:
    from streamav.capture.look import Look
    from streamav.capture.tap import PacketTap

__all__ = ["device_pair"]


def device_pair(
    camera: str,
    microphone: str,
    look: Look,
    *,
    settings: CaptureSettings | None = None,
    clock: Clock | None = None,
    tap: PacketTap | None = None,
) -> PairSource:
    """Return a camera with a microphone as one source.

    Args:
        camera: a number, a path, or part of a name.
        microphone: "default", a number, or part of a name.
        look: which pictures are used, and their size.
        settings: timeouts and reconnecting; None for the defaults.
        clock: monotonic; None for the clock of the machine.
        tap: receives what both give, encoded for clips; None encodes nothing.
    """
    settings, clock = settings or CaptureSettings(), clock or SystemClock()
    return PairSource(
        lambda: Camera(camera, clock, timeout_s=settings.timeout_s),
        lambda: Microphone(microphone, clock, timeout_s=settings.timeout_s),
        look,
        settings=settings,
        clock=clock,
        tap=tap,
    )
