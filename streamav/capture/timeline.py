"""Puts the time stamps of a sound and a picture stream onto one media clock that starts at its origin and never jumps back.

Pure: it uses no container and no clock. Streams may restart their time stamps (a joined recording, a wrapped counter, a
camera whose clock was set). Both kinds then continue from their last media time and stay in step with each other.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["Kind", "Timeline"]

Kind = Literal["sound", "picture"]

_BACK_NS = 500_000_000
"""A step back by less than this is a wrong order of single packets, not a restart."""
_AHEAD_NS = 60_000_000_000
"""A jump ahead by less than this is a pause of the recording, and is kept."""


class Timeline:
    """Maps stream times to media times by one offset for each kind. The offset changes where the times of the stream jump."""

    def __init__(self, first_ns: int, origin_ns: int) -> None:
        """Map stream time *first_ns*, the earliest one, to media time *origin_ns*."""
        offset = origin_ns - first_ns
        self._offset: dict[Kind, int] = {"sound": offset, "picture": offset}
        self._next: dict[Kind, int] = {}
        self.leaps = 0
        """How often an offset was changed."""

    def place(self, kind: Kind, time_ns: int, length_ns: int) -> int:
        """Return the media time of an item that begins at stream time *time_ns* and lasts *length_ns*."""
        expected = self._next.get(kind)
        placed = time_ns + self._offset[kind]
        if expected is not None and not self._fits(placed, expected):
            other: Kind = "picture" if kind == "sound" else "sound"
            if self._fits(time_ns + self._offset[other], expected):  # the other kind has passed the same jump already
                self._offset[kind] = self._offset[other]
            else:
                self._offset[kind] = expected - time_ns
            self.leaps += 1
            placed = time_ns + self._offset[kind]
        self._next[kind] = placed + length_ns
        return placed

    @staticmethod
    def _fits(placed_ns: int, expected_ns: int) -> bool:
        return expected_ns - _BACK_NS <= placed_ns <= expected_ns + _AHEAD_NS
