"""Takes the measured delay of the sound of a source out of its time stamps (`capture.audio_delay_ms`).

The kind that is late is moved back, never the other one ahead: nothing arrives before it was recorded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamav.types import SAMPLE_RATE_HZ, AudioBlock, SourceContent, StateChange, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import av

    from streamav.capture.stamps import Kind
    from streamav.capture.tap import PacketTap
    from streamav.protocols import Source

__all__ = ["DelayedSource", "DelayedTap"]

_MS: int = 1_000_000


class DelayedSource:
    """Implements the role Source: the items of another source, in step."""

    def __init__(self, source: Source, delay_ms: int) -> None:
        """Wrap a source whose sound is late by *delay_ms*; a negative delay means that its pictures are late."""
        self._source, self._delay_ms = source, delay_ms
        self._back_ns = {AudioBlock: max(0, delay_ms) * _MS, VideoFrame: max(0, -delay_ms) * _MS}

    @property
    def live(self) -> bool:
        """As the source."""
        return self._source.live

    @property
    def session(self) -> str:
        """As the source."""
        return self._source.session

    @property
    def skew_ms(self) -> int | None:
        """What was measured once, and what the source itself measures now."""
        return self._delay_ms + (self._source.skew_ms or 0)

    def items(self) -> Iterator[AudioBlock | VideoFrame | StateChange | SourceContent]:
        """Yield the items; what is before the zero of the media clock then is left out."""
        for item in self._source.items():
            if isinstance(item, StateChange | SourceContent) or not (back_ns := self._back_ns[type(item)]):
                yield item
            elif isinstance(item, VideoFrame):
                yield replace(item, start_ns=max(0, item.start_ns - back_ns))  # the last picture before zero is on display at zero
            elif (block := _moved(item, back_ns)) is not None:
                yield block

    def close(self) -> None:
        """As the source."""
        self._source.close()


def _moved(block: AudioBlock, back_ns: int) -> AudioBlock | None:
    """Return a block that begins earlier by *back_ns*, without what is before zero; None where nothing is left."""
    start_ns = block.start_ns - back_ns
    if start_ns >= 0:
        return replace(block, start_ns=start_ns)
    cut = -(start_ns * SAMPLE_RATE_HZ // 1_000_000_000)
    if cut >= block.samples.size:
        return None
    return replace(block, start_ns=start_ns + cut * 1_000_000_000 // SAMPLE_RATE_HZ, samples=block.samples[cut:])


class DelayedTap:
    """Implements PacketTap: tells another tap the media times of packets as `DelayedSource` changes them, so that clips are in step."""

    def __init__(self, tap: PacketTap, delay_ms: int) -> None:
        """Wrap a tap."""
        self._tap = tap
        self._back_ns: dict[Kind, int] = {"sound": max(0, delay_ms) * _MS, "picture": max(0, -delay_ms) * _MS}

    @property
    def wanted(self) -> int:
        """As the other tap."""
        return self._tap.wanted

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Pass the session on."""
        self._tap.begin(kinds)

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Pass the packet on."""
        self._tap.packet(packet)

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Pass on the offset, less the delay of this kind."""
        self._tap.place(kind, offset_ns - self._back_ns[kind])

    def turn(self, quarters: int) -> None:
        """Pass on how far the pictures are turned."""
        self._tap.turn(quarters)
