"""Packs the items of a session into messages between two processes, and unpacks them. Nothing in a message is executed.

Each message is a header and a payload: sound and pictures as plain numbers, everything else as JSON.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.errors import CaptureError
from streamav.types import AudioBlock, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HEADER", "Kind", "Message", "note", "pack", "unpack_header", "unpack_item", "unpack_note"]

HEADER: Final = struct.Struct("<BBHIq")
"""Kind, flag, height of a picture, size of the payload, start in ns."""
_MOST_BYTES: Final = 64_000_000
"""Largest message of the decoder process, bytes: a picture of 4096 x 4096 pixels in RGB fits."""


class Kind(IntEnum):
    """What a message holds."""

    SOUND = 1
    PICTURE = 2
    PACKET = 3
    NOTE = 4


@dataclass(frozen=True, slots=True)
class Message:
    """The header of a message."""

    kind: Kind
    flag: int
    height: int
    size: int
    start_ns: int


def pack(item: AudioBlock | VideoFrame) -> tuple[bytes, memoryview]:
    """Return header and payload of sound or a picture."""
    if isinstance(item, AudioBlock):
        data = np.ascontiguousarray(item.samples, "<f4").data.cast("B")
        return HEADER.pack(Kind.SOUND, item.lone_channel, 0, data.nbytes, item.start_ns), data
    data = np.ascontiguousarray(item.pixels).data.cast("B")
    return HEADER.pack(Kind.PICTURE, 0, item.pixels.shape[0], data.nbytes, item.start_ns), data


def note(content: Mapping[str, object]) -> tuple[bytes, bytes]:
    """Return header and payload of a note."""
    data = json.dumps(content).encode()
    return HEADER.pack(Kind.NOTE, 0, 0, len(data), 0), data


def unpack_header(header: bytes) -> Message:
    """Return what a header says.

    Raises:
        CaptureError: when it is no header, or announces too much.
    """
    kind, flag, height, size, start_ns = HEADER.unpack(header)
    if kind not in set(Kind) or size > _MOST_BYTES:
        msg = "the decoder process sent what is no message; report this: it is an error of streamav"
        raise CaptureError(msg)
    return Message(Kind(kind), flag, height, size, start_ns)


def unpack_item(message: Message, payload: bytearray, offset_ns: int) -> AudioBlock | VideoFrame:
    """Return sound or a picture, *offset_ns* later than the message says.

    Raises:
        CaptureError: when the payload does not fit its header.
    """
    start_ns = message.start_ns + offset_ns
    try:
        if message.kind is Kind.SOUND:
            return AudioBlock(start_ns=start_ns, samples=np.frombuffer(payload, "<f4"), lone_channel=bool(message.flag))
        return VideoFrame(start_ns=start_ns, pixels=np.frombuffer(payload, np.uint8).reshape(message.height, -1, 3))
    except ValueError as exc:
        msg = f"the decoder process sent sound or a picture that cannot be read ({exc}); report this: it is an error of streamav"
        raise CaptureError(msg) from exc


def unpack_note(payload: bytearray) -> dict[str, object]:
    """Return the content of a note.

    Raises:
        CaptureError: when it is no JSON object.
    """
    try:
        found = json.loads(payload)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        msg = "the decoder process sent a note that cannot be read; report this: it is an error of streamav"
        raise CaptureError(msg)
    return found
