"""Decodes the packets of the streams of a session, also where the codec of a stream changes midway.

It reads no container, and places nothing in time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import av

from streamav.capture.decoder import limit
from streamav.capture.many_channels import own_decoder
from streamav.errors import CaptureError
from streamav.stream_sample import decoder_now

if TYPE_CHECKING:
    from streamav.capture.stamps import Kind
    from streamav.capture.streams import Streams

    _Packet = av.Packet[av.stream.Stream]

__all__ = ["Decoders"]

_WORDS: Final[dict[Kind, str]] = {"sound": "sound", "picture": "pictures"}
_LOG = logging.getLogger(__name__)
_DOUBTED: Final = 10
"""After so many damaged packets in a row a stream is asked whether its codec is another one by now (our choice)."""
_HOPELESS: Final = 100
"""After so many damaged packets in a row a live stream that was decoded before is opened again (our choice)."""


class Decoders:
    """The decoders of a session. A live source whose codec changes is opened again; a file gets another decoder."""

    def __init__(self, streams: Streams, name: str, *, live: bool) -> None:
        """Use the decoders of the streams, where they are safe."""
        self._name, self._live = name, live
        self._own: dict[Kind, av.CodecContext] = {}
        if streams.sound is not None and (own := own_decoder(streams.sound)) is not None:
            self._own["sound"] = own
        self._damaged: dict[Kind, int] = {"sound": 0, "picture": 0}
        self._decoded: set[Kind] = set()
        self._changed: set[Kind] = set()

    def described(self, packet: _Packet) -> bool:
        """Return whether a packet is of the codec that its stream was described with."""
        return _kind(packet) not in self._changed

    def decode(self, packet: _Packet) -> list[av.AudioFrame | av.VideoFrame]:
        """Return the frames of a packet.

        Raises:
            av.error.FFmpegError: when it is damaged.
            CaptureError: when a live source goes on with another codec, or with what cannot be decoded.
        """
        kind = _kind(packet)
        try:
            frames = self._frames(kind, packet)
        except av.error.FFmpegError:  # decoders report damage under many names, also "operation not permitted"
            self._damaged[kind] += 1
            if self._damaged[kind] % _DOUBTED == 0 and packet.size:
                self._doubt(kind, packet)
            raise
        if frames:
            self._damaged[kind] = 0
            self._decoded.add(kind)
        return frames

    def _frames(self, kind: Kind, packet: _Packet) -> list[av.AudioFrame | av.VideoFrame]:
        own = self._own.get(kind)
        frames = packet.decode() if own is None else own.decode(packet)  # type: ignore[attr-defined] # of sound or pictures
        return [frame for frame in frames if isinstance(frame, av.AudioFrame | av.VideoFrame)]

    def _doubt(self, kind: Kind, packet: _Packet) -> None:
        """Take another decoder where the codec has changed; it gives pictures from the next key frame on."""
        found = decoder_now(packet.stream, bytes(packet))
        own = self._own.get(kind)
        if found is None or (own is not None and found[0] == own.codec.canonical_name):
            if self._live and kind in self._decoded and self._damaged[kind] >= _HOPELESS:
                msg = f"{self._name} sends {_WORDS[kind]} that cannot be decoded any more; it is opened again"
                raise CaptureError(msg)
            return
        if self._live:
            msg = f"{self._name} sends {_WORDS[kind]} in another codec from now on ({found[0]}); it is opened again"
            raise CaptureError(msg)
        _LOG.warning("the codec changed, clips lack its %s from here on source=%s codec=%s", _WORDS[kind], self._name, found[0])
        self._own[kind] = limit(found[1])
        self._changed.add(kind)


def _kind(packet: _Packet) -> Kind:
    return "picture" if packet.stream.type == "video" else "sound"
