"""Reads a source with one demuxer: a file, a network stream, or an FFmpeg filter graph, with its own time stamps.

Sound and pictures share the clock of the container, so no delay is measured. It uses no segments.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import stat
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from streamav.capture.address import LAVFI, is_live, is_network
from streamav.capture.live import LiveLoop
from streamav.capture.pacing import Pacer
from streamav.capture.tap import NoTap
from streamav.clock import SystemClock
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.files import file_sha256, typed_path
from streamav.redaction import redact, show_address
from streamav.types import SEGMENT_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    import av

    from streamav.capture.demux import DecodedFrame
    from streamav.capture.look import Look
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock
    from streamav.types import AudioBlock, SourceState, VideoFrame

__all__ = ["MediaSource"]

_LOG = logging.getLogger(__name__)
_SYSTEM_ERRORS = {
    FileNotFoundError: ": there is no such file; check the path",
    IsADirectoryError: " is a folder; give the path of one media file in it",
    PermissionError: " cannot be read: permission denied; check its permissions",
}


class MediaSource:
    """A file, URL or filter graph as a source.

    Network streams are live: their end is a loss, and they are opened again without limit. Files, filter graphs
    ("lavfi:GRAPH") and plain media files on a web server end.
    """

    def __init__(
        self,
        uri: str,
        look: Look,
        *,
        speed: Literal["1", "max"] = "1",
        settings: CaptureSettings | None = None,
        clock: Clock | None = None,
        tap: PacketTap | None = None,
        begin_s: int = 0,
    ) -> None:
        """Keep the address; nothing is opened before items() is called.

        Args:
            uri: path, URL, or "lavfi:" and a graph with a picture and a sound output.
            look: which pictures are used, and their size.
            speed: "1" plays a file at its own pace, "max" without waiting. Ignored for live streams.
            settings: timeouts and reconnecting; None for the defaults.
            clock: clock for pace and pauses; None for the machine's monotonic clock.
            tap: receives the packets; None for nobody.
            begin_s: what is complete before this second of a file is left out. Ignored for live streams.
        """
        self._begin_ns = 0 if is_live(uri) else begin_s * SEGMENT_NS
        self._uri, self._look, self._tap = uri, look, tap or NoTap()
        self._name = show_address(uri)
        self._live = is_live(uri)
        self._settings = settings or CaptureSettings()
        clock = clock or SystemClock()
        self._closed = threading.Event()
        self._pacer = None if self._live or speed == "max" else Pacer(clock, self._closed)
        self._loop = LiveLoop(self._name, self._session, self._settings, clock) if self._live else None

    @property
    def live(self) -> bool:
        """True for a network stream."""
        return self._live

    @cached_property
    def session(self) -> str:
        """SHA-256, in hex, of a file's content or of a filter graph; a random word for a source that cannot be read twice.

        A network stream, a pipe and a device cannot be read twice.

        Raises:
            CaptureError: when the file cannot be read.
        """
        if is_network(self._uri):
            return secrets.token_hex(8)
        if self._uri.startswith(LAVFI):
            return hashlib.sha256(self._uri.encode()).hexdigest()
        path = _path(self._uri)
        try:
            once = not (stat.S_ISREG(path.stat().st_mode) or path.is_dir())  # hashing a pipe would consume its content
            return secrets.token_hex(8) if once else file_sha256(path)
        except OSError as exc:
            raise _cannot_open(self._name, exc) from exc

    @property
    def skew_ms(self) -> int | None:
        """None: one demuxer has one clock, and the time stamps of the container are trusted."""
        return None

    def items(self) -> Iterator[AudioBlock | VideoFrame | SourceState]:
        """Yield sound and pictures, each in time order; for a live stream also LOST and ONLINE.

        Raises:
            CaptureError: when the source cannot be opened or decoded, or is lost and must not be opened again.
            MissingModalityError: when it has no sound or no picture.
        """
        if self._loop is not None:
            yield from self._loop.items()
            return
        for item in self._session(lambda: 0, self._closed):
            if self._pacer is not None:
                self._pacer.wait_until(item.end_ns)
            if self._closed.is_set():
                return
            yield item

    def close(self) -> None:
        """Make items() end before its next item, or within a tenth of a second for a live stream."""
        self._closed.set()
        if self._loop is not None:
            self._loop.close()

    def _session(self, origin: Callable[[], int], stop: threading.Event) -> Iterator[AudioBlock | VideoFrame]:
        """Open the source once and yield its items until it ends, fails or *stop* is set."""
        import av

        from streamav.capture.demux import decode, find_streams, read_items

        end_ns = 0
        try:
            with self._open() as container:
                sound, picture = find_streams(container, self._name)
                # Frame threads delay pictures; a live source needs them at once.
                picture.thread_type = "SLICE" if self._live else "AUTO"
                frames = decode(container, sound, picture, self._name, live=self._live, tap=self._tap)
                if self._begin_ns and _seek(container, self._begin_ns):
                    placed = _FirstStamp(frames, (container.start_time or 0) * 1000)
                    frames, origin = iter(placed), placed.media_ns
                for item in read_items(frames, self._look, origin, self._name, self._tap):
                    if stop.is_set():
                        return
                    end_ns = max(end_ns, item.end_ns)
                    if item.end_ns > self._begin_ns:
                        yield item
                announced_s = (container.duration or 0) / 1e6
                if announced_s - end_ns / 1e9 > 1.0 and not self._live:
                    _LOG.warning("file ends early source=%s at_s=%.1f announced_s=%.1f", self._name, end_ns / 1e9, announced_s)
        except av.error.FFmpegError as exc:
            if end_ns and not self._live:
                _LOG.warning(
                    "the file is damaged, its rest is skipped source=%s at_s=%.1f reason=%s", self._name, end_ns / 1e9, exc.strerror
                )
                return
            raise _cannot_open(self._name, exc) from exc

    def _open(self) -> av.container.InputContainer:
        import av

        if self._uri.startswith(LAVFI):
            return av.open(self._uri.removeprefix(LAVFI), format="lavfi")
        if not is_network(self._uri):
            path = _path(self._uri).absolute()  # FFmpeg takes the text before a colon as a protocol
            if path.is_dir():
                raise _cannot_open(self._name, IsADirectoryError())
            try:
                return av.open(str(path), metadata_errors="replace")  # a title may have any encoding
            except av.error.InvalidDataError:
                if not path.is_file():
                    raise
                # FFmpeg searches a fragmented MP4 to its end before it opens the file. Without seeking it plays the file up to the damage.
                return av.open(str(path), options={"seekable": "0"}, metadata_errors="replace")
        # Over RTSP a timeout takes effect after about twice its value (measured), so half of it is set.
        timeout_s = self._settings.timeout_s / 2 if self._uri.startswith("rtsp") else self._settings.timeout_s
        options = _network_options(self._uri, timeout_s)
        return av.open(self._uri, options=options, timeout=(timeout_s * 2, timeout_s), metadata_errors="replace")


class _FirstStamp:
    """Passes decoded frames on, and notes the earliest time stamp: after a seek it says where on the file's axis the frames begin."""

    def __init__(self, frames: Iterator[DecodedFrame], zero_ns: int) -> None:
        self._frames, self._zero_ns = frames, zero_ns
        self._first_ns: int | None = None

    def __iter__(self) -> Iterator[DecodedFrame]:
        for frame in self._frames:
            if frame.time_ns is not None:
                self._first_ns = frame.time_ns if self._first_ns is None else min(self._first_ns, frame.time_ns)
            yield frame

    def media_ns(self) -> int:
        """Return the media time of the earliest frame so far, ns."""
        return max(0, (self._first_ns or 0) - self._zero_ns)


def _seek(container: av.container.InputContainer, begin_ns: int) -> bool:
    """Go to the last key frame before a time on the file's axis; return False where the file cannot be searched."""
    import av

    try:
        container.seek((container.start_time or 0) + begin_ns // 1000)
    except (av.error.FFmpegError, OSError):
        return False
    return True


def _network_options(uri: str, timeout_s: float) -> dict[str, str]:
    """Return FFmpeg's options for a live stream: every read has a timeout, and what is probed is kept.

    The option "nobuffer" must not be set: FFmpeg would drop the probed packets, and with them the only key frame of the next minute.
    """
    options = {"probesize": "500000", "analyzeduration": "1000000"}
    if uri.startswith(("rtsp", "http", "tcp", "udp")):  # not for RTMP, where this option makes FFmpeg wait for a caller
        options["timeout"] = str(round(timeout_s * 1e6))
    if uri.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # UDP loses packets without notice; with TCP a loss shows as a stall
    return options


def _path(uri: str) -> Path:
    if uri.lower().startswith("file://"):
        return Path(unquote(urlsplit(uri).path))
    return typed_path(uri)


def _cannot_open(name: str, exc: Exception) -> CaptureError:
    """Return an error that states what FFmpeg or the system reported and what to do."""
    for system_error, message in _SYSTEM_ERRORS.items():
        if isinstance(exc, system_error):
            return CaptureError(name + message)
    kind = type(exc).__name__
    if kind == "InvalidDataError" and is_network(name):
        return CaptureError(f"{name} sent no sound or video data; check that it is running, and its address")
    if kind == "InvalidDataError":
        return CaptureError(
            f"{name} is not a media file, or it is damaged from its start (an MP4 whose recording was cut off lacks its index); "
            "copy it again or repair it"
        )
    if kind in {"TimeoutError", "ExitError"}:
        return CaptureError(f"{name} gave no data in time; check that it is running and sends sound and picture")
    reason = getattr(exc, "strerror", None) or redact(str(exc)) or kind
    return CaptureError(f"{name} cannot be read: {reason}")
