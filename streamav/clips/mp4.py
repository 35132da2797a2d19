"""Writes footage as an MP4 file that browsers play, and decodes a single picture of it.

H.264 and AAC are copied. Other formats are encoded again, upright and with square pixels, since browsers do not play them.
It knows no event.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from streamav.clips.masks import MutedSeconds
from streamav.clips.ring import NS
from streamav.clips.upright import shown_size, upright
from streamav.stream_sample import open_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import av
    import numpy as np
    from numpy.typing import NDArray

    from streamav.clips.masks import ClipMasks
    from streamav.clips.ring import Footage, Kind

    Cover = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

__all__ = ["picture_at", "write_mp4"]

_PICTURE_FORMATS = frozenset({"yuv420p", "yuvj420p"})
"""Formats of H.264 that every browser plays."""
_AAC_RATE_HZ = 48_000
"""Sample rate of sound that is encoded again: every browser plays it."""
_START_CODE, _SEQUENCE_SET, _HEAD_BYTES = b"\0\0\1", 7, 65_536
"""Where the parameter sets of a key frame are: type of its unit, and how far they are looked for."""
_TICKS = 90_000
"""Time base of pictures, 1/s: that of MPEG systems."""


def write_mp4(path: Path, footage: Footage, masks: ClipMasks | None = None) -> None:
    """Write footage to *path*; its first picture, or sound where there are no pictures, is at 0 s. What *masks* removes is encoded again.

    Raises:
        OSError: when the disk is full or the file cannot be written.
        av.error.FFmpegError: when the footage cannot be read.
    """
    import av

    with _streams(footage) as streams, av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        writers: dict[Kind, _Writer] = {}
        if isinstance(picture := streams.get("picture"), av.VideoStream):
            cover = None if masks is None else masks.cover
            copied = cover is None and _plays(picture) and not _changes(footage, picture)
            writers["picture"] = _Copy(file, picture, _TICKS, footage.turns) if copied else _EncodePictures(file, picture, cover, footage)
        if isinstance(sound := streams.get("sound"), av.AudioStream):
            muted = None if masks is None or masks.speaks is None else _muted(footage, masks.speaks)
            copied = muted is None and sound.codec_context.name == "aac"
            writers["sound"] = _Copy(file, sound, sound.codec_context.sample_rate) if copied else _EncodeSound(file, sound, muted)
        for kind, packet in _packets(footage, streams):
            writers[kind].write(packet)
        for writer in writers.values():
            writer.flush()


def picture_at(footage: Footage, time_ns: int) -> NDArray[np.uint8] | None:
    """Return the picture on display at a media time, shape (H, W, 3) RGB; None when there is none, or it cannot be decoded."""
    zero_ns = _zero_ns(footage)
    shown: av.VideoFrame | None = None
    for frame in _decoded(footage, "picture"):
        if shown is not None and (frame.time or 0.0) * 1e9 + zero_ns > time_ns:
            break
        shown = frame  # type: ignore[assignment] # pictures alone were decoded
    if shown is None:
        return None
    with _streams(footage) as streams:
        return upright(shown, streams["picture"].codec_context.sample_aspect_ratio, footage.turns)  # type: ignore[attr-defined] # pictures


def _muted(footage: Footage, speaks: Callable[[NDArray[np.float32]], bool]) -> MutedSeconds:
    return MutedSeconds(_decoded(footage, "sound"), speaks)  # type: ignore[arg-type] # sound alone was decoded


def _plays(stream: av.VideoStream) -> bool:
    return stream.codec_context.name == "h264" and stream.codec_context.pix_fmt in _PICTURE_FORMATS


def _changes(footage: Footage, picture: av.VideoStream) -> bool:
    """Return whether H.264 pictures change their size, or another property of a sequence: MP4 describes a stream only once."""
    found = {_sequence(data) for kind, data, _, _, _, key in footage.packets if kind == "picture" and key}
    return len(found - {b""}) > 1 or _size(footage) != (picture.codec_context.width, picture.codec_context.height)


def _sequence(data: bytes) -> bytes:
    """Return the sequence parameter set of a key frame with start codes (ITU-T H.264, annex B); nothing where it has none."""
    at = data.find(_START_CODE, 0, _HEAD_BYTES)
    while at >= 0:
        end = data.find(_START_CODE, at + 3, _HEAD_BYTES)
        if data[at + 3 : at + 4] and data[at + 3] & 0x1F == _SEQUENCE_SET:
            return data[at + 3 : end if end >= 0 else _HEAD_BYTES].rstrip(b"\0")
        at = end
    return b""


def _zero_ns(footage: Footage) -> int:
    """Return the media time that is 0 in the file: that of the first picture, or of the first sound where there are no pictures."""
    leading = "picture" if "picture" in footage.samples else "sound"
    return next(pts_ns for kind, _, pts_ns, *_ in footage.packets if kind == leading)


def _size(footage: Footage) -> tuple[int, int]:
    """Return width and height of the first picture; the description of the stream may be that of earlier ones."""
    first = next(_decoded(footage, "picture"), None)
    return (0, 0) if first is None else (first.width, first.height)  # type: ignore[union-attr] # pictures alone were decoded


def _rate(footage: Footage) -> int:
    """Return the pictures a second, rounded, at least 1."""
    times = [pts_ns for kind, _, pts_ns, *_ in footage.packets if kind == "picture"]
    return max(1, min(240, round((len(times) - 1) * 1e9 / max(1, max(times) - min(times))))) if len(times) > 1 else 25


@contextmanager
def _streams(footage: Footage) -> Iterator[dict[Kind, av.stream.Stream]]:
    """Open the samples, and yield the stream of each kind: its description and its decoder."""
    with ExitStack() as samples:
        opened = {kind: samples.enter_context(open_sample(content)) for kind, content in footage.samples.items()}
        yield {kind: one.streams[0] for kind, one in opened.items()}


def _packets(footage: Footage, streams: Mapping[Kind, av.stream.Stream]) -> Iterator[tuple[Kind, av.Packet[av.stream.Stream]]]:
    """Yield the packets of some streams in the order of decoding, from the zero of the file on."""
    import av

    zero_ns = _zero_ns(footage)
    for kind, data, pts_ns, dts_ns, length_ns, key in sorted(footage.packets, key=lambda one: one[3]):
        if kind in streams:
            packet = av.Packet(data)
            packet.time_base, packet.pts, packet.dts, packet.duration = NS, pts_ns - zero_ns, dts_ns - zero_ns, length_ns
            packet.is_keyframe, packet.stream = key, streams[kind]
            yield kind, packet


def _decoded(footage: Footage, kind: Kind) -> Iterator[av.AudioFrame | av.VideoFrame]:
    """Yield the frames of one kind, if there is any."""
    with _streams(footage) as streams:
        chosen = {one: stream for one, stream in streams.items() if one == kind}
        for _, packet in _packets(footage, chosen):
            yield from packet.decode()  # type: ignore[misc] # sound or pictures
        for stream in chosen.values():
            yield from _held_back(stream)


def _held_back(stream: av.stream.Stream) -> Iterator[av.AudioFrame | av.VideoFrame]:
    """Yield the frames that a decoder still holds. It does not state their time base, which is that of all packets."""
    for frame in stream.codec_context.decode(None):  # type: ignore[attr-defined] # sound or pictures
        frame.time_base = NS
        yield frame


class _Writer(Protocol):
    """Writes one stream of a clip."""

    def write(self, packet: av.Packet[av.stream.Stream]) -> None: ...

    def flush(self) -> None: ...


class _Copy:
    """Copies the packets of one stream."""

    def __init__(self, file: av.container.OutputContainer, stream: av.AudioStream | av.VideoStream, ticks: int, turns: int = 0) -> None:
        self._file, self._out = file, file.add_stream_from_template(stream)
        self._out.time_base = Fraction(1, ticks)
        if turns:
            self._out.set_display_rotation(90.0 * turns)  # type: ignore[union-attr] # of pictures

    def write(self, packet: av.Packet[av.stream.Stream]) -> None:
        packet.stream = self._out
        self._file.mux(packet)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""


class _EncodePictures:
    """Decodes a picture stream and encodes it again as H.264."""

    def __init__(self, file: av.container.OutputContainer, stream: av.VideoStream, cover: Cover | None, footage: Footage) -> None:
        self._file, self._stream, self._cover, self._newest = file, stream, cover, -1
        self._aspect, self._turns = stream.sample_aspect_ratio, footage.turns
        self._out = file.add_stream("libx264", rate=_rate(footage), options={"preset": "veryfast", "crf": "24"})
        width, height = shown_size(_size(footage), self._aspect, self._turns)
        self._out.width, self._out.height, self._out.pix_fmt = max(2, width // 2 * 2), max(2, height // 2 * 2), "yuv420p"
        self._out.codec_context.time_base = Fraction(1, _TICKS)

    def write(self, packet: av.Packet[av.stream.Stream]) -> None:
        self._encode(packet.decode())

    def _encode(self, frames: Iterable[object]) -> None:
        import av

        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                made = self._shown(frame).reformat(self._out.width, self._out.height, "yuv420p")
                made.pict_type = 0  # the encoder chooses its key frames
                made.pts, made.time_base = round((frame.time or 0.0) * _TICKS), Fraction(1, _TICKS)
                if made.pts > self._newest:  # time stamps may jump back, which no encoder takes
                    self._newest = made.pts
                    self._file.mux(self._out.encode(made))

    def _shown(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return a picture upright and covered; faces are not found in one that lies on its side."""
        if self._cover is None and not self._turns:
            return frame
        import av

        pixels = upright(frame, self._aspect, self._turns)
        return av.VideoFrame.from_ndarray(pixels if self._cover is None else self._cover(pixels), format="rgb24")

    def flush(self) -> None:
        """Encode what decoder and encoder hold back."""
        self._encode(_held_back(self._stream))
        self._file.mux(self._out.encode(None))


class _EncodeSound:
    """Decodes a sound stream and encodes it again as AAC."""

    def __init__(self, file: av.container.OutputContainer, stream: av.AudioStream, muted: MutedSeconds | None) -> None:
        import av

        self._file, self._stream, self._muted, self._newest = file, stream, muted, -(1 << 62)
        self._out = file.add_stream("aac", rate=_AAC_RATE_HZ, layout="mono" if stream.codec_context.channels == 1 else "stereo")
        self._resampler = av.AudioResampler("fltp", self._out.codec_context.layout, _AAC_RATE_HZ)

    def write(self, packet: av.Packet[av.stream.Stream]) -> None:
        self._encode(packet.decode())

    def _encode(self, frames: Iterable[object]) -> None:
        import av

        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                self._mux(frame)

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            if resampled.pts is not None and resampled.pts > self._newest:
                self._newest = resampled.pts
                self._file.mux(self._out.encode(resampled if self._muted is None else self._muted.silence(resampled)))

    def flush(self) -> None:
        """Encode what decoder, resampler and encoder hold back."""
        self._encode(_held_back(self._stream))
        self._mux(None)
        self._file.mux(self._out.encode(None))
