"""Chooses what decodes pictures: the processor, or a decoder of the graphics card."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from streamav.errors import CaptureError, reason_of

if TYPE_CHECKING:
    from streamav.config import DecoderChoice

__all__ = ["hardware", "limit", "tune"]

ContextT = TypeVar("ContextT", bound="av.CodecContext")

_LOG = logging.getLogger(__name__)
_DEVICES: Final = ("cuda", "videotoolbox", "vaapi")
"""Kinds of devices that decode what cameras send, and that PyAV's wheels or a build of one's own may support."""
_MOST_PIXELS: Final = 8192 * 8192
"""No camera sends larger pictures. A damaged header may announce any size, and FFmpeg would allocate the memory for it."""


_REPEATING: Final = frozenset({"theora"})
"""Codecs with empty packets where nothing has changed."""


@cache
def hardware(choice: DecoderChoice) -> HWAccel | None:
    """Return the device that decodes pictures; None for the processor.

    Streams that the device cannot decode are decoded by the processor. "auto" takes the first device that works, or none.

    Raises:
        CaptureError: when the device is named and does not work.
    """
    if choice == "software":
        return None
    reasons = []
    for device in _DEVICES if choice == "auto" else (choice,):
        try:
            if device not in hwdevices_available():
                reasons.append(f"{device}: this build of PyAV does not support it")
                continue
            HWAccel(device).create(av.Codec("h264", "r"))
        except (av.error.FFmpegError, RuntimeError) as exc:
            reasons.append(f"{device}: {reason_of(exc)}")
            continue
        _LOG.info("pictures are decoded by hardware device=%s", device)
        return HWAccel(device, allow_software_fallback=True)
    if choice == "auto":
        _LOG.info("pictures are decoded by the processor reason=%s", "; ".join(reasons))
        return None
    msg = f"capture.decoder must name a device that works here, got {reasons[0]}; write auto, or software"
    raise CaptureError(msg)


def tune(stream: av.VideoStream, *, live: bool) -> None:
    """Set how a picture stream is decoded, before its first packet."""
    # Frame threads delay pictures; a live source needs them at once, and so do codecs whose packets say "the same again".
    stream.thread_type = "SLICE" if live or stream.codec_context.name in _REPEATING else "AUTO"
    limit(stream.codec_context)


def limit(context: ContextT) -> ContextT:
    """Refuse pictures of impossible sizes, before the first packet; return the decoder."""
    context.options = {**context.options, "max_pixels": str(_MOST_PIXELS)}
    return context
