"""A ring of the newest encoded packets of one source, on the media clock, from which stretches are recorded.

It writes no file and decodes nothing. Packets are kept, not pixels: a minute of a camera's stream is some ten megabytes.
"""

from __future__ import annotations

import io
import threading
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

from streamav.privacy_modes import METADATA_ONLY, stricter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import av

    from streamav.privacy_modes import Privacy

__all__ = ["NS", "Footage", "PacketRing", "Recording"]

NS: Final = Fraction(1, 1_000_000_000)
_SECOND_NS: Final = 1_000_000_000
_RING_BYTES: Final = 96_000_000
_RECORDING_BYTES: Final = 192_000_000
"""A minute at 25 Mbit/s; what comes after it is left out."""

Kind = Literal["sound", "picture"]
_KINDS: Final[tuple[Kind, ...]] = ("sound", "picture")


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


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """Packets of a stretch of a source."""

    sample: bytes
    """A NUT file with the first packet of each stream; it describes the streams."""
    packets: Sequence[tuple[Kind, bytes, int, int, int, bool]]
    """Kind, data, pts and dts on the media clock, length, key frame; times in ns. The first picture is a key frame."""
    privacy: Privacy = ()
    """The strictest that held while these packets came."""


@dataclass(slots=True, eq=False)
class Recording:
    """A stretch that is being recorded: from *begin_ns* on, media time."""

    begin_ns: int
    until_ns: int
    """End, media time; finish() may bring it forward."""
    done: Callable[[Recording], None]
    """Called once, in any thread, when the stretch is complete."""
    packets: list[_Packet] = field(default_factory=list)
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
        self._streams: dict[Kind, av.stream.Stream] = {}
        self._privacy: Privacy = ()
        self._count = 0
        self._offsets: dict[Kind, list[tuple[int, int]]] = {"sound": [], "picture": []}
        self._forget()

    def _forget(self) -> None:
        """Drop all packets, also those of open recordings."""
        self._packets: deque[_Packet] = deque()
        self._keys: deque[_Packet] = deque()
        self._bytes = 0
        self._first: dict[Kind, _Packet] = {}
        self._sample: bytes | None = None
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
                for recording in self._recordings:
                    recording.finished, recording.packets = True, []
                self._forget()

    # Capture's side

    def begin(self, sound: av.AudioStream, picture: av.VideoStream) -> None:
        """Start a session; open recordings end with the packets that they have."""
        with self._lock:
            self.finish_all()
            self._forget()
            self._count, self._offsets = 0, {"sound": [], "picture": []}
            self._streams = {"sound": sound, "picture": picture}

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
            self._keep(one)
            for recording in list(self._recordings):
                self._record(recording, one)

    @property
    def wanted(self) -> bool:
        """False while packets are not kept."""
        return METADATA_ONLY not in self._privacy

    def place(self, kind: Kind, offset_ns: int) -> None:
        """Use *offset_ns* for the packets of one kind from here on."""
        with self._lock:
            self._offsets[kind].append((self._count, offset_ns))

    def _keep(self, one: _Packet) -> None:
        self._packets.append(one)
        self._bytes += len(one.data)
        if len(self._first) < 2 and one.kind not in self._first and (one.key or one.kind == "sound"):  # noqa: PLR2004 - two kinds
            self._first[one.kind] = one
            if len(self._first) == 2:  # noqa: PLR2004
                self._sample = _sample(self._streams, self._first)
        if one.kind == "picture" and one.key:
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
            start = 0
            for key in self._keys:
                if self._media_ns(key) <= begin_ns or not start:
                    start = key.number
            self._recordings.append(recording)
            for one in [one for one in self._packets if one.number >= start]:
                self._record(recording, one)
        return recording

    def finish(self, recording: Recording, until_ns: int) -> None:
        """Set the end of a recording; it is complete at once when it reaches that far already."""
        with self._lock:
            recording.until_ns = min(recording.until_ns, until_ns)
            if recording.packets and not recording.finished and self._reached(recording.packets[-1], recording):
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
        if self._reached(one, recording) or recording.size > _RECORDING_BYTES:
            self._complete(recording)
            return
        recording.packets.append(one)
        recording.size += len(one.data)

    def _reached(self, one: _Packet, recording: Recording) -> bool:
        return one.kind == "picture" and self._known(one) and self._media_ns(one, decoding=True) > recording.until_ns

    def _complete(self, recording: Recording) -> None:
        if recording.finished:
            return
        recording.finished = True
        self._recordings = [one for one in self._recordings if one is not recording]
        recording.footage = self._cut(recording)
        recording.packets = []
        recording.done(recording)

    def _cut(self, recording: Recording) -> Footage | None:
        """Return the packets on the media clock: from the first key frame on, and never back in time."""
        packets: list[tuple[Kind, bytes, int, int, int, bool]] = []
        newest: dict[Kind, int] = {}
        privacies: set[Privacy] = set()
        start_ns: int | None = None
        for one in recording.packets:
            if not self._known(one):
                continue
            offset_ns = self._offset_ns(one)
            pts_ns, dts_ns = one.pts_ns + offset_ns, one.dts_ns + offset_ns
            if start_ns is None and one.kind == "picture" and one.key:
                start_ns = pts_ns
            if start_ns is None or dts_ns <= newest.get(one.kind, -(1 << 62)) or (one.kind == "sound" and pts_ns < start_ns):
                continue
            if pts_ns > recording.until_ns:
                continue
            newest[one.kind] = dts_ns
            privacies.add(one.privacy)
            packets.append((one.kind, one.data, pts_ns, dts_ns, one.length_ns, one.key))
        return Footage(self._sample, packets, stricter(*privacies)) if self._sample is not None and "picture" in newest else None

    # Media time

    def _known(self, one: _Packet) -> bool:
        return bool(self._offsets[one.kind])

    def _offset_ns(self, one: _Packet) -> int:
        """Return the offset that was known when a packet came; for the first packets, the first one."""
        offsets = self._offsets[one.kind]
        return offsets[max(0, bisect_right(offsets, (one.number, 1 << 62)) - 1)][1]

    def _media_ns(self, one: _Packet, *, decoding: bool = False) -> int:
        if not self._known(one):
            return 0
        return (one.dts_ns if decoding else one.pts_ns) + self._offset_ns(one)


def _sample(streams: dict[Kind, av.stream.Stream], first: dict[Kind, _Packet]) -> bytes:
    """Return a NUT file with one packet of each stream. FFmpeg describes streams in this format completely, whatever the codec."""
    import av

    content = io.BytesIO()
    with av.open(content, "w", format="nut") as file:
        for kind, out in [(kind, file.add_stream_from_template(streams[kind])) for kind in _KINDS]:
            packet = av.Packet(first[kind].data)
            packet.time_base, packet.pts, packet.dts, packet.is_keyframe = NS, 0, 0, True
            packet.stream = out
            file.mux(packet)
    return content.getvalue()
