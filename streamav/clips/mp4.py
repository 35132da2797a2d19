"""Writes footage as an MP4 file that browsers play, and decodes a single picture of it.

H.264 and AAC are copied. Other formats are encoded again, since browsers do not play them. It knows no event.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from streamav.clips.masks import MutedSeconds
from streamav.clips.ring import NS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import av
    from numpy.typing import NDArray

    from streamav.clips.masks import ClipMasks
    from streamav.clips.ring import Footage

    Cover = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

__all__ = ["picture_at", "write_mp4"]

_PICTURE_FORMATS = frozenset({"yuv420p", "yuvj420p"})
"""Formats of H.264 that every browser plays."""
_AAC_RATE_HZ = 48_000


def write_mp4(path: Path, footage: Footage, masks: ClipMasks | None = None) -> None:
    """Write footage to *path*; its first picture is at 0 s. What *masks* removes is encoded again.

    Raises:
        OSError: when the disk is full or the file cannot be written.
        av.error.FFmpegError: when the footage cannot be read.
    """
    import av

    with _opened(footage) as source, av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        picture, sound = source.streams.video[0], source.streams.audio[0]
        cover = None if masks is None else masks.cover
        muted = None if masks is None or masks.speaks is None else _muted(footage, masks.speaks)
        copied = cover is None and _plays(picture), muted is None and sound.codec_context.name == "aac"
        writers: dict[int, _Copy | _EncodePictures | _EncodeSound] = {
            picture.index: _Copy(file, picture) if copied[0] else _EncodePictures(file, picture, cover),
            sound.index: _Copy(file, sound) if copied[1] else _EncodeSound(file, sound, muted),
        }
        for packet in source.demux(picture, sound):
            if packet.dts is not None:
                writers[packet.stream.index].write(packet)
        for writer in writers.values():
            writer.flush()


def picture_at(footage: Footage, time_ns: int) -> NDArray[np.uint8] | None:
    """Return the picture on display at a media time, shape (H, W, 3) RGB; None when it cannot be decoded."""
    base_ns = _base_ns(footage)
    shown: av.VideoFrame | None = None
    with _opened(footage) as source:
        for frame in source.decode(video=0):
            if shown is not None and (frame.time or 0.0) * 1e9 + base_ns > time_ns:
                break
            shown = frame
    return None if shown is None else shown.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _muted(footage: Footage, speaks: Callable[[NDArray[np.float32]], bool]) -> MutedSeconds:
    with _opened(footage) as source:
        return MutedSeconds(source.decode(audio=0), speaks)


def _plays(stream: av.VideoStream) -> bool:
    return stream.codec_context.name == "h264" and stream.codec_context.pix_fmt in _PICTURE_FORMATS


def _base_ns(footage: Footage) -> int:
    """Return the earliest decoding time: the zero of the packed file."""
    return min(dts_ns for _, _, _, dts_ns, _, _ in footage.packets)


def _opened(footage: Footage) -> av.container.InputContainer:
    """Return the footage as an open NUT file in memory."""
    import av

    base_ns, content = _base_ns(footage), io.BytesIO()
    with av.open(io.BytesIO(footage.sample), format="nut") as sample, av.open(content, "w", format="nut") as file:
        outs = {
            "sound": file.add_stream_from_template(sample.streams.audio[0]),
            "picture": file.add_stream_from_template(sample.streams.video[0]),
        }
        for kind, data, pts_ns, dts_ns, length_ns, key in footage.packets:
            packet = av.Packet(data)
            packet.time_base, packet.pts, packet.dts, packet.duration = NS, pts_ns - base_ns, dts_ns - base_ns, length_ns
            packet.is_keyframe, packet.stream = key, outs[kind]
            file.mux(packet)
    content.seek(0)
    return av.open(content, "r", format="nut")


class _Copy:
    """Copies the packets of one stream."""

    def __init__(self, file: av.container.OutputContainer, stream: av.AudioStream | av.VideoStream) -> None:
        self._file, self._out = file, file.add_stream_from_template(stream)

    def write(self, packet: av.Packet[av.stream.Stream]) -> None:
        packet.stream = self._out
        self._file.mux(packet)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""


class _EncodePictures:
    """Decodes a picture stream and encodes it again as H.264."""

    def __init__(self, file: av.container.OutputContainer, stream: av.VideoStream, cover: Cover | None) -> None:
        self._file, self._stream, self._cover = file, stream, cover
        self._out = file.add_stream("libx264", rate=round(stream.average_rate or 25), options={"preset": "veryfast", "crf": "24"})
        context = stream.codec_context
        self._out.width, self._out.height, self._out.pix_fmt = context.width // 2 * 2, context.height // 2 * 2, "yuv420p"
        if stream.time_base is not None:
            self._out.codec_context.time_base = stream.time_base

    def write(self, packet: av.Packet[av.stream.Stream]) -> None:
        self._encode(packet.decode())

    def _encode(self, frames: Sequence[object]) -> None:
        import av

        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                shown = frame if self._cover is None else _covered(frame, self._cover)
                shown.pict_type = 0  # the encoder chooses its key frames
                self._file.mux(self._out.encode(shown.reformat(self._out.width, self._out.height, "yuv420p")))

    def flush(self) -> None:
        """Encode what decoder and encoder hold back."""
        self._encode(self._stream.codec_context.decode(None))
        self._file.mux(self._out.encode(None))


def _covered(frame: av.VideoFrame, cover: Cover) -> av.VideoFrame:
    import av

    made = av.VideoFrame.from_ndarray(cover(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)), format="rgb24")
    made.pts, made.time_base = frame.pts, frame.time_base
    return made


class _EncodeSound:
    """Decodes a sound stream and encodes it again as AAC."""

    def __init__(self, file: av.container.OutputContainer, stream: av.AudioStream, muted: MutedSeconds | None) -> None:
        import av

        self._file, self._stream, self._muted = file, stream, muted
        self._out = file.add_stream("aac", rate=_AAC_RATE_HZ, layout="mono" if stream.codec_context.channels == 1 else "stereo")
        self._resampler = av.AudioResampler("fltp", self._out.codec_context.layout, _AAC_RATE_HZ)

    def write(self, packet: av.Packet[av.stream.Stream]) -> None:
        self._encode(packet.decode())

    def _encode(self, frames: Sequence[object]) -> None:
        import av

        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                self._mux(frame)

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._file.mux(self._out.encode(resampled if self._muted is None else self._muted.silence(resampled)))

    def flush(self) -> None:
        """Encode what decoder, resampler and encoder hold back."""
        self._encode(self._stream.codec_context.decode(None))
        self._mux(None)
        self._file.mux(self._out.encode(None))
