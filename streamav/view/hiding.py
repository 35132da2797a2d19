"""Decides what the page may show of people in each source, and takes the rest out of a segment.

What is shown is some seconds old, so the strictest privacy of the last seconds holds. The page has no finders of faces and voices: with
`blur` it hides whole pictures, with `mute_speech` all sound, with `metadata_only` both.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.privacy_modes import METADATA_ONLY, stricter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streamav.privacy_modes import Privacy
    from streamav.types import Segment

__all__ = ["Hiding", "visible"]

_LAG_S: Final = 15.0
"""Longest time from recording to display: waiting segments and the queue of the page (our choice)."""


class Hiding:
    """What holds for each source. `set` may be called from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Start without privacy."""
        self._monotonic = monotonic
        self._changes: dict[str, tuple[tuple[float, Privacy], ...]] = {}

    def set(self, source: str, privacy: Privacy) -> None:
        """Use a privacy from now on; it is replaced by a less strict one only after some seconds."""
        now_s = self._monotonic()
        kept = self._recent(source, now_s)
        if not kept or kept[-1][1] != privacy:
            self._changes[source] = (*kept, (now_s, privacy))

    def of(self, source: str) -> Privacy:
        """Return what holds for what is shown now."""
        return stricter(*(privacy for _, privacy in self._recent(source, self._monotonic())))

    def _recent(self, source: str, now_s: float) -> tuple[tuple[float, Privacy], ...]:
        """Return the changes that still count: a privacy counts until some seconds after the next one began."""
        changes = self._changes.get(source, ())
        ends = [begin_s for begin_s, _ in changes[1:]]
        first = sum(now_s - end_s > _LAG_S for end_s in ends)
        return changes[first:]


def visible(segment: Segment, privacy: Privacy, hide: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None) -> Segment:
    """Return a segment without what a privacy hides.

    Args:
        segment: with all its pictures and sound.
        privacy: what holds.
        hide: makes people in one picture, shape (h, w, 3) RGB, unrecognisable; None blackens the picture.
    """
    frames, audio = segment.frames, segment.audio
    if METADATA_ONLY in privacy or ("blur" in privacy and hide is None):
        frames = np.zeros_like(frames)
    elif "blur" in privacy and hide is not None:
        frames = np.stack([hide(frame) for frame in frames]) if len(frames) else frames
    if {METADATA_ONLY, "mute_speech"} & set(privacy):
        audio = np.zeros_like(audio)
    return segment if frames is segment.frames and audio is segment.audio else replace(segment, frames=frames, audio=audio)
