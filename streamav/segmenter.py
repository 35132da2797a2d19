"""Cuts timed sound and pictures into exact segments of one second by counting samples on the media clock.

Pure: it uses no clock, thread, device or file. The segments do not depend on how the sound was cut into blocks, or on the
order in which blocks and pictures arrive.

    sound     |--block--|----block----|-block-|        every sample has a place: round(time * 16000)
    pictures  p0     p1     p2     p3     p4           each picture stays on display until the next one, for 2 s at most
    segment   [ k s . . . . . . . . . . . . . k+1 s)   frame i is the picture on display at k + i / F seconds
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import ShapeError
from streamav.liveness import PictureSigns, sound_signs
from streamav.types import SAMPLE_RATE_HZ, SAMPLES_PER_SEGMENT, SEGMENT_NS, AudioBlock, Quality, Segment, SourceContent, VideoFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Segmenter", "SegmenterOptions"]

_PICTURE_LIFE_NS = 2 * SEGMENT_NS
"""A segment whose frames are all further than this from their pictures shows none: the pictures have ended, or not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterOptions:
    """How segments are cut."""

    frames_per_second: int
    """F: frames of a segment, 1 to 60."""
    picture: tuple[int, int]
    """Height and width that every picture has, pixels."""
    patience_s: float = 10.0
    """How far sound may run ahead of pictures, or pictures ahead of sound, before a segment is cut without the rest, s.
    10 s is enough for any file that is properly interleaved; a live source needs about 1 s."""
    jitter_s: float = 0.02
    """Largest error of sound time stamps for which no samples are added or dropped, s."""
    stretch_gap_s: float = 60.0
    """A jump of the time stamps by more than this ends the stretch, as reset() does. A shorter gap is filled, s."""
    first_index: int = 0
    """Index of the first segment; sound and pictures before it are left out."""

    def __post_init__(self) -> None:
        """Check all ranges."""
        checks = {
            "frames_per_second must be 1 to 60": 1 <= self.frames_per_second <= 60,  # noqa: PLR2004
            "picture must be a height and width of at least 1": min(self.picture) >= 1,
            "patience_s must be at least 0": self.patience_s >= 0.0,
            "jitter_s must be 0 to 0.5": 0.0 <= self.jitter_s <= 0.5,  # noqa: PLR2004
            "first_index must be at least 0": self.first_index >= 0,
            "stretch_gap_s must be above patience_s and at least 2": self.stretch_gap_s >= max(2.0, self.patience_s + 1.0),
        }
        for rule, holds in checks.items():
            if not holds:
                msg = f"SegmenterOptions.{rule}, got {self}"
                raise ShapeError(msg)


class Segmenter:
    """Turns sound and pictures of one source into segments without gaps.

    A segment is returned once both sound and pictures have reached its end, or one of them is `patience_s` past it.
    Segments of one stretch are consecutive, and index * 1 s is always the time on the media clock. The first stretch
    begins at `first_index` (0). After reset() the next stretch begins at the whole second nearest to its first item, so the index jumps.
    Memory is bounded by patience_s of sound and F pictures a second.
    """

    def __init__(self, options: SegmenterOptions) -> None:
        """Start the first stretch at `first_index` seconds on the media clock."""
        self._options = options
        self._content = SourceContent()
        self._signs = PictureSigns(options.frames_per_second)
        self._next_index = options.first_index
        self._begin(options.first_index)

    def _begin(self, index: int | None) -> None:
        """Start a stretch with segment *index*; None means that the first item decides."""
        self._started = index is not None
        self._index = index or 0
        self._blocks: deque[tuple[int, NDArray[np.float32], bool]] = deque()  # place of the first sample, samples, from a lone channel
        self._sound_end = self._index * SAMPLES_PER_SEGMENT  # place after the last sample
        self._stamp_end: int | None = None  # where the last block ended by its own time stamp
        self._shift = 0  # place minus time stamp, samples
        self._shown: deque[tuple[VideoFrame | None, bool]] = deque()  # decided frames from _index on: picture, is it repeated
        self._decided = self._index * self._options.frames_per_second  # number of the next instant to decide
        self._latest: VideoFrame | None = None
        self._latest_used = False

    def push(self, item: AudioBlock | VideoFrame) -> list[Segment]:
        """Take a block or a picture and return the segments that became complete, oldest first.

        Raises:
            ShapeError: when a picture does not have the size of the options.
        """
        time_ns = item.start_ns
        rest: list[Segment] = []
        if self._started and time_ns - self._index * SEGMENT_NS > self._options.stretch_gap_s * SEGMENT_NS:
            rest = self.reset()
        if not self._started:
            self._begin(max(self._next_index, (time_ns + SEGMENT_NS // 2) // SEGMENT_NS))
        if isinstance(item, AudioBlock):
            self._place(item)
        else:
            self._show(item)
        return rest + self._complete()

    @property
    def running(self) -> tuple[int, tuple[NDArray[np.uint8] | None, ...]]:
        """Index of the segment that comes next, and the pixels of its frames that are decided; None for a frame without a picture."""
        decided = itertools.islice(self._shown, self._options.frames_per_second)
        return self._index, tuple(None if picture is None else picture.pixels for picture, _ in decided)

    def expect(self, content: SourceContent) -> None:
        """Set what the source consists of; a segment does not wait for what it lacks."""
        self._content = content

    def reset(self) -> list[Segment]:
        """End the stretch, as when a source is lost, and return what close() would return; the next item begins a new stretch."""
        rest = self.close()
        self._signs.reset()
        self._begin(None)
        return rest

    def close(self) -> list[Segment]:
        """Return the remaining segments. The last one is padded and kept when at least half of it arrived, else dropped."""
        if not self._started:
            return []
        end_ns = max(self._sound_end * SEGMENT_NS // SAMPLE_RATE_HZ, self._latest.start_ns if self._latest else 0)
        rest = []
        while self._index * SEGMENT_NS + SEGMENT_NS // 2 <= end_ns:
            rest.append(self._cut())
        return rest

    # Sound

    def _place(self, block: AudioBlock) -> None:
        """Assign every sample its place. Small jitter leaves no gap, larger gaps stay open, overlaps are dropped."""
        stamp = (block.start_ns * SAMPLE_RATE_HZ + SEGMENT_NS // 2) // SEGMENT_NS
        if stamp != self._stamp_end:  # the block does not continue the last one exactly
            off = self._sound_end - stamp
            heard = self._stamp_end is not None
            self._shift = off if heard and abs(off) <= self._options.jitter_s * SAMPLE_RATE_HZ else 0
        self._stamp_end = stamp + block.samples.size
        place = stamp + self._shift
        samples = block.samples[max(0, self._sound_end - place) :]
        if samples.size:
            start = max(place, self._sound_end)
            self._blocks.append((start, samples, block.lone_channel))
            self._sound_end = start + samples.size

    def _sound(self) -> tuple[NDArray[np.float32], int, int]:
        """Return the samples of the current segment, how many of them never arrived, and how many came from a lone channel."""
        first = self._index * SAMPLES_PER_SEGMENT
        audio = np.zeros(SAMPLES_PER_SEGMENT, np.float32)
        missing, from_lone = SAMPLES_PER_SEGMENT, 0
        while self._blocks and self._blocks[0][0] < first + SAMPLES_PER_SEGMENT:
            place, samples, lone = self._blocks.popleft()
            room = first + SAMPLES_PER_SEGMENT - place
            if samples.size > room:
                self._blocks.appendleft((place + room, samples[room:], lone))
                samples = samples[:room]
            audio[place - first : place - first + samples.size] = samples
            missing -= samples.size
            from_lone += samples.size if lone else 0
        self._sound_end = max(self._sound_end, first + SAMPLES_PER_SEGMENT)  # samples before this place are too late
        return audio, missing, from_lone

    # Pictures

    def _instant_ns(self, number: int) -> int:
        """Return the time of frame *number*, counted from the media clock's zero."""
        second, frame = divmod(number, self._options.frames_per_second)
        return second * SEGMENT_NS + frame * SEGMENT_NS // self._options.frames_per_second

    def _show(self, picture: VideoFrame) -> None:
        """Decide all frames before the time at which *picture* replaces the picture on display."""
        if picture.pixels.shape[:2] != self._options.picture:
            msg = f"pictures must be {self._options.picture} pixels high and wide, got {picture.pixels.shape[:2]}"
            raise ShapeError(msg)
        if self._latest is not None and picture.start_ns <= self._latest.start_ns:
            return
        self._signs.push(picture)
        if self._latest is None:
            self._latest = picture  # also used for the time before it
        while self._instant_ns(self._decided) < picture.start_ns:
            self._decide()
        if picture is not self._latest:
            self._latest, self._latest_used = picture, False

    def _decide(self) -> None:
        self._shown.append((self._latest, self._latest_used))
        self._latest_used = True
        self._decided += 1

    def _frames(self) -> tuple[NDArray[np.uint8], int, bool]:
        """Return the frames of the current segment, how many repeat the picture of the frame before, and whether all are missing."""
        count = self._options.frames_per_second
        while len(self._shown) < count:
            self._decide()
        frames = np.zeros((count, *self._options.picture, 3), np.uint8)
        taken = [self._shown.popleft() for _ in range(count)]
        repeated = sum(again or picture is None for picture, again in taken)
        first = self._index * count
        if not any(
            picture is not None and abs(self._instant_ns(first + number) - picture.start_ns) <= _PICTURE_LIFE_NS
            for number, (picture, _) in enumerate(taken)
        ):
            return frames, repeated, True
        for number, (picture, _) in enumerate(taken):
            if picture is not None:
                frames[number] = picture.pixels
        return frames, repeated, False

    # Segments

    def _complete(self) -> list[Segment]:
        """Cut every segment that is complete, or whose missing part is later than `patience_s`."""
        segments: list[Segment] = []
        while True:
            end_ns = (self._index + 1) * SEGMENT_NS
            sound_ns = self._sound_end * SEGMENT_NS // SAMPLE_RATE_HZ
            shown_ns = self._latest.start_ns if self._latest is not None else 0
            heard = sound_ns >= end_ns or not self._content.sound
            seen = len(self._shown) >= self._options.frames_per_second or not self._content.picture
            waited = max(sound_ns, shown_ns) - end_ns >= self._options.patience_s * SEGMENT_NS
            if not ((heard and seen) or waited):
                return segments
            segments.append(self._cut())

    def _cut(self) -> Segment:
        audio, missing, lone = self._sound()
        frames, repeated, unseen = self._frames()
        novelty, detail, brightness = self._signs.take()
        signs = replace(sound_signs(audio, SAMPLES_PER_SEGMENT - missing, lone), novelty=novelty, detail=detail, brightness=brightness)
        quality = Quality(missing_samples=missing, repeated_frames=repeated, picture_missing=unseen, signs=signs)
        segment = Segment(index=self._index, start_ns=self._index * SEGMENT_NS, audio=audio, frames=frames, quality=quality)
        self._index += 1
        self._next_index = self._index
        return segment
