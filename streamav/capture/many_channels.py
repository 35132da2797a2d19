"""Makes a decoder for PCM sound whose channels are described one by one, because PyAV's own one ends the process.

MOV files may describe the channels of PCM sound one by one. FFmpeg keeps that description as an array. Each AudioLayout of PyAV refers to
the array of its stream or frame, and frees it, too: "double free or corruption" (PyAV 18.1). A decoder with a named layout has no array.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import av

__all__ = ["own_decoder"]

_LAYOUTS: Final = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Number of channels -> FFmpeg's usual layout of so many."""


def own_decoder(stream: av.AudioStream) -> av.AudioCodecContext | None:
    """Return a decoder for PCM whose channels are described one by one; None where the stream's own decoder is safe.

    More than eight channels get no named layout. Such sound cannot be mixed, so the source ends with an error.
    """
    import av

    given = stream.codec_context
    if not given.name.startswith("pcm_"):  # other decoders describe their channels themselves
        return None
    layout = given.layout
    if "(" not in layout.name:  # a named layout holds no array
        return None
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))  # kept for ever: its end would free the array of the stream
    decoder: av.AudioCodecContext = av.CodecContext.create(given.name, "r")  # type: ignore[assignment] # the kind of its codec
    decoder.sample_rate = given.sample_rate
    decoder.layout = _LAYOUTS.get(layout.nb_channels, f"{layout.nb_channels}c")
    return decoder
