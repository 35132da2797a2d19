"""Opens a network stream with the time limits that its protocol needs, and says what FFmpeg's errors of it mean.

It opens no file and chooses no streams.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import av
    from av.codec.hwaccel import HWAccel

__all__ = ["open_network", "what_failed"]

_PROBE: Final = {"probesize": "500000", "analyzeduration": "1000000"}
_LONG_PROBE: Final = {"probesize": "5000000", "analyzeduration": "5000000"}
"""How long a live stream is searched for its second half: it may announce its sound late."""
_OPENING: Final = 2.0
"""Opening may take this many times as long as a read: a restream opens its camera only when somebody asks for it."""
_ANSWERING: Final = ("rtsp", "http")
"""Schemes of servers that answer: one that opens its camera first answers late."""
_ERRORS: Final = {
    "HTTPNotFoundError": (
        " was not found: its server answers, but has nothing at this path; check the path, and, at a restream (go2rtc, Frigate), "
        "that the camera behind it runs"
    ),
    "HTTPServerError": " reports an error of its own (5xx): look into the log of its server, and check that the camera behind it runs",
    "InvalidDataError": " sent no sound or video data; check that it is running, and its address",
    "LateAnswerError": " gave no data in time; check that it is running; if it starts slowly, set a longer capture.timeout_s",
    "UnknownHostError": " has a host name that this machine cannot resolve; check the name, or use the IP address",
} | {
    kind: text
    for kinds, text in (
        (
            ("HTTPUnauthorizedError", "HTTPForbiddenError"),
            " refuses the login; check user and password; in its address they stand before the host, as USER:PASSWORD@",
        ),
        (("TimeoutError", "ExitError"), " gave no data in time; check that it is running and sends sound and picture"),
    )
    for kind in kinds
}
"""What errors of a network stream mean, by their class, and what to do."""
_NO_MEDIA: Final = (
    " sent no sound or video data. A web page, such as one of YouTube, is no stream: save the video as a file and give its path; "
    "else check the address, and that it is running"
)
_SYSTEM_ERRORS: Final = {
    errno.EIO: " broke off: its server ended the connection, or redirects in a circle; check that it is running, and its address",
    errno.ECONNREFUSED: " refuses the connection: nothing listens there; check that it is running, and the port of its address",
    errno.ECONNRESET: " ended the connection; check that it is running, and that it allows one more viewer",
    errno.EHOSTUNREACH: " cannot be reached; check its power, its cable and its network, and the host of its address",
    errno.ENETUNREACH: " cannot be reached: this machine has no network that leads there; check its network, and the host of the address",
}
"""What errors of the system mean, by their number, and what to do."""


class LateAnswerError(TimeoutError):
    """A server did not answer while a stream was opened."""


class UnknownHostError(OSError):
    """The name of a host has no address."""


def open_network(uri: str, timeout_s: float, device: HWAccel | None, *, long: bool) -> av.container.InputContainer:
    """Open a network stream.

    Args:
        uri: address with a scheme.
        timeout_s: a read that takes longer fails, s; opening may take twice as long.
        device: what decodes pictures; None for the processor.
        long: whether the stream is searched long for sound and pictures.

    Raises:
        av.error.FFmpegError: when it cannot be opened.
        LateAnswerError: when it did not answer in time.
        UnknownHostError: when the name of its host has no address.
    """
    import av

    options = dict(_LONG_PROBE if long else _PROBE) | _limits(uri, timeout_s)
    # Over RTSP a limit of a read takes effect after about twice its value (measured), so half of it is set.
    limits = (timeout_s * _OPENING, timeout_s / 2 if uri.startswith("rtsp") else timeout_s)
    begun_s = time.monotonic()
    try:
        return av.open(uri, options=options, timeout=limits, metadata_errors="replace", hwaccel=device)
    except (av.error.TimeoutError, av.error.ExitError) as exc:
        raise LateAnswerError from exc
    except av.error.InvalidDataError as exc:
        if time.monotonic() - begun_s >= limits[0]:  # FFmpeg calls an RTSP answer that does not come invalid data
            raise LateAnswerError from exc
        raise
    except OSError as exc:
        if exc.errno == errno.EIO and not _resolves(uri):  # FFmpeg calls an unknown host an error of input or output
            raise UnknownHostError from exc
        raise


def _resolves(uri: str) -> bool:
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return True
    try:
        return not host or bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False


def _limits(uri: str, timeout_s: float) -> dict[str, str]:
    """Return FFmpeg's options for a network stream: every wait has a limit, and what is probed is kept.

    The option "nobuffer" must not be set: FFmpeg would drop the probed packets, and with them the only key frame of the next minute.
    """
    options = {}
    if uri.startswith(("rtsp", "http", "tcp", "udp", "srt")):  # not for RTMP, where this option makes FFmpeg wait for a caller
        wait_s = timeout_s * (_OPENING if uri.startswith(_ANSWERING) else 1.0)
        options["timeout"] = str(round(wait_s * 1e6))
    if uri.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # UDP loses packets without notice; with TCP a loss shows as a stall
    return options


def what_failed(exc: Exception, uri: str) -> str | None:
    """Return what an error of a network stream means and what to do, to be put behind its address; None for another error."""
    if type(exc).__name__ == "InvalidDataError" and uri.lower().startswith("http"):
        return _NO_MEDIA
    number = exc.errno if isinstance(exc, OSError) else None
    return _ERRORS.get(type(exc).__name__) or _SYSTEM_ERRORS.get(number or 0)
