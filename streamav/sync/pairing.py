"""Finds which beep belongs to which flash, and how late it is. Pure: it takes and returns times."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from streamav.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Skew", "SkewError", "measure_skew"]

_MOST_MS: Final = 600.0
"""Larger delays are not looked for: a beep may then belong to the next flash."""
_NEAR_MS: Final = 45.0
"""Delays of one setup lie within this of each other: a picture lasts 40 ms."""
_LEAST_PAIRS: Final = 4
"""Things that move may fit three beeps by chance."""
_CERTAIN: Final = 0.6
"""Share of flashes, and of beeps, that must belong to a pair."""


class SkewError(CaptureError):
    """There are no flashes, no beeps, or none that belong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """How late the sound of a source is."""

    skew_ms: float
    """Median over the pairs, ms; positive when sound is late."""
    spread_ms: float
    """Largest distance of a pair from the median, ms."""
    pairs: int
    """Flashes with their beep."""
    flashes: int
    """At the place of the picture whose flashes fit the beeps best."""
    beeps: int
    certain: bool
    """True for at least four pairs that are most of the flashes and of the beeps, where no other delay fits half as many."""


def measure_skew(places_ns: Sequence[Sequence[int]], beeps_ns: Sequence[int]) -> Skew:
    """Return the delay on which most flashes of one place and the beeps agree, within 600 ms.

    Args:
        places_ns: when flashes began, media time, for each place of the picture that flashes. What moves may make places of its own.
        beeps_ns: when beeps began, media time.

    Raises:
        SkewError: when there are none, or they do not belong together; the message says what to do.
    """
    places = [flashes for flashes in places_ns if flashes]
    if not places or not beeps_ns:
        lacking = " and no ".join(name for name, found in (("flash", places), ("beep", beeps_ns)) if not found)
        msg = (
            f"the source must have flashes and beeps, but has no {lacking}: play the clip of `streamav sync-check --make clip.mp4` in "
            "front of the camera, bright and in a dark room, with the loudspeaker near the microphone"
        )
        raise SkewError(msg)
    found = [skew for flashes in places if (skew := _skew(flashes, beeps_ns)) is not None]
    if not found:
        most = max(len(flashes) for flashes in places)
        msg = (
            f"flashes and beeps must belong together, got {most} flashes and {len(beeps_ns)} beeps of which none are within "
            f"{_MOST_MS:g} ms of each other: check that both come from the same clip, and use no Bluetooth loudspeaker"
        )
        raise SkewError(msg)
    return max(found, key=lambda one: (one.certain, 2 * one.pairs / (one.flashes + one.beeps), -one.spread_ms))


def _skew(flashes_ns: Sequence[int], beeps_ns: Sequence[int]) -> Skew | None:
    """Return the delay on which most flashes and beeps agree; None when no two are near each other."""
    delays = sorted((beep - flash) / 1e6 for flash in flashes_ns for beep in beeps_ns if abs(beep - flash) <= _MOST_MS * 1e6)
    groups = [[one for one in delays if 0.0 <= one - first <= _NEAR_MS] for first in delays]
    if not groups:
        return None
    best = max(groups, key=lambda group: (len(group), -abs(median(group))))
    skew_ms = median(best)
    rival = max((len(group) for group in groups if abs(median(group) - skew_ms) > 2 * _NEAR_MS), default=0)
    share = len(best) / max(len(flashes_ns), len(beeps_ns))
    return Skew(
        skew_ms=round(skew_ms, 1) + 0.0,
        spread_ms=round(max(abs(one - skew_ms) for one in best), 1),
        pairs=len(best),
        flashes=len(flashes_ns),
        beeps=len(beeps_ns),
        certain=len(best) >= _LEAST_PAIRS and share >= _CERTAIN and 2 * rival <= len(best),
    )
