"""The role of a listener that receives the encoded packets of a source, as they are read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import av

    from streamav.capture.stamps import Kind

__all__ = ["HalfTap", "NoTap", "PacketTap"]

_STEP_NS: Final = 10_000_000
"""A clock that is followed moves in steps of this size: each is kept with the packets after it."""


class PacketTap(Protocol):
    """Receives packets in the threads that read the source, one for each kind at most; it must return at once."""

    @property
    def wanted(self) -> int:
        """Return 0 while packets are thrown away, so that nothing needs to be encoded; another number after each such time.

        What an encoder took under another number must not reach the tap.
        """

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Begin a session of these kinds; packets of an earlier one do not continue."""

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Take the next packet, in the order of its stream; `packet.stream` describes it."""

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Take what must be added to the time stamps of one kind to get media times, ns; called at the start and at each change."""

    def turn(self, quarters: int) -> None:
        """Take how many quarter turns to the left make the pictures upright, 0 to 3; called at each change, at first it is 0."""


class NoTap:
    """Takes packets and keeps none."""

    wanted = 0

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Do nothing."""

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Do nothing."""

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Do nothing."""

    def turn(self, quarters: int) -> None:
        """Do nothing."""


class HalfTap:
    """Implements PacketTap for one half of a joined source: the whole source begins the sessions, and has a clock of its own."""

    def __init__(self, tap: PacketTap, kind: Kind, shift_ns: int | None = None) -> None:
        """Wrap the tap of the whole source.

        Args:
            tap: of the whole source.
            kind: what this half gives.
            shift_ns: what must be added to times of the half to get media times; None where `shift` tells it later.
        """
        self._tap, self._kind, self._shift_ns = tap, kind, shift_ns
        self._placed_ns: int | None = None
        self._lock = threading.Lock()  # the reader places, and who follows the clock shifts

    @property
    def wanted(self) -> int:
        """As the whole tap."""
        return self._tap.wanted

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Do nothing."""

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Pass the packet on."""
        self._tap.packet(packet)

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Pass the offset of this half on, once the clock is known."""
        with self._lock:
            if kind == self._kind:
                self._placed_ns = offset_ns
                self._pass_on()

    def turn(self, quarters: int) -> None:
        """Pass on how far the pictures of this half are turned."""
        if self._kind == "picture":
            self._tap.turn(quarters)

    def shift(self, shift_ns: int) -> None:
        """Use another clock from here on; a change that nobody hears is left out."""
        with self._lock:
            if self._shift_ns is not None and abs(shift_ns - self._shift_ns) < _STEP_NS:
                return
            self._shift_ns = shift_ns
            self._pass_on()

    def _pass_on(self) -> None:
        if self._placed_ns is not None and self._shift_ns is not None:
            self._tap.place(self._kind, self._placed_ns + self._shift_ns)
