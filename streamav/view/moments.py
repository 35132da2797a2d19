"""Keeps the newest seconds of every source as small pictures and sound, and those of the newest events, and makes clips of them.

A clip has the pictures that the model saw, so it exists for every source: a camera with a separate microphone, the scene, a stream. Its
memory is bounded: about 50 kB a second, the newest minute of each source, and at most twelve seconds of each of the newest events.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.types import SAMPLE_RATE_HZ, SAMPLES_PER_SEGMENT, SEGMENT_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.privacy_modes import Privacy
    from streamav.types import Event, Segment

__all__ = ["BEFORE_S", "LONGEST_S", "Moments", "Second", "small_mp4"]

BEFORE_S: Final = 2
"""Seconds before an event that its clip begins with."""
LONGEST_S: Final = 12
"""Longest clip of an event."""
_KEPT_S: Final = 60
_LEAST_KEPT_S: Final = 15
"""Most seconds that are kept of a source, and least (our choice)."""
_ALL_S: Final = 480
"""Seconds of all sources together: at most about 25 MB."""
_EVENTS: Final = 30
"""Newest events whose seconds are kept (our choice)."""
_FULL_SCALE: Final = 32_767.0


@dataclass(frozen=True, slots=True, eq=False)
class Second:
    """One second of a source."""

    index: int
    pictures: tuple[bytes, ...]
    """JPEG, oldest first, at least one."""
    sound: NDArray[np.int16]
    """Shape (16000,)."""
    privacy: Privacy = ()
    """What pictures and sound do not show."""


class Moments:
    """The newest seconds of every source. Everything but `add_source` is called in the page's own thread."""

    def __init__(self, sources: Sequence[str]) -> None:
        """Start empty."""
        self._most = max(_LEAST_KEPT_S, min(_KEPT_S, _ALL_S // max(1, len(sources))))
        self._seconds: dict[str, OrderedDict[int, Second]] = {source: OrderedDict() for source in sources}
        self._events: OrderedDict[str, tuple[Second, ...]] = OrderedDict()
        self._of: dict[str, str] = {}

    def add_source(self, source: str) -> None:
        """Keep the seconds of one more source."""
        self._seconds = {**self._seconds, source: OrderedDict()}  # replaced as a whole: another thread may read it

    def drop_source(self, source: str) -> None:
        """Drop a source with its seconds and its events."""
        self._seconds = {name: one for name, one in self._seconds.items() if name != source}
        for identifier in [one for one, of in self._of.items() if of == source]:
            del self._events[identifier], self._of[identifier]

    def add(self, source: str, segment: Segment, pictures: Sequence[bytes], privacy: Privacy = ()) -> None:
        """Keep a second of a source with its pictures as JPEG; *privacy* is what they and the sound do not show any more."""
        kept = self._seconds[source]
        sound = np.rint(np.clip(segment.audio, -1.0, 1.0) * _FULL_SCALE).astype(np.int16)
        kept[segment.index] = Second(segment.index, tuple(pictures), sound, privacy)
        while len(kept) > self._most:
            kept.popitem(last=False)

    def event(self, event: Event) -> None:
        """Keep the seconds of an event, as far as they are known."""
        first = event.start_ns // SEGMENT_NS - BEFORE_S
        last = -(-event.newest_end_ns // SEGMENT_NS)
        found = self.between(event.source, first, min(last, first + LONGEST_S))
        older = self._events.pop(event.id, ())
        self._events[event.id], self._of[event.id] = max(older, found, key=len), event.source
        while len(self._events) > _EVENTS:
            del self._of[self._events.popitem(last=False)[0]]

    def forget(self, source: str) -> None:
        """Drop all seconds of a source, also those of its events."""
        self._seconds[source].clear()
        for identifier in [one for one, of in self._of.items() if of == source]:
            self._events[identifier] = ()

    def of_event(self, identifier: str) -> tuple[Second, ...]:
        """Return the seconds of an event; nothing when they are gone."""
        return self._events.get(identifier, ())

    def between(self, source: str, first: int, last: int) -> tuple[Second, ...]:
        """Return the seconds from index *first* to before *last* that are kept, without a gap: from the newest gap on."""
        kept = self._seconds.get(source, OrderedDict())
        found: list[Second] = []
        for index in range(max(0, first), last):
            second = kept.get(index)
            if second is not None:
                found.append(second)
            elif index <= (self.newest(source) or 0):
                found.clear()
        return tuple(found)

    def newest(self, source: str) -> int | None:
        """Return the index of the newest second of a source, or None."""
        kept = self._seconds.get(source)
        return next(reversed(kept)) if kept else None


def small_mp4(seconds: Sequence[Second]) -> bytes:
    """Return consecutive seconds as an MP4 file with H.264 and AAC, which every browser plays; at least one second."""
    import av

    content = io.BytesIO()
    rate = max(len(second.pictures) for second in seconds)
    with av.open(content, "w", format="mp4") as file:  # "faststart" would open the file again, which memory cannot
        video = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        audio = file.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        first = _decoded(seconds[0].pictures[0])
        video.width, video.height, video.pix_fmt = first.width // 2 * 2, first.height // 2 * 2, "yuv420p"
        video.codec_context.time_base = Fraction(1, rate)
        for number, second in enumerate(seconds):
            for place in range(rate):
                frame = _decoded(second.pictures[place * len(second.pictures) // rate])
                shown = frame.reformat(video.width, video.height, "yuv420p")
                shown.pts, shown.time_base = number * rate + place, Fraction(1, rate)
                file.mux(video.encode(shown))
            sound = av.AudioFrame.from_ndarray(
                (second.sound / np.float32(_FULL_SCALE)).astype(np.float32)[None], format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE_HZ, number * SAMPLES_PER_SEGMENT, Fraction(1, SAMPLE_RATE_HZ)
            file.mux(audio.encode(sound))
        file.mux(video.encode())
        file.mux(audio.encode())
    return content.getvalue()


def _decoded(jpeg: bytes):  # type: ignore[no-untyped-def] # noqa: ANN202 - av.VideoFrame, which is loaded only here
    import av

    codec = av.CodecContext.create("mjpeg", "r")
    return codec.decode(av.Packet(jpeg))[0]
