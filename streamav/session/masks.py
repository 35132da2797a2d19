"""Changes the items of a source before they are recorded: hides faces, removes sound above the telephone band, mutes speech.

Items keep their order and their time stamps. With muting, sound waits for the end of its second, and later items wait with it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.privacy import LowPass, mosaic
from streamav.types import SAMPLE_RATE_HZ, SAMPLES_PER_SEGMENT, AudioBlock, SourceContent, StateChange, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamav.privacy import FaceFinder, SpeechFinder

__all__ = ["ItemMask"]

_NS: Final = 1_000_000_000
_MOST_WAITING_NS: Final = 2 * _NS
"""Media time that pictures may wait for sound that does not come."""
_JITTER_NS: Final = 20_000_000

Item = AudioBlock | VideoFrame | StateChange | SourceContent


class ItemMask:
    """What is removed from the items of one source."""

    def __init__(self, faces: FaceFinder | None, speech: SpeechFinder | None, *, band: bool) -> None:
        """Choose what is removed.

        Args:
            faces: hides the cells that it finds; None leaves pictures as they are.
            speech: mutes the seconds that it finds; None mutes nothing.
            band: True removes sound above the telephone band.
        """
        self._faces, self._speech = faces, speech
        self._filter = LowPass(SAMPLE_RATE_HZ) if band else None
        self._next_ns: int | None = None

    def __call__(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items without what is removed."""
        muted = items if self._speech is None else self._muted(items, self._speech)  # first: speech is found in the whole band
        return (self._plain(item) for item in muted)

    def _plain(self, item: Item) -> Item:
        if isinstance(item, VideoFrame) and self._faces is not None:
            return replace(item, pixels=mosaic(item.pixels, self._faces.cells(item.pixels)))
        if isinstance(item, AudioBlock) and self._filter is not None:
            if self._next_ns is not None and abs(item.start_ns - self._next_ns) > _JITTER_NS:
                self._filter.reset()
            self._next_ns = item.end_ns
            return replace(item, samples=self._filter.push(item.samples))
        return item

    def _muted(self, items: Iterator[Item], speech: SpeechFinder) -> Iterator[Item]:
        """Yield items once it is known whether speech is heard in the seconds of their sound."""
        held: deque[Item] = deque()
        verdicts: dict[int, bool] = {}
        sound_ns = shown_ns = 0
        for item in items:
            held.append(item)
            if isinstance(item, AudioBlock):
                sound_ns = item.end_ns
            elif isinstance(item, VideoFrame):
                shown_ns = item.start_ns
            gave_up = isinstance(item, StateChange | SourceContent) or shown_ns - sound_ns > _MOST_WAITING_NS
            yield from _released(held, verdicts, speech, None if gave_up else sound_ns)
        yield from _released(held, verdicts, speech, None)


def _released(held: deque[Item], verdicts: dict[int, bool], speech: SpeechFinder, until_ns: int | None) -> Iterator[Item]:
    """Yield the items from the front whose sound ends in seconds that are complete at *until_ns*; None means that all are."""
    while held:
        first = held[0]
        if isinstance(first, AudioBlock):
            seconds = range(first.start_ns // _NS, -(-first.end_ns // _NS))
            if until_ns is not None and seconds.stop * _NS > until_ns:
                return
            for second in seconds:
                if second not in verdicts:
                    verdicts[second] = speech.heard(_sound_of(second, held))
            for old in [second for second in verdicts if second < seconds.start - 1]:
                del verdicts[old]
            first = _silenced(first, verdicts)
        held.popleft()
        yield first


def _sound_of(second: int, held: deque[Item]) -> NDArray[np.float32]:
    """Return the sound of one second from the items that are held, with zeros where there is none."""
    sound = np.zeros(SAMPLES_PER_SEGMENT, np.float32)
    for item in held:
        if isinstance(item, AudioBlock):
            place = round(item.start_ns * SAMPLE_RATE_HZ / _NS) - second * SAMPLES_PER_SEGMENT
            begin, end = max(0, place), min(SAMPLES_PER_SEGMENT, place + item.samples.size)
            if begin < end:
                sound[begin:end] = item.samples[begin - place : end - place]
    return sound


def _silenced(block: AudioBlock, verdicts: dict[int, bool]) -> AudioBlock:
    """Return a block without the samples of the seconds in which speech is heard."""
    first = round(block.start_ns * SAMPLE_RATE_HZ / _NS)
    seconds = (first + np.arange(block.samples.size)) // SAMPLES_PER_SEGMENT
    quiet = np.array([verdicts.get(int(second), True) for second in range(int(seconds[0]), int(seconds[-1]) + 1)])[seconds - seconds[0]]
    return replace(block, samples=np.where(quiet, np.float32(0.0), block.samples)) if quiet.any() else block
