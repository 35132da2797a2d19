"""Reads one opened container: decodes sound and pictures, skips damaged packets, and places everything on one media clock.

It opens nothing, waits for nothing, and does no reconnecting or pacing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import av

from streamav.capture.picture import InstantSampler, Scaler
from streamav.capture.sound import Resampler
from streamav.capture.timeline import Kind, Timeline
from streamav.errors import CaptureError, MissingModalityError
from streamav.types import AudioBlock, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamav.capture.look import Look

__all__ = ["DecodedFrame", "decode", "find_streams", "read_items"]

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_START_SPAN_NS = 2 * _SECOND_NS
_START_FRAMES = 300
_DAMAGE_LIMIT = 200


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """One decoded frame with the time of its own stream."""

    kind: Kind
    time_ns: int
    length_ns: int
    frame: av.AudioFrame | av.VideoFrame


def find_streams(container: av.container.InputContainer, name: str) -> tuple[av.AudioStream, av.VideoStream]:
    """Return the best sound stream and the best picture stream; the cover picture of a song does not count as a picture stream.

    Raises:
        MissingModalityError: when there is no sound or no picture that can be decoded.
    """
    sounds = [stream for stream in container.streams.audio if _decodable(stream)]
    still = av.stream.Disposition.attached_pic
    pictures = [stream for stream in container.streams.video if _decodable(stream) and not stream.disposition & still]
    for streams, what, hint in ((sounds, "sound", "record it with a microphone"), (pictures, "picture", "record it with a camera")):
        if not streams:
            msg = (
                f"{name} has no {what} that can be decoded, and streamav needs sound and picture together: {hint}, or choose another source"
            )
            raise MissingModalityError(msg)
    best_sound, best_picture = container.streams.best("audio"), container.streams.best("video")
    sound = next((stream for stream in sounds if best_sound is not None and stream.index == best_sound.index), sounds[0])
    picture = next((stream for stream in pictures if best_picture is not None and stream.index == best_picture.index), pictures[0])
    return sound, picture


def _decodable(stream: av.stream.Stream) -> bool:
    context: object = stream.codec_context  # despite its type, None where FFmpeg has no decoder
    return context is not None


def decode(
    container: av.container.InputContainer, sound: av.AudioStream, picture: av.VideoStream, name: str, *, live: bool
) -> Iterator[DecodedFrame]:
    """Yield decoded frames in the order of the container; damaged packets are skipped, counted and logged once.

    Raises:
        av.error.FFmpegError: when a live source fails, or too many packets in a row are damaged.
    """
    damage = _Damage(name)
    last: dict[int, int] = {}
    packets = container.demux(sound, picture)
    while True:
        try:
            packet = next(packets, None)
        except av.error.InvalidDataError as exc:
            damage.note(exc)
            packets = container.demux(sound, picture)  # the generator ended when it raised; the container can still be read
            continue
        if packet is None:
            break
        try:
            frames = packet.decode()
        except av.error.FFmpegError as exc:  # decoders report damage under many names, also "operation not permitted"
            damage.note(exc)
            continue
        timed = [_timed(frame, last, live=live) for frame in frames if isinstance(frame, av.AudioFrame | av.VideoFrame)]
        if timed:
            damage.in_a_row = 0
        yield from (frame for frame in timed if frame is not None)
    damage.summarize()


class _Damage:
    """Counts damaged packets; logs the first one and, at the end, their number."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.packets = 0
        self.in_a_row = 0

    def note(self, exc: av.error.FFmpegError) -> None:
        """Count one damaged packet; raise its error after more than 200 in a row."""
        self.packets += 1
        self.in_a_row += 1
        if self.packets == 1:
            _LOG.warning("damaged data skipped source=%s reason=%s", self._name, exc.strerror)
        if self.in_a_row > _DAMAGE_LIMIT:
            raise exc

    def summarize(self) -> None:
        if self.packets:
            _LOG.warning("damaged data skipped source=%s packets=%d", self._name, self.packets)


def _timed(frame: av.AudioFrame | av.VideoFrame, last: dict[int, int], *, live: bool) -> DecodedFrame | None:
    """Return a frame with its time in ns, or None when it has no time: the first picture of an RTSP stream, sound before its start."""
    heard = isinstance(frame, av.AudioFrame)
    stamp = frame.pts if frame.pts is not None else frame.dts
    length_ns = frame.samples * _SECOND_NS // frame.sample_rate if isinstance(frame, av.AudioFrame) else 0
    if stamp is None or frame.time_base is None or (live and stamp < 0):
        time_ns = last.get(heard)
        if time_ns is None:
            return None
        time_ns += length_ns or _SECOND_NS // 25
    else:
        time_ns = stamp * _SECOND_NS * frame.time_base.numerator // frame.time_base.denominator
    last[heard] = time_ns
    return DecodedFrame("sound" if heard else "picture", time_ns, length_ns, frame)


def read_items(frames: Iterator[DecodedFrame], look: Look, origin: Callable[[], int], name: str) -> Iterator[AudioBlock | VideoFrame]:
    """Yield sound and pictures on the media clock; the earliest time stamp of both becomes the origin.

    Args:
        frames: decoded frames, as `decode` yields them.
        look: which pictures are used.
        origin: returns the media time of the first frame, ns; called once, when that frame has arrived.
        name: the source, for messages.

    Raises:
        CaptureError: when nothing could be decoded.
    """
    start = _until_both(frames)
    if not start:
        msg = f"{name} could be opened but nothing in it could be decoded: it is damaged or empty; try to play it with another program"
        raise CaptureError(msg)
    timeline = Timeline(min(frame.time_ns for frame in start), origin())
    sampler: InstantSampler[av.VideoFrame] = InstantSampler(look.frames_per_second)
    scaler, resampler = Scaler(look.picture), Resampler()
    for decoded in chain(start, frames):
        time_ns = timeline.place(decoded.kind, decoded.time_ns, decoded.length_ns)
        if isinstance(decoded.frame, av.AudioFrame):
            yield from resampler.push(decoded.frame, time_ns)
            continue
        for shown_ns, frame in sampler.push(time_ns, decoded.frame):
            yield VideoFrame(start_ns=shown_ns, pixels=scaler.scale(frame))
    yield from resampler.flush()
    for shown_ns, frame in sampler.flush():
        yield VideoFrame(start_ns=shown_ns, pixels=scaler.scale(frame))
    if timeline.leaps:
        _LOG.warning("time stamps jumped source=%s times=%d", name, timeline.leaps)


def _until_both(frames: Iterator[DecodedFrame]) -> list[DecodedFrame]:
    """Collect frames until both kinds have been read, because the earliest time is known only then. Stop after 2 s of one kind."""
    seen: list[DecodedFrame] = []
    for frame in frames:
        seen.append(frame)
        if frame.kind != seen[0].kind or len(seen) >= _START_FRAMES or frame.time_ns - seen[0].time_ns > _START_SPAN_NS:
            break
    return seen
