"""Reads one opened container: decodes sound and pictures, and skips damaged packets.

It opens nothing, waits for nothing, and does no reconnecting or pacing; `items` places what it yields on one media clock.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import av

from streamav.capture.decoders import Decoders
from streamav.capture.picture import quarter_turns
from streamav.capture.unstamped import PictureStamps, without_stamps
from streamav.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from streamav.capture.stamps import Kind
    from streamav.capture.streams import Streams
    from streamav.capture.tap import PacketTap

    _Shown = av.VideoFrame | NDArray[np.uint8]

__all__ = ["DecodedFrame", "decode"]

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_MOST_NUMBERS = 300
"""Most pictures whose place in the container is remembered; damaged ones never come."""
_KINDS: tuple[Kind, ...] = ("sound", "picture")
_DAMAGE_LIMIT = 200
"""After this many damaged packets in a row the stream counts as lost (our choice)."""
_LATE_NS = 30 * _SECOND_NS
"""Sound waits no longer than this for pictures: they may have ended."""
_RATE_ERROR = 0.05
"""Share by which a packet of sound may be longer or shorter than its container says; rates differ by more (our choice)."""
_GOES_ON_S = 1.0
"""A file that continues for this long after its last damage did not end there. FFmpeg finds some packets in the rest of a broken file."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """One decoded frame with the time of its own stream."""

    kind: Kind
    time_ns: int | None
    """None where the stream gives none."""
    length_ns: int
    frame: av.AudioFrame | av.VideoFrame


def decode(container: av.container.InputContainer, streams: Streams, name: str, *, live: bool, tap: PacketTap) -> Iterator[DecodedFrame]:
    """Yield decoded frames in the order of the container; damaged packets are skipped, counted and logged once.

    Raises:
        av.error.FFmpegError: when a live source fails, or too many packets in a row are damaged.
        CaptureError: when a live source goes on with another codec.
    """
    damage = _Damage(name)
    tap.begin([kind for kind in _KINDS if getattr(streams, kind) is not None])
    order = None if live else _PacketOrder()
    decoders = Decoders(streams, name, live=live)
    tapped, stamps = _Tapped(tap), _SoundStamps()
    counted = PictureStamps(live=live) if without_stamps(container) else None
    shown: DecodedFrame | None = None
    turned = 0
    for packet in _packets(container, streams, damage):
        if counted is not None:
            counted.stamp(packet)
        if order is not None:
            order.note(packet)
        if decoders.described(packet):
            tapped.packet(packet)
        if not packet.size and packet.dts is not None:
            timed = _again(shown, packet)
            yield from timed if order is None else order.arrange(timed)
            continue
        try:
            frames = decoders.decode(packet)
        except av.error.FFmpegError as exc:
            damage.note(exc)
            continue
        timed = stamps.of(packet, [_timed(frame, live=live) for frame in frames])
        if timed:
            damage.in_a_row = 0
        shown = next((one for one in reversed(timed) if one.kind == "picture"), shown)
        if shown is not None and shown in timed and (turns := quarter_turns(shown.frame)) != turned:  # type: ignore[arg-type] # a picture
            tap.turn(turned := turns)
        yield from timed if order is None else order.arrange(timed)
    if order is not None:
        yield from order.flush()
    damage.summarize(live=live)


def _packets(container: av.container.InputContainer, streams: Streams, damage: _Damage) -> Iterator[av.Packet[av.stream.Stream]]:
    """Yield the packets of the streams. The generator of PyAV ends when it raises, but the container can still be read."""
    read = [stream for stream in (streams.sound, streams.picture) if stream is not None]
    packets = container.demux(*read)
    while True:
        try:
            packet = next(packets, None)
        except av.error.InvalidDataError as exc:
            damage.note(exc)
            damage.broken_s = damage.newest_s
            packets = container.demux(*read)
            continue
        except IndexError:  # PyAV does not know a stream that began after the container was opened; its packet is left out
            packets = container.demux(*read)
            continue
        if packet is None:
            return
        if packet.pts is not None and packet.time_base is not None:
            damage.newest_s = max(damage.newest_s, float(packet.pts * packet.time_base))
        yield packet


def _again(shown: DecodedFrame | None, packet: av.Packet[av.stream.Stream]) -> list[DecodedFrame]:
    """Return the newest picture at the time of an empty packet of pictures. In Theora such a packet means that nothing has changed."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    if shown is None or packet.stream.type != "video" or stamp is None or packet.time_base is None:
        return []
    return [replace(shown, time_ns=int(stamp * packet.time_base * _SECOND_NS))]


class _SoundStamps:
    """Takes away time stamps of sound that FFmpeg computed with another rate than the sound has.

    MPEG transport streams stamp about every tenth frame of sound. FFmpeg counts those between with the rate that it found when it opened
    the stream. When a camera changes its rate, or declares a wrong one, they are wrong by up to half a second, and only the others count.
    """

    def __init__(self) -> None:
        self._end: int | None = None  # of the packet before, by its own stamp and length

    def of(self, packet: av.Packet[av.stream.Stream], frames: list[DecodedFrame]) -> list[DecodedFrame]:
        if packet.stream.type != "audio" or packet.pts is None or not packet.duration or packet.time_base is None:
            return frames
        counted, self._end = packet.pts == self._end, packet.pts + packet.duration
        declared_ns, length_ns = float(packet.duration * packet.time_base) * _SECOND_NS, sum(one.length_ns for one in frames)
        if not counted or not frames or abs(declared_ns - length_ns) <= _RATE_ERROR * length_ns:
            return frames
        return [replace(one, time_ns=None) for one in frames]


class _Tapped:
    """Passes packets to a tap. Sound without a time, as at the start of an MPEG transport stream, follows the sound before it."""

    def __init__(self, tap: PacketTap) -> None:
        self._tap = tap
        self._end: int | None = None  # of the newest sound, in its own time base

    def packet(self, packet: av.Packet[av.stream.Stream]) -> None:
        if not isinstance(packet.stream, av.AudioStream) or not packet.size:
            self._tap.packet(packet)
            return
        untimed = packet.dts is None
        if untimed:
            packet.dts = packet.pts = self._end
        self._tap.packet(packet)
        if packet.dts is not None:
            self._end = packet.dts + (packet.duration or _usual_length(packet.stream))
        if untimed:  # the decoder counts such sound itself
            packet.dts = packet.pts = None


def _usual_length(stream: av.AudioStream) -> int:
    """Return the length of a packet of sound in the time base of its stream; 0 where it is not known."""
    context, base = stream.codec_context, stream.time_base
    if not context.frame_size or not context.sample_rate or base is None:
        return 0
    return round(context.frame_size / (context.sample_rate * base))


class _PacketOrder:
    """Holds sound back until the pictures stored before it are decoded.

    Frame threads and reordering give pictures late, by a number of pictures: seconds, where they are few. How far sound and
    picture have come is then no longer what the container says, and the timeline judges leaps by it.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # of a picture's packet, by its time stamp
        self._stored = self._decoded = 0
        self._waiting: deque[tuple[int, DecodedFrame]] = deque()
        self._waiting_ns = 0

    def note(self, packet: av.Packet[av.stream.Stream]) -> None:
        """Take note of a packet before it is decoded."""
        if packet.stream.type == "video" and packet.pts is not None:
            self._stored += 1
            self._numbers[packet.pts] = self._stored
            if len(self._numbers) > _MOST_NUMBERS:
                del self._numbers[next(iter(self._numbers))]

    def arrange(self, frames: list[DecodedFrame]) -> Iterator[DecodedFrame]:
        """Yield what may be given now that these frames were decoded."""
        for one in frames:
            if one.kind == "sound":
                self._waiting.append((self._stored, one))
                self._waiting_ns += one.length_ns
            else:
                stamp = one.frame.pts
                number = self._numbers.pop(stamp, self._decoded + 1) if stamp is not None else self._decoded + 1
                yield from self._take(number - 1)
                self._decoded = max(self._decoded, number)
                yield one
        yield from self._take(self._decoded)

    def flush(self) -> Iterator[DecodedFrame]:
        """Yield the rest."""
        return self._take(self._stored)

    def _take(self, decoded: int) -> Iterator[DecodedFrame]:
        while self._waiting and (self._waiting[0][0] <= decoded or self._waiting_ns > _LATE_NS):
            _, one = self._waiting.popleft()
            self._waiting_ns -= one.length_ns
            yield one


class _Damage:
    """Counts damaged packets; logs the first one and, at the end, their number."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.packets = 0
        self.in_a_row = 0
        self.newest_s = 0.0
        """Newest time stamp of a packet, s, since frames are decoded later."""
        self.broken_s: float | None = None
        """The newest time stamp when the container itself was damaged last."""

    def note(self, exc: av.error.FFmpegError) -> None:
        """Count one damaged packet; raise its error after more than 200 in a row."""
        self.packets += 1
        self.in_a_row += 1
        if self.packets == 1:
            _LOG.warning("damaged data skipped source=%s at_s=%.1f reason=%s", self._name, self.newest_s, reason_of(exc))
        if self.in_a_row > _DAMAGE_LIMIT:
            raise exc

    def summarize(self, *, live: bool) -> None:
        """Log how much was damaged, at the end of the source."""
        if self.packets:
            _LOG.warning("damaged data skipped source=%s packets=%d", self._name, self.packets)
        if self.broken_s is not None and self.newest_s - self.broken_s < _GOES_ON_S and not live:
            _LOG.warning("the file is damaged, its rest is skipped source=%s at_s=%.1f", self._name, self.broken_s)


def _timed(frame: av.AudioFrame | av.VideoFrame, *, live: bool) -> DecodedFrame:
    """Return a frame with its time in ns, or with None: the first picture of an RTSP stream, live sound before its start."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    length_ns = frame.samples * _SECOND_NS // frame.sample_rate if isinstance(frame, av.AudioFrame) else 0
    time_ns = None
    if stamp is not None and frame.time_base is not None and not (live and stamp < 0):
        time_ns = stamp * _SECOND_NS * frame.time_base.numerator // frame.time_base.denominator
    return DecodedFrame("sound" if isinstance(frame, av.AudioFrame) else "picture", time_ns, length_ns, frame)
