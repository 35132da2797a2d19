"""Names the part of the picture where an event is, for a person at a terminal.

It takes the place of an event or of a message and computes no place itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamav.cli.span_formats import FoundEvent
    from streamav.publish.message import LocationEntry
    from streamav.types import Location

__all__ = ["words_of_place"]

_DOWN = ("top", "middle", "bottom")
_ACROSS = ("left", "centre", "right")


def words_of_place(place: Location | LocationEntry | FoundEvent | None) -> str:
    """Return the third of the height and of the width, for example "middle centre"; "somewhere" when no place is known."""
    if place is None or place.box is None or place.peak is None:
        return "somewhere"
    x, y = place.peak
    return f"{_DOWN[min(2, int(3 * y))]} {_ACROSS[min(2, int(3 * x))]}"
