"""Reads a session in a process of its own, so that a crash of FFmpeg ends one source and not all of them (docs/adr/0015)."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import select
import signal
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from streamav.capture.address import STDIN
from streamav.capture.session import read_session
from streamav.capture.tap import NoTap
from streamav.capture.wire import HEADER, Kind, unpack_header, unpack_item, unpack_note
from streamav.errors import CaptureError, MissingModalityError, reason_of
from streamav.stream_sample import open_sample
from streamav.types import SourceContent

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    import av

    from streamav.capture.reader import Item
    from streamav.capture.session import Medium
    from streamav.capture.tap import PacketTap
    from streamav.capture.wire import Message

__all__ = ["open_session"]

_LOG = logging.getLogger(__name__)
_POLL_MS: Final = 100
_NS: Final = Fraction(1, 1_000_000_000)


def open_session(medium: Medium, origin: Callable[[], int], stop: threading.Event, tap: PacketTap) -> Iterator[Item]:
    """Read a session here or in a process of its own, as the medium says; arguments and errors are those of `read_session`."""
    return (_read_isolated if medium.isolate else read_session)(medium, origin, stop, tap)


def _read_isolated(medium: Medium, origin: Callable[[], int], stop: threading.Event, tap: PacketTap) -> Iterator[Item]:
    child = _Child(medium, stop, tap=not isinstance(tap, NoTap))
    packets = _Packets(tap)
    begin_ns: int | None = None
    try:
        while (got := child.next()) is not None:
            message, payload = got
            if message.kind is Kind.PACKET:
                packets.packet(payload)
                continue
            if message.kind is not Kind.NOTE:
                if begin_ns is None:
                    begin_ns = origin()
                    packets.origin(begin_ns)
                yield unpack_item(message, payload, begin_ns)
                continue
            said = unpack_note(payload)
            if "end" in said:
                return
            if isinstance(content := said.get("content"), list):
                yield SourceContent(sound=bool(content[0]), picture=bool(content[1]))
            _take(said, packets, medium.name)
        if not stop.is_set():
            raise child.crash()
    finally:
        child.close()


def _take(said: dict[str, object], packets: _Packets, name: str) -> None:
    """Handle a note: a log line, an error, or what belongs to the packets.

    Raises:
        CaptureError: the error that ended the session.
    """
    match said:
        case {"log": [int(level), str(text)]}:
            _LOG.log(level, "%s", text)
        case {"error": ["MissingModalityError", str(text)]}:
            raise MissingModalityError(text)
        case {"error": ["", str(text)]}:
            msg = f"{name} cannot be decoded: {text}"
            raise CaptureError(msg)
        case {"error": [str(), str(text)]}:
            raise CaptureError(text)
        case {"begin": list(kinds)}:
            packets.begin(kinds)
        case {"stream": str(description)}:
            packets.describe(description)
        case {"place": ["sound" | "picture" as kind, int(offset_ns)]}:
            packets.place(kind, offset_ns)
        case {"turn": int(quarters)}:
            packets.turn(quarters)


class _Child:
    """The decoder process and the pipe on which it sends."""

    def __init__(self, medium: Medium, stop: threading.Event, *, tap: bool) -> None:
        self._name, self._stop = medium.name, stop
        job_in, job_out = os.pipe()
        self._from, to = os.pipe()
        # The address may hold a password, so it goes through a pipe: the list of processes shows arguments.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAV_")}
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "streamav.capture.child", str(job_in), str(to)],
            stdin=None if medium.uri == STDIN else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(job_in, to),
            env=environment,
        )
        os.close(job_in)
        os.close(to)
        with os.fdopen(job_out, "w", encoding="utf-8") as job:
            json.dump(_job(medium, tap=tap), job)
        self._poll = select.poll()
        self._poll.register(self._from, select.POLLIN)

    def next(self) -> tuple[Message, bytearray] | None:
        """Return the next message and its payload; None at the end of the pipe, or when the session must stop."""
        header = self._exactly(HEADER.size)
        if header is None:
            return None
        message = unpack_header(bytes(header))
        payload = self._exactly(message.size)
        return None if payload is None else (message, payload)

    def _exactly(self, size: int) -> bytearray | None:
        buffer = bytearray(size)
        view, have = memoryview(buffer), 0
        while have < size:
            if self._stop.is_set():
                return None
            if not self._poll.poll(_POLL_MS):
                continue
            got = os.readv(self._from, [view[have:]])
            if got == 0:
                return None
            have += got
        return buffer

    def crash(self) -> CaptureError:
        """Return the error of a process that ended without a word."""
        status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return CaptureError(
            f"the decoder of {self._name} crashed ({how}), which other sources do not notice: the data are damaged, or FFmpeg has a fault; "
            "convert the file with another program, or set the camera to another codec"
        )

    def close(self) -> None:
        """End the process; it holds nothing that could be lost."""
        os.close(self._from)
        self._process.kill()
        self._process.wait()


def _job(medium: Medium, *, tap: bool) -> dict[str, object]:
    look = medium.look
    return {
        "uri": medium.uri,
        "timeout_s": medium.timeout_s,
        "decoder": medium.decoder,
        "tap": tap,
        "look": {
            "height": look.picture[0],
            "width": look.picture[1],
            "frames_per_second": look.frames_per_second,
            "sound": look.wanted.sound,
            "picture": look.wanted.picture,
            "sound_track": look.sound_track,
            "picture_track": look.picture_track,
        },
    }


class _Packets:
    """Hands the packets that a decoder process sends to the tap, as if they had been read here."""

    def __init__(self, tap: PacketTap) -> None:
        self._tap = tap
        self._containers: list[av.container.InputContainer] = []
        self._streams: dict[bool, av.stream.Stream] = {}
        self._origin_ns: int | None = None
        self._places: list[tuple[str, int]] = []

    def begin(self, kinds: list[object]) -> None:
        """Begin a session."""
        self._tap.begin([kind for kind in ("sound", "picture") if kind in kinds])

    def describe(self, description: str) -> None:
        """Take the description of a stream; where it cannot be read, its packets are left out."""
        import av

        try:
            container = open_sample(base64.b64decode(description, validate=True))
        except (av.error.FFmpegError, binascii.Error) as exc:
            _LOG.warning("no clips can be cut of this source, a stream cannot be described reason=%s", reason_of(exc))
            return
        self._containers.append(container)
        for stream in container.streams:
            self._streams[stream.type == "video"] = stream

    def packet(self, payload: bytearray) -> None:
        """Take a packet."""
        import av

        from streamav.capture.child import PACKET

        dts_ns, pts_ns, length_ns, picture, key = PACKET.unpack_from(payload)
        stream = self._streams.get(bool(picture))
        if stream is None:
            return
        packet = av.Packet(bytes(payload[PACKET.size :]))
        packet.time_base, packet.dts, packet.pts, packet.duration = _NS, dts_ns, pts_ns, length_ns
        packet.is_keyframe, packet.stream = bool(key), stream
        self._tap.packet(packet)

    def turn(self, quarters: int) -> None:
        """Take how far the pictures are turned."""
        self._tap.turn(quarters)

    def origin(self, begin_ns: int) -> None:
        """Take the media time of the first item; offsets of the decoder process are relative to it."""
        self._origin_ns = begin_ns
        for kind, offset_ns in self._places:
            self._tap.place(kind, offset_ns + begin_ns)  # type: ignore[arg-type]
        self._places = []

    def place(self, kind: str, offset_ns: int) -> None:
        """Take an offset; before the first item it is kept."""
        self._places.append((kind, offset_ns))
        if self._origin_ns is not None:
            self.origin(self._origin_ns)
