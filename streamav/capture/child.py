"""The decoder process: reads one session and sends its items to the process that started it. It is the main function of a program.

A crash of FFmpeg ends this process alone. Its memory is limited, so that a damaged file cannot fill the machine.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import resource
import struct
import sys
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from streamav.capture.look import Look
from streamav.capture.session import Medium, read_session
from streamav.capture.tap import NoTap
from streamav.capture.wire import HEADER, Kind, note, pack
from streamav.errors import StreamavError
from streamav.stream_sample import sample_of
from streamav.types import SourceContent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

    import av

    from streamav.capture.stamps import Kind as StreamKind

__all__ = ["PACKET", "main"]

PACKET: Final = struct.Struct("<qqqBB")
"""Time stamps of decoding and showing and length, ns; whether it is a picture; whether it is a key frame. The data follow."""
_MOST_MEMORY: Final = 2_000_000_000
"""Bytes; ten pictures of 8K are a quarter of it."""
_NS: Final = Fraction(1, 1_000_000_000)


class _Sender:
    """Writes messages; several threads may use it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._lock = out, threading.Lock()

    def send(self, header: bytes, payload: bytes | memoryview) -> None:
        with self._lock:
            self._out.write(header)
            self._out.write(payload)
            self._out.flush()

    def note(self, **content: object) -> None:
        self.send(*note(content))


class _Logs(logging.Handler):
    """Sends log lines."""

    def __init__(self, sender: _Sender) -> None:
        super().__init__(logging.INFO)
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        self._sender.note(log=[record.levelno, record.getMessage()])


class _Forward:
    """A tap that sends the packets, and before the first one of each stream its description."""

    wanted = 1

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._described: set[bool] = set()

    def begin(self, kinds: Sequence[StreamKind]) -> None:
        self._described.clear()
        self._sender.note(begin=list(kinds))

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        if packet.dts is None or not packet.size or packet.time_base is None:
            return
        scale = packet.time_base / _NS
        dts_ns = int(packet.dts * scale)
        pts_ns = dts_ns if packet.pts is None else int(packet.pts * scale)
        length_ns = int((packet.duration or 0) * scale)
        picture, data = packet.stream.type == "video", bytes(packet)
        if picture not in self._described:
            self._described.add(picture)
            self._sender.note(stream=base64.b64encode(sample_of(packet.stream, data)).decode())
        payload = PACKET.pack(dts_ns, pts_ns, length_ns, picture, packet.is_keyframe) + data
        self._sender.send(HEADER.pack(Kind.PACKET, 0, 0, len(payload), 0), payload)

    def place(self, kind: StreamKind, offset_ns: int) -> None:
        self._sender.note(place=[kind, offset_ns])

    def turn(self, quarters: int) -> None:
        self._sender.note(turn=quarters)


def _medium(job: Mapping[str, object]) -> Medium:
    """Return the medium of a job, as `isolated` wrote it."""
    look = job["look"]
    if not isinstance(look, dict):
        msg = "a job must hold a look"
        raise TypeError(msg)
    wanted = SourceContent(sound=bool(look["sound"]), picture=bool(look["picture"]))
    size = (int(look["height"]), int(look["width"]))
    return Medium(
        uri=str(job["uri"]),
        look=Look(
            picture=size,
            frames_per_second=int(look["frames_per_second"]),
            wanted=wanted,
            sound_track=look["sound_track"],
            picture_track=look["picture_track"],
        ),
        timeout_s=float(str(job["timeout_s"])),
        decoder=job["decoder"],  # type: ignore[arg-type] # one of the words, written by our own process
    )


def main() -> None:
    """Read a job from the file descriptor that the first argument names, and write the items to that of the second one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    with os.fdopen(int(sys.argv[1]), "rb") as source:
        job = json.load(source)
    sender = _Sender(os.fdopen(int(sys.argv[2]), "wb", buffering=1 << 18))
    logging.getLogger("streamav").addHandler(_Logs(sender))
    logging.getLogger("streamav").setLevel(logging.INFO)
    try:
        tap = _Forward(sender) if job["tap"] else NoTap()
        for item in read_session(_medium(job), lambda: 0, threading.Event(), tap):
            if isinstance(item, SourceContent):
                sender.note(content=[item.sound, item.picture])
            else:
                sender.send(*pack(item))
        sender.note(end=True)
    except BrokenPipeError:  # nobody reads any more
        os._exit(0)
    except StreamavError as exc:
        sender.note(error=[type(exc).__name__, str(exc)])
    except Exception as exc:  # noqa: BLE001 - told to the process that reads, which ends the source with it
        sender.note(error=["", f"{type(exc).__name__}: {exc}"])


if __name__ == "__main__":
    main()
