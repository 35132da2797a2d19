"""A ring of the newest encoded packets of one source, on the media clock, from which stretches are recorded.

It writes no file and decodes nothing. Packets are kept, not pixels: a minute of a camera's stream is some ten megabytes.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

from streamav.privacy_modes import METADATA_ONLY, stricter
from streamav.stream_sample import sample_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import av

    from streamav.privacy_modes import Privacy

__all__ = ["NS", "Footage", "Kind", "PacketRing", "Recording"]

_LOG = logging.getLogger(__name__)

NS: Final = Fraction(1, 1_000_000_000)
_SECOND_NS: Final = 1_000_000_000
_RING_BYTES: Final = 96_000_000
"""Largest ring of one source, bytes: 30 s at 25 Mbit/s (our choice)."""
_RECORDING_BYTES: Final = 192_000_000
"""A minute at 25 Mbit/s; what comes after it is left out."""

Kind = Literal["sound", "picture"]
_LATE_NS: Final = 5 * _SECOND_NS
"""A clip waits this long for the kind that is behind: it may have ended."""


@dataclass(frozen=True, slots=True, eq=False)
class _Packet:
    """One packet. Times are those of its stream, ns."""

    number: int
    kind: Kind
    data: bytes
    pts_ns: int
    dts_ns: int
    length_ns: int
    key: bool
    privacy: Privacy
    """What held when it came."""

    @property
    def opens(self) -> bool:
        """True when it can be decoded without the packets before it."""
        return self.key or self.kind == "sound"


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """Packets of a stretch of a source."""

    samples: Mapping[Kind, bytes]
    """For each kind that there is a file with one packet, which describes the stream, as `sample_of` makes it."""
    packets: Sequence[tuple[Kind, bytes, int, int, int, bool]]
    """Kind, data, pts and dts on the media clock, length, key frame; times in ns. The first picture is a key frame."""
    privacy: Privacy = ()
    """The strictest that held while these packets came."""
    turns: int = 0
    """How many quarter turns to the left make the pictures upright, 0 to 3."""

    @property
    def size(self) -> int:
        """Bytes of the packets."""
        return sum(len(data) for _, data, *_ in self.packets)


@dataclass(slots=True, eq=False)
class Recording:
    """A stretch that is being recorded: from *begin_ns* on, media time."""

    begin_ns: int
    until_ns: int
    """End, media time; finish() may bring it forward."""
    done: Callable[[Recording], None]
    """Called once, in any thread, when the stretch is complete."""
    packets: list[_Packet] = field(default_factory=list)
    newest: dict[Kind, int] = field(default_factory=dict)
    """Time of the newest packet of each kind, ns."""
    size: int = 0
    finished: bool = False
    footage: Footage | None = None
    """The packets, once it is complete; None when none were usable."""


class PacketRing:
    """Implements capture's PacketTap. Its methods may be called from different threads."""

    def __init__(self, horizon_s: float) -> None:
        """Keep the last *horizon_s* seconds, from the key frame before them on, and at most 96 MB."""
        self._horizon_ns = round(horizon_s * _SECOND_NS)
        self._lock = threading.RLock()
        self._kinds: Sequence[Kind] = ("sound", "picture")
        self._privacy: Privacy = ()
        self._stretch = 1
        self._turns = 0
        self._count = 0
        self._offsets: dict[Kind, list[tuple[int, int]]] = {"sound": [], "picture": []}
        self._forget()

    def _forget(self) -> None:
        """Drop all packets, also those of open recordings."""
        self._packets: deque[_Packet] = deque()
        self._keys: deque[_Packet] = deque()
        self._bytes = 0
        self._samples: dict[Kind, bytes] = {}
        self._recordings: list[Recording] = []

    @property
    def privacy(self) -> Privacy:
        """What is kept of people who are seen and heard from now on."""
        return self._privacy

    def set_privacy(self, privacy: Privacy) -> None:
        """Use a privacy for the packets from here on; with metadata_only drop all that came, and what is being recorded."""
        with self._lock:
            self._privacy = privacy
            if METADATA_ONLY in privacy:
                self._stretch += 1
                for recording in self._recordings:
                    recording.finished, recording.packets = True, []
                self._forget()

    # Capture's side

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Start a session; open recordings end with the packets that they have."""
        with self._lock:
            self.finish_all()
            self._forget()
            self._count, self._offsets = 0, {"sound": [], "picture": []}
            self._turns = 0
            self._kinds = tuple(kinds)

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Keep a packet, and complete the recordings that it reaches the end of."""
        if packet.dts is None or not packet.size:
            return
        with self._lock:
            if METADATA_ONLY in self._privacy:
                return
            kind: Kind = "picture" if packet.stream.type == "video" else "sound"
            scale = packet.time_base / NS
            dts_ns = int(packet.dts * scale)
            pts_ns = dts_ns if packet.pts is None else int(packet.pts * scale)
            self._count += 1
            length_ns = int((packet.duration or 0) * scale)
            one = _Packet(self._count, kind, bytes(packet), pts_ns, dts_ns, length_ns, packet.is_keyframe, self._privacy)
            if kind not in self._samples and one.opens:
                self._describe(kind, packet.stream, one.data)  # here, because the stream may be closed later
            self._keep(one)
            for recording in list(self._recordings):
                self._record(recording, one)

    @property
    def wanted(self) -> int:
        """As PacketTap: 0 while packets are not kept; another number after each time."""
        return 0 if METADATA_ONLY in self._privacy else self._stretch

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Use *offset_ns* for the packets of one kind from here on."""
        with self._lock:
            offsets = self._offsets[kind]
            offsets.append((self._count, offset_ns))
            oldest = self._packets[0].number if self._packets else self._count
            del offsets[: max(0, bisect_right(offsets, (oldest, -(1 << 62))) - 1)]

    def turn(self, quarters: int) -> None:
        """Show the pictures turned by so many quarters to the left."""
        self._turns = quarters

    def _describe(self, kind: Kind, stream: av.stream.Stream, data: bytes) -> None:
        self._samples[kind] = sample_of(stream, data)
        if not self._samples[kind]:
            _LOG.warning("clips of this source have no %s: its codec cannot be copied codec=%s", kind, stream.codec_context.name)

    def _keep(self, one: _Packet) -> None:
        self._packets.append(one)
        self._bytes += len(one.data)
        if one.opens and one.kind == ("picture" if "picture" in self._kinds else "sound"):
            self._keys.append(one)
            while len(self._keys) > 1 and one.dts_ns - self._keys[1].dts_ns >= self._horizon_ns:
                self._keys.popleft()
                self._drop_before(self._keys[0].number)
        while self._bytes > _RING_BYTES:
            self._drop_before(self._packets[0].number + 1)

    def _drop_before(self, number: int) -> None:
        while self._packets and self._packets[0].number < number:
            self._bytes -= len(self._packets.popleft().data)
        while self._keys and self._packets and self._keys[0].number < self._packets[0].number:
            self._keys.popleft()

    # The recorder's side

    def record(self, begin_ns: int, until_ns: int, done: Callable[[Recording], None]) -> Recording:
        """Start a recording: from the last key frame before *begin_ns* on, as far as the ring still has it."""
        recording = Recording(begin_ns, until_ns, done)
        with self._lock:
            start: _Packet | None = None
            for key in self._keys:
                if start is None or self._media_ns(key) <= begin_ns:
                    start = key
            self._recordings.append(recording)
            first, start_ns = (0, 0) if start is None else (start.number, self._media_ns(start))
            # The other kind may be ahead of the key frame.
            recording.packets = [one for one in self._packets if one.number >= first or self._media_ns(one) >= start_ns]
            recording.size = sum(len(one.data) for one in recording.packets)
            for kind in self._kinds:
                newest = next((one for one in reversed(recording.packets) if one.kind == kind), None)
                if newest is not None and self._known(newest):
                    recording.newest[kind] = self._media_ns(newest, decoding=True)
            self._end(recording)
        return recording

    def finish(self, recording: Recording, until_ns: int) -> None:
        """Set the end of a recording; it is complete at once when it reaches that far already."""
        with self._lock:
            recording.until_ns = min(recording.until_ns, until_ns)
            if not recording.finished and self._reached(recording):
                self._complete(recording)

    def finish_all(self) -> None:
        """Complete all recordings with the packets that they have, as at the end of a source."""
        with self._lock:
            for recording in list(self._recordings):
                self._complete(recording)

    def footage(self, begin_ns: int, until_ns: int) -> Footage | None:
        """Return the packets of a stretch that the ring has already; None where they are gone."""
        found: list[Recording] = []
        with self._lock:
            recording = self.record(begin_ns, until_ns, found.append)
            if not recording.finished:
                self._complete(recording)
        return recording.footage

    def _record(self, recording: Recording, one: _Packet) -> None:
        if recording.finished:
            return
        recording.packets.append(one)
        recording.size += len(one.data)
        if self._known(one):
            recording.newest[one.kind] = self._media_ns(one, decoding=True)
        self._end(recording)

    def _end(self, recording: Recording) -> None:
        """Complete a recording that has reached its end, or is too large."""
        if self._reached(recording) or recording.size > _RECORDING_BYTES:
            self._complete(recording)

    def _reached(self, recording: Recording) -> bool:
        """Return whether all kinds are behind the end of a recording, or one so far that the others are not waited for."""
        newest = recording.newest
        return all(kind in newest and newest[kind] > recording.until_ns for kind in self._kinds) or any(
            newest_ns > recording.until_ns + _LATE_NS for newest_ns in newest.values()
        )

    def _complete(self, recording: Recording) -> None:
        if recording.finished:
            return
        recording.finished = True
        self._recordings = [one for one in self._recordings if one is not recording]
        recording.footage = self._cut(recording)
        recording.packets = []
        recording.done(recording)

    def _cut(self, recording: Recording) -> Footage | None:
        """Return the packets on the media clock: from the first key frame on, and never back in time; without a key frame the sound."""
        usable = [one for one in recording.packets if self._known(one) and self._samples.get(one.kind)]
        keys = [self._media_ns(one) for one in usable if one.kind == "picture" and one.key]
        start_ns = keys[0] if keys and keys[0] <= recording.until_ns else recording.begin_ns
        packets: list[tuple[Kind, bytes, int, int, int, bool]] = []
        newest: dict[Kind, int] = {}
        privacies: set[Privacy] = set()
        for one in usable:
            pts_ns, dts_ns = self._media_ns(one), self._media_ns(one, decoding=True)
            # A picture before the first key frame, by its place or by its time, needs pictures that are not there.
            early = pts_ns < start_ns or (one.kind == "picture" and "picture" not in newest and not one.key)
            if early or dts_ns > recording.until_ns or dts_ns <= newest.get(one.kind, -(1 << 62)):
                continue
            newest[one.kind] = dts_ns
            privacies.add(one.privacy)
            packets.append((one.kind, one.data, pts_ns, dts_ns, one.length_ns, one.key))
        return Footage({kind: self._samples[kind] for kind in newest}, packets, stricter(*privacies), self._turns) if newest else None

    # Media time

    def _known(self, one: _Packet) -> bool:
        return bool(self._offsets[one.kind])

    def _media_ns(self, one: _Packet, *, decoding: bool = False) -> int:
        """Return the time of a packet by the offset that was known when it came; for the first packets, by the first one."""
        offsets = self._offsets[one.kind]
        if not offsets:
            return 0
        place = 0 if len(offsets) == 1 else max(0, bisect_right(offsets, (one.number, 1 << 62)) - 1)
        return (one.dts_ns if decoding else one.pts_ns) + offsets[place][1]
