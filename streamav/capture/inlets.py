"""Defines what a joined source is made of, one thing that gives pictures and one that gives sound, and makes them of network streams.

Both stamp what they give on the computer's monotonic clock. Cameras and microphones do so by themselves. A network stream has a clock
of its own, which is mapped by the arrival with the least delay.
"""

from __future__ import annotations

import queue
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from streamav.arrivals import ArrivalOffset
from streamav.capture.isolated import open_session
from streamav.capture.picture import InstantSampler
from streamav.capture.reader import SessionReader
from streamav.capture.tap import HalfTap, NoTap
from streamav.errors import CaptureError
from streamav.types import AudioBlock, SourceContent, VideoFrame

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from streamav.capture.look import Look
    from streamav.capture.session import Medium
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock

__all__ = ["PictureInlet", "SoundInlet", "StreamPictures", "StreamSound"]

_SETTLE_NS: Final = 1_000_000_000
"""The delay of a stream is known after this time: servers send what they have stored in a burst at the start."""
_ALL_PICTURES: Final = 60
"""Pictures a second above those of usual cameras, so that none is left out."""


class PictureInlet(Protocol):
    """Gives pictures on the monotonic clock."""

    @property
    def name(self) -> str:
        """What it is, for messages, without secrets."""

    @property
    def first_s(self) -> float:
        """Longest wait for the first picture after it was opened, s."""

    def open(self) -> None:
        """Open it; raise CaptureError when it cannot be opened."""

    def feed(self, tap: PacketTap, offset_ns: int) -> None:
        """Pass what is read also to a tap, encoded, at monotonic times plus *offset_ns*; called between open() and pictures()."""

    def pictures(self, look: Look, offset_ns: int, stop: threading.Event) -> Iterator[VideoFrame]:
        """Yield the pictures that are used, at monotonic times plus *offset_ns*; raise CaptureError when it ends or fails."""

    def close(self) -> None:
        """Close it; only the thread that reads it may call this."""


class SoundInlet(Protocol):
    """Gives sound on the monotonic clock."""

    @property
    def name(self) -> str:
        """What it is, for messages, without secrets."""

    @property
    def skew_ms(self) -> int | None:
        """Measured delay of the time stamps that is not corrected yet, ms; None when it is not measured."""

    def open(self) -> None:
        """Open it; raise CaptureError when it cannot be opened."""

    def feed(self, tap: PacketTap, offset_ns: int) -> None:
        """Pass what is read also to a tap, encoded, at monotonic times plus *offset_ns*; called between open() and blocks()."""

    def blocks(self, stop: threading.Event) -> Iterator[AudioBlock | None]:
        """Yield sound, and None from time to time while there is none; raise CaptureError when it ends or fails."""

    def close(self) -> None:
        """Close it."""


class _Stream:
    """One half of a network stream on the monotonic clock."""

    def __init__(self, medium: Medium, wanted: SourceContent, clock: Clock) -> None:
        self._medium = replace(medium, look=replace(medium.look, wanted=wanted))
        self._clock = clock
        self._tap: HalfTap | None = None
        self._fed_ns = 0

    @property
    def name(self) -> str:
        """The address without secrets."""
        return self._medium.name

    @property
    def skew_ms(self) -> int | None:
        """None: how long a stream is on its way cannot be measured here."""
        return None

    def feed(self, tap: PacketTap, offset_ns: int) -> None:
        """Pass its packets to a tap, as they are; their place on the media clock is known once the delay of the stream is known."""
        self._tap, self._fed_ns = HalfTap(tap, "sound" if self._medium.look.wanted.sound else "picture"), offset_ns

    def open(self) -> None:
        """Do nothing; the thread that reads the stream opens it."""

    def close(self) -> None:
        """Do nothing; the thread that reads the stream closes it."""

    def _placed(self, stop: threading.Event) -> Iterator[AudioBlock | VideoFrame | None]:
        """Yield the items on the monotonic clock, and None while none arrives.

        Raises:
            CaptureError: when the stream ends, fails, or gives nothing for too long.
        """
        tap = NoTap() if self._tap is None else self._tap
        reader = SessionReader(lambda origin, end: open_session(self._medium, origin, end, tap), lambda: 0, self.name)
        arrivals, held = ArrivalOffset(), list[AudioBlock | VideoFrame]()
        begin_ns: int | None = None
        try:
            while not stop.is_set():
                item = self._next(reader)
                if item is None:
                    yield None
                    continue
                now_ns = self._clock.monotonic_ns()
                begin_ns = now_ns if begin_ns is None else begin_ns
                offset_ns = arrivals.push(now_ns, item.end_ns)
                held.append(item)
                if now_ns - begin_ns >= _SETTLE_NS:
                    if self._tap is not None:
                        self._tap.shift(offset_ns + self._fed_ns)
                    for one in held:
                        yield replace(one, start_ns=one.start_ns + offset_ns)
                    held.clear()
        finally:
            reader.end()

    def _next(self, reader: SessionReader) -> AudioBlock | VideoFrame | None:
        try:
            item = reader.get()
        except queue.Empty:
            return None
        if item is None:
            msg = f"{self.name} ended: check that the camera, or the program that sends the stream, still runs"
            raise CaptureError(msg)
        if isinstance(item, Exception):
            raise item
        return None if isinstance(item, SourceContent) else item


class StreamSound(_Stream):
    """The sound of a network stream."""

    def __init__(self, medium: Medium, clock: Clock) -> None:
        """Take the stream; its pictures are not read."""
        super().__init__(medium, SourceContent(picture=False), clock)

    def blocks(self, stop: threading.Event) -> Iterator[AudioBlock | None]:
        """Yield sound, as SoundInlet."""
        for item in self._placed(stop):
            if not isinstance(item, VideoFrame):
                yield item


class StreamPictures(_Stream):
    """The pictures of a network stream."""

    def __init__(self, medium: Medium, clock: Clock) -> None:
        """Take the stream; its sound is not read."""
        # Which pictures are used is known on the common clock only, so the session passes all of them on.
        look = replace(medium.look, frames_per_second=_ALL_PICTURES)
        super().__init__(replace(medium, look=look), SourceContent(sound=False), clock)

    @property
    def first_s(self) -> float:
        """Opening a stream and waiting for its first key frame may take longer than a pause within it."""
        return 2.0 * self._medium.timeout_s + 2.0

    def pictures(self, look: Look, offset_ns: int, stop: threading.Event) -> Iterator[VideoFrame]:
        """Yield pictures, as PictureInlet."""
        sampler: InstantSampler[VideoFrame] = InstantSampler(look.frames_per_second)
        for item in self._placed(stop):
            if isinstance(item, VideoFrame):
                for start_ns, picture in sampler.push(item.start_ns + offset_ns, item):
                    yield replace(picture, start_ns=start_ns)
