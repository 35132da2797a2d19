"""Judges from what arrives whether a source still hears and sees, and says what to do when it does not.

Pure: it takes the quality of segments and returns words.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamav.types import SourceContent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.types import Quality

__all__ = ["Health"]

_ABSENT_SEGMENTS: Final = 3
"""This many segments in a row without any sound, or without any picture, make a source unwell."""
_SEGMENTS: Final = 10
_MOST: Final = 8
"""This many of the last ten segments must show a sign."""
_NOVELTY: Final = 0.03
"""Frozen pictures have at most this share of new content, a clock in the picture included; a static scene has 0.15 and more (measured)."""
_DETAIL: Final = 3.0
"""Below this level nine tenths of a picture show nothing, 0 to 255."""
_DARK: Final = 24.0
"""A picture without detail is black up to this brightness, 0 to 255; video black is 0 to 16."""
_SWING: Final = 2.0**-14
"""Digital silence: within two steps of 16 bits."""
_CLIPPED: Final = 0.01
"""A shout clips fewer samples than this, over one second."""
_OFFSET: Final = 0.05
"""Offset of the samples from zero; sound cards stay below a fifth of it."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """One way in which a source does not hear or see."""

    holds: Callable[[Sequence[Quality]], bool]
    """Takes the last ten qualities, or fewer."""
    words: str
    """Reason and remedy."""


def _often(sign: Callable[[Quality], bool]) -> Callable[[Sequence[Quality]], bool]:
    """Return a test that is true when at least eight segments show a sign."""
    return lambda last: sum(map(sign, last)) >= _MOST


def _frozen(last: Sequence[Quality]) -> bool:
    novelties = [one.signs.novelty for one in last if one.signs.novelty is not None]
    return len(novelties) >= _MOST and sum(novelties) / len(novelties) <= _NOVELTY


def _plain(one: Quality) -> bool:
    return one.signs.detail is not None and one.signs.detail < _DETAIL


def _dark(one: Quality) -> bool:
    return one.signs.brightness is not None and one.signs.brightness <= _DARK


_FAULTS: Final = (
    _Fault(
        _often(lambda one: _plain(one) and _dark(one)),
        "the picture is black: switch the light or the camera's night view on, and take the cap or what covers it away",
    ),
    _Fault(
        _often(lambda one: _plain(one) and not _dark(one)),
        "the picture shows nothing, it is one even surface: take away what covers the camera, and clean its lens",
    ),
    _Fault(
        _frozen, "the picture is frozen, the same one comes again and again: restart the camera, or the program that passes its stream on"
    ),
    _Fault(
        _often(lambda one: one.signs.swing is not None and one.signs.swing < _SWING),
        "the sound is digital silence: switch the microphone on, and end its muting in the camera's or the system's settings",
    ),
    _Fault(
        _often(lambda one: one.signs.clipped > _CLIPPED),
        "the sound is clipped: lower the gain of the microphone in the camera's or the system's settings",
    ),
    _Fault(
        _often(lambda one: abs(one.signs.offset) > _OFFSET),
        "the sound has a constant offset, a defect of the microphone or its input: use another input, or another microphone",
    ),
    _Fault(
        _often(lambda one: one.signs.lone_channel),
        "one of the two channels of the sound is silent: check the plug of the microphone, or set the input to mono",
    ),
)


class Health:
    """Judges one source."""

    def __init__(self) -> None:
        """Start without any segment."""
        self._last: deque[Quality] = deque(maxlen=_SEGMENTS)
        self._silent = self._unseen = 0
        self._content = SourceContent()

    def expect(self, content: SourceContent) -> None:
        """Take what the source consists of; what it never had is not missed."""
        self._content = content

    def push(self, quality: Quality, dropped: int) -> str | None:
        """Take the quality of the next segment; return why the source is unwell and what to do, or None when it is well.

        Args:
            quality: of the segment.
            dropped: segments that were dropped before it.
        """
        self._last.append(quality)
        self._silent = self._silent + 1 if self._content.sound and quality.sound_missing else 0
        self._unseen = self._unseen + 1 if self._content.picture and quality.picture_missing else 0
        if dropped:
            return "segments are skipped, the machine is behind: use fewer sources or a faster engine"
        if lacking := self._lacking():
            return f"no {lacking} arrives: check that the camera sends both, and its cables"
        return "; ".join(fault.words for fault in _FAULTS if fault.holds(self._last)) or None

    def reset(self) -> None:
        """Forget all segments, as when the source was lost."""
        self._last.clear()
        self._silent = self._unseen = 0

    def _lacking(self) -> str:
        """Return what has not arrived for some time, empty when all has."""
        lacks = {"sound": self._silent, "picture": self._unseen}
        return " and no ".join(what for what, seconds in lacks.items() if seconds >= _ABSENT_SEGMENTS)
