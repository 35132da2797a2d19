"""Reads a source with one demuxer: a file, a network stream, or an FFmpeg filter graph, with its own time stamps.

Sound and pictures share the clock of the container, so no delay is measured. It uses no segments.
"""

from __future__ import annotations

import hashlib
import secrets
import stat
import threading
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from streamav.capture.address import LAVFI, STDIN, is_network
from streamav.capture.live import LiveLoop
from streamav.capture.pacing import Pacer
from streamav.capture.session import Medium, cannot_open, file_path
from streamav.capture.tap import NoTap
from streamav.clock import SystemClock
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.files import file_sha256
from streamav.types import SEGMENT_NS, AudioBlock, SourceContent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from streamav.capture.look import Look
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock
    from streamav.types import StateChange, VideoFrame

    Item = AudioBlock | VideoFrame | SourceContent

__all__ = ["MediaSource"]


class MediaSource:
    """A file, URL or filter graph as a source.

    Network streams are live: their end is a loss, and they are opened again without limit. Files, filter graphs
    ("lavfi:GRAPH"), standard input ("-") and plain media files on a web server end, unless they are played in a loop.
    """

    def __init__(  # noqa: PLR0913 - what is played, and how
        self,
        uri: str,
        look: Look,
        *,
        speed: Literal["1", "max"] = "1",
        settings: CaptureSettings | None = None,
        clock: Clock | None = None,
        tap: PacketTap | None = None,
        loop: bool = False,
        begin_s: int = 0,
    ) -> None:
        """Keep the address; nothing is opened before items() is called.

        Args:
            uri: path, URL, "-" for standard input, or "lavfi:" and a graph with a picture or a sound output.
            look: what of it is used.
            speed: "1" plays a file at its own pace, "max" without waiting. Ignored for live streams.
            settings: timeouts and reconnecting; None for the defaults.
            clock: clock for pace and pauses; None for the machine's monotonic clock.
            tap: receives the packets; None for nobody.
            loop: True plays a file again and again.
            begin_s: what is complete before this second of a file is left out. Ignored for live streams.
        """
        settings = settings or CaptureSettings()
        medium = Medium.of(uri, look, settings)
        self._medium = medium if medium.live else replace(medium, begin_ns=begin_s * SEGMENT_NS)
        self._tap, self._repeat = tap or NoTap(), loop
        clock = clock or SystemClock()
        self._closed = threading.Event()
        self._pacer = None if self.live or speed == "max" else Pacer(clock, self._closed)
        self._loop = LiveLoop(self._medium.name, self._session, settings, clock) if self.live else None

    @property
    def live(self) -> bool:
        """True for a network stream."""
        return self._medium.live

    @cached_property
    def session(self) -> str:
        """SHA-256, in hex, of a file's content or of a filter graph; a random word for a source that cannot be read twice.

        A network stream, a pipe and a device cannot be read twice.

        Raises:
            CaptureError: when the file cannot be read.
        """
        uri = self._medium.uri
        if is_network(uri) or uri == STDIN:
            return secrets.token_hex(8)
        if uri.startswith(LAVFI):
            return hashlib.sha256(uri.encode()).hexdigest()
        path = file_path(uri)
        try:
            once = not (stat.S_ISREG(path.stat().st_mode) or path.is_dir())  # hashing a pipe would consume its content
            return secrets.token_hex(8) if once else file_sha256(path)
        except OSError as exc:
            raise cannot_open(self._medium.name, exc) from exc

    @property
    def skew_ms(self) -> int | None:
        """None: one demuxer has one clock, and the time stamps of the container are trusted."""
        return None

    def items(self) -> Iterator[Item | StateChange]:
        """Yield sound and pictures, each in time order; for a live stream also losses and returns.

        Raises:
            CaptureError: when the source cannot be opened or decoded, or is lost and must not be opened again.
            MissingModalityError: when it has neither sound nor pictures that are wanted.
        """
        if self._loop is not None:
            yield from self._loop.items()
            return
        for item in self._rounds():
            if not isinstance(item, SourceContent) and self._pacer is not None:
                self._pacer.wait_until(item.end_ns)
            if self._closed.is_set():
                return
            yield item

    def close(self) -> None:
        """Make items() end before its next item, or within a tenth of a second for a live stream."""
        self._closed.set()
        if self._loop is not None:
            self._loop.close()

    def _rounds(self) -> Iterator[Item]:
        """Yield the items of a file, once or in a loop; each round continues where the one before it ended."""
        told, end_ns = SourceContent(), 0
        while True:
            begin_ns = end_ns
            for item in self._session(lambda begin_ns=begin_ns: begin_ns, self._closed):  # type: ignore[misc]
                if isinstance(item, SourceContent):
                    if item == told:
                        continue
                    told = item
                else:
                    end_ns = max(end_ns, item.end_ns)
                yield item
            if not self._repeat or self._closed.is_set():
                return
            if end_ns == begin_ns:
                msg = f"{self._medium.name} has nothing that could be played in a loop; play it once to see why"
                raise CaptureError(msg)

    def _session(self, origin: Callable[[], int], stop: threading.Event) -> Iterator[Item]:
        """Open the source once and yield its items until it ends, fails or *stop* is set."""
        from streamav.capture.isolated import open_session

        return open_session(self._medium, origin, stop, self._tap)
