"""Opens a medium once, a file, a network stream or a filter graph, and yields its sound and pictures until it ends.

It does not reconnect, pace or join sources; `live`, `media` and `joined` do.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from streamav.capture.address import LAVFI, STDIN, is_live, is_network
from streamav.capture.network import open_network, what_failed
from streamav.errors import CaptureError
from streamav.mistyped import advice_on_source
from streamav.redaction import redact, show_address
from streamav.user_paths import typed_path

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    import av
    from av.codec.hwaccel import HWAccel

    from streamav.capture.demux import DecodedFrame
    from streamav.capture.look import Look
    from streamav.capture.streams import Streams
    from streamav.capture.tap import PacketTap
    from streamav.config import CaptureSettings, DecoderChoice
    from streamav.types import AudioBlock, SourceContent, VideoFrame

__all__ = ["Medium", "cannot_open", "file_path", "read_session"]

_LOG = logging.getLogger(__name__)
_SYSTEM_ERRORS: Final = {
    FileNotFoundError: ": there is no such file; ADVICE",
    IsADirectoryError: " is a folder; name one media file in it (streamav localize takes a whole folder)",
    PermissionError: " cannot be read: permission denied; check its permissions",
}
_PLAYLISTS: Final = frozenset({"hls", "dash", "concat", "imf", "sdp", "rtsp"})
"""FFmpeg's formats of playlists. As a file they may name any other file of this machine, or themselves, and a live one never ends."""
_PLAYLIST_MARKS: Final = (b"#EXTM3U", b"<MPD", b"ffconcat version", b"CompositionPlaylist", b"v=0\no=", b"v=0\r\no=")
_TEXT: Final = "tty"
"""FFmpeg's format for text files, which it draws as pictures."""
_PHOTOS: Final = frozenset({"image2", "ico"})
_ONE_PICTURE: Final = "_pipe"
"""FFmpeg's formats of photos: image2, ico, and jpeg_pipe, png_pipe, webp_pipe and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """What is opened, and how."""

    uri: str
    """Path, URL, "-" for standard input, or "lavfi:" and a graph."""
    look: Look
    timeout_s: float
    """A network stream that gives nothing for this long is lost, s."""
    decoder: DecoderChoice = "software"
    """What decodes its pictures."""
    isolate: bool = False
    """Whether a process of its own reads it."""
    begin_ns: int = 0
    """What is complete before this time of a file is left out, ns."""

    @classmethod
    def of(cls, uri: str, look: Look, settings: CaptureSettings) -> Medium:
        """Return the medium of an address with the settings of capture."""
        return cls(uri=uri, look=look, timeout_s=settings.timeout_s, decoder=settings.decoder, isolate=bool(settings.isolate))

    @property
    def name(self) -> str:
        """Return the address without secrets, for messages."""
        return "standard input" if self.uri == STDIN else show_address(self.uri)

    @property
    def live(self) -> bool:
        """Return whether it is a network stream that does not end."""
        return is_live(self.uri)


def read_session(
    medium: Medium, origin: Callable[[], int], stop: threading.Event, tap: PacketTap
) -> Iterator[AudioBlock | VideoFrame | SourceContent]:
    """Open a medium once and yield its items until it ends, fails or *stop* is set; the first item is its content.

    Args:
        medium: what is opened.
        origin: returns the media time of the first item, ns; called once, when that item has arrived.
        stop: ends the session.
        tap: receives the encoded packets.

    Raises:
        CaptureError: when it cannot be opened or decoded.
        MissingModalityError: when it has nothing that is wanted.
    """
    import av

    from streamav.capture.demux import decode
    from streamav.capture.items import read_items

    end_ns, name, live = 0, medium.name, medium.live
    try:
        container, streams = _opened(medium)
        with container:
            yield streams.content
            frames = decode(container, streams, name, live=live, tap=tap)
            if medium.begin_ns and _seek(container, medium.begin_ns):
                placed = _FirstStamp(frames, (container.start_time or 0) * 1000)
                frames, origin = iter(placed), placed.media_ns
            for item in read_items(frames, streams.content, medium.look, origin, name, tap):
                if stop.is_set():
                    return
                end_ns = max(end_ns, item.end_ns)
                if item.start_ns >= medium.begin_ns or item.end_ns > medium.begin_ns:  # a picture ends where it begins
                    yield item
            # Some containers announce the time stamp of their end, some their length.
            announced_s = ((container.duration or 0) - max(0, container.start_time or 0)) / 1e6
            if announced_s - end_ns / 1e9 > 1.0 and not live:
                _LOG.warning("file ends early source=%s at_s=%.1f announced_s=%.1f", name, end_ns / 1e9, announced_s)
    except (av.error.FFmpegError, OSError, MemoryError) as exc:  # the system's own error: a name that is too long
        if end_ns and not live:
            reason = getattr(exc, "strerror", None) or type(exc).__name__
            _LOG.warning("the file is damaged, its rest is skipped source=%s at_s=%.1f reason=%s", name, end_ns / 1e9, reason)
            return
        raise cannot_open(name, exc) from exc


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


def _opened(medium: Medium) -> tuple[av.container.InputContainer, Streams]:
    """Open a medium and choose its streams."""
    from streamav.capture.decoder import tune
    from streamav.capture.streams import find_streams
    from streamav.capture.unstamped import without_stamps

    container = _open(medium)
    try:
        streams = find_streams(container, medium.name, medium.look)
        if medium.live and streams.content != medium.look.wanted and not without_stamps(container):  # such formats hold pictures alone
            container.close()
            container = _open(medium, long=True)
            streams = find_streams(container, medium.name, medium.look)
        if streams.picture is not None:
            tune(streams.picture, live=medium.live)
    except BaseException:
        container.close()
        raise
    return container, streams


def _open(medium: Medium, *, long: bool = False) -> av.container.InputContainer:
    import av

    from streamav.capture.decoder import hardware

    uri, device = medium.uri, hardware(medium.decoder)
    if uri.startswith(LAVFI):
        return av.open(uri.removeprefix(LAVFI), format="lavfi")
    if is_network(uri):
        return open_network(uri, medium.timeout_s, device, long=long)
    if uri == STDIN:
        try:
            return av.open("pipe:0", options=_media_alone(), metadata_errors="replace", hwaccel=device)
        except av.error.ArgumentError as exc:
            msg = f"{medium.name} gives a playlist, which names other files or streams, or no media; send the media themselves"
            raise CaptureError(msg) from exc
    return _open_file(file_path(uri).absolute(), medium.name, device)  # FFmpeg takes the text before a colon as a protocol


def _open_file(path: Path, name: str, device: HWAccel | None) -> av.container.InputContainer:
    """Open a file of this machine; it is the only file that FFmpeg reads."""
    import av

    if path.is_dir():
        raise cannot_open(name, IsADirectoryError())
    if path.is_fifo():
        _LOG.warning("%s is a pipe: it is read as soon as a program writes to it", name)
    options = _media_alone()
    try:
        container = av.open(str(path), options=options, metadata_errors="replace", hwaccel=device)  # a title may have any encoding
    except av.error.ArgumentError as exc:
        _refuse_playlist(path, name, exc)
        raise
    except av.error.InvalidDataError:
        if not path.is_file():
            raise
        if not path.stat().st_size:
            msg = f"{name} is empty (0 bytes); copy it again"
            raise CaptureError(msg) from None
        # FFmpeg searches a fragmented MP4 to its end before it opens the file. Without seeking it plays the file up to the damage.
        container = av.open(str(path), options=options | {"seekable": "0"}, metadata_errors="replace", hwaccel=device)
    form = container.format.name
    if form == _TEXT or form in _PHOTOS or form.endswith(_ONE_PICTURE):
        container.close()
        kind = "text file" if form == _TEXT else "single picture"
        msg = f"{name} is a {kind}, not a recording; name a media file with sound and moving pictures"
        raise CaptureError(msg)
    return container


def _media_alone() -> dict[str, str]:
    """Return FFmpeg's options for a medium that may name no other one."""
    import av

    return {"format_whitelist": ",".join(sorted(av.formats_available - _PLAYLISTS))}


def _refuse_playlist(path: Path, name: str, exc: Exception) -> None:
    """Raise CaptureError when a file that FFmpeg refused is a playlist.

    Args:
        path: the file; what can be read only once is not looked at.
        name: its name for messages.
        exc: the error of FFmpeg.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(2048)
    if any(mark in head for mark in _PLAYLIST_MARKS):
        msg = (
            f"{name} is a playlist, which names other files or streams; name a media file, or the address on its server (rtsp://, https://)"
        )
        raise CaptureError(msg) from exc


def file_path(uri: str) -> Path:
    """Return the path that a user wrote, as a path or as a file:// address."""
    if uri.lower().startswith("file://"):
        return Path(unquote(urlsplit(uri).path))
    return typed_path(uri)


def cannot_open(name: str, exc: Exception) -> CaptureError:
    """Return an error that states what FFmpeg or the system reported and what to do."""
    for system_error, message in _SYSTEM_ERRORS.items():
        if isinstance(exc, system_error):
            return CaptureError(name + message.replace("ADVICE", advice_on_source(name)))
    kind = type(exc).__name__
    if is_network(name) and (told := what_failed(exc, name)) is not None:
        return CaptureError(name + told)
    if kind == "InvalidDataError":
        return CaptureError(
            f"{name} is not a media file, or it is damaged from its start (an MP4 whose recording was cut off lacks its index); "
            "copy it again or repair it"
        )
    if kind == "ProtocolNotFoundError":
        scheme = name.partition("://")[0]
        return CaptureError(
            f"{name} cannot be read, because this build of PyAV lacks the protocol {scheme}: let the program ffmpeg receive it, "
            "with `ffmpeg -i ADDRESS -c copy -f mpegts - | streamav run --source -`"
        )
    reason = getattr(exc, "strerror", None) or redact(str(exc)) or kind
    return CaptureError(f"{name} cannot be read: {reason}")
