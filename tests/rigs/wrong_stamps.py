"""Writes wrong time stamps into MPEG-TS files, which no muxer would write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["restamp_ts"]

_PACKET = 188
_TICKS_PER_SECOND = 90_000


def restamp_ts(path: Path, kind: Literal["sound", "picture"], off_s: Callable[[int], float]) -> int:
    """Add *off_s* (number of the stamp of this kind) seconds to the time stamps of one kind, in place; return how many were changed.

    Source of the layout: ISO/IEC 13818-1, 2.4.3.2 (transport packet) and 2.4.3.6 (PES packet).
    """
    content = bytearray(path.read_bytes())
    number = changed = 0
    for start in range(0, len(content) - _PACKET + 1, _PACKET):
        begins, adaptation = content[start + 1] & 0x40, content[start + 3] & 0x20
        pes = start + 4 + (1 + content[start + 4] if adaptation else 0)
        if not begins or content[pes : pes + 3] != b"\0\0\1" or (content[pes + 3] & 0xF0 == 0xE0) != (kind == "picture"):
            continue
        ticks = round(off_s(number) * _TICKS_PER_SECOND)
        for at in range(pes + 9, pes + 9 + 5 * (content[pes + 7] >> 6).bit_count(), 5):  # the stamp of display, that of decoding
            _write_stamp(content, at, _read_stamp(content, at) + ticks)
        number, changed = number + 1, changed + (ticks != 0)
    path.write_bytes(content)
    return changed


def _read_stamp(content: bytearray, at: int) -> int:
    """Read 33 bits, spread over five bytes with marker bits between them."""
    a, b, c, d, e = content[at : at + 5]
    return (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1


def _write_stamp(content: bytearray, at: int, ticks: int) -> None:
    ticks %= 1 << 33
    content[at : at + 5] = bytes(
        [
            content[at] & 0xF1 | ticks >> 30 << 1,
            ticks >> 22 & 0xFF,
            (ticks >> 15 & 0x7F) << 1 | 1,
            ticks >> 7 & 0xFF,
            (ticks & 0x7F) << 1 | 1,
        ]
    )
