"""Describes an encoded stream by a small media file with one of its packets, from which another place gets its decoder.

It keeps no packets and knows no clock.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import av

__all__ = ["decoder_now", "open_sample", "sample_of"]

_NS: Final = Fraction(1, 1_000_000_000)
_FORMATS: Final = ("nut", "matroska", "mov")
"""No container takes every codec: NUT takes most and describes them completely; Matroska takes ProRes and ALAC, MOV takes QuickTime's."""


def sample_of(stream: av.stream.Stream, data: bytes) -> bytes:
    """Return a media file with one packet of a stream; nothing where no container describes its codec.

    Args:
        stream: an input stream, or one that is being encoded.
        data: a packet of it that can be decoded alone.
    """
    for form in _FORMATS:
        content = _written(stream, data, form)
        if content and _codec(content) == stream.codec_context.codec.canonical_name:
            return content
    return b""


def decoder_now(stream: av.stream.Stream, data: bytes) -> tuple[str, av.CodecContext] | None:
    """Return the codec that an input stream has now, and a decoder for it; None where its own decoder is still right.

    A camera that is set from H.264 to H.265 goes on within one transport stream. FFmpeg's description of the stream follows, not its
    decoder.

    Args:
        stream: an input stream whose packets cannot be decoded any more.
        data: one of these packets.
    """
    for form in _FORMATS:
        content = _written(stream, data, form)
        name = _codec(content) if content else None
        if name is not None:
            same = name == stream.codec_context.codec.canonical_name
            return None if same else (name, open_sample(content).streams[0].codec_context)
    return None


def open_sample(content: bytes) -> av.container.InputContainer:
    """Open a file that `sample_of` made; its only stream is the one that it describes.

    Raises:
        av.error.FFmpegError: when it is not such a file.
    """
    import av

    return av.open(io.BytesIO(content), "r", options={"format_whitelist": ",".join(_FORMATS)})


def _written(stream: av.stream.Stream, data: bytes, form: str) -> bytes:
    import av

    content = io.BytesIO()
    try:
        with av.open(content, "w", format=form) as file:
            packet = av.Packet(data)
            packet.time_base, packet.pts, packet.dts, packet.is_keyframe = _NS, 0, 0, True
            packet.stream = file.add_stream_from_template(stream, opaque=True)  # copied: an encoder of the codec need not exist
            file.mux(packet)
    except (av.error.FFmpegError, ValueError):  # ValueError: the format does not take the codec
        return b""
    return content.getvalue()


def _codec(content: bytes) -> str | None:
    """Return the codec that a file is decoded with; None where that is none."""
    import av

    try:
        with open_sample(content) as file:
            return file.streams[0].codec_context.codec.canonical_name
    except (av.error.FFmpegError, AttributeError, IndexError):  # AttributeError: despite its type, the context may be None
        return None
