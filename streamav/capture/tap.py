"""The role of a listener that receives the encoded packets of a source, as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import av

    from streamav.capture.stamps import Kind

__all__ = ["NoTap", "PacketTap"]


class PacketTap(Protocol):
    """Receives packets in the thread that reads the source; it must return at once."""

    @property
    def wanted(self) -> bool:
        """False while packets are thrown away, so that nothing needs to be encoded for the tap."""

    def begin(self, sound: av.AudioStream, picture: av.VideoStream) -> None:
        """Take the streams of a new session; packets of an earlier one do not continue."""

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Take the next packet of either stream, in the order of the container."""

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Take what must be added to the time stamps of one kind to get media times, ns; called at the start and at each change."""


class NoTap:
    """Takes packets and keeps none."""

    wanted = False

    def begin(self, sound: av.AudioStream, picture: av.VideoStream) -> None:
        """Do nothing."""

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Do nothing."""

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Do nothing."""
