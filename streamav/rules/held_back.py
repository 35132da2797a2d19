"""The rules of one label, and which of them holds a segment back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from streamav.rules.zones import zones_at

if TYPE_CHECKING:
    from streamav.rules.schedule import Schedule
    from streamav.rules.zones import Zone

__all__ = ["NO_RULES", "HeldBack", "Rules", "Sight", "held_back"]


class HeldBack(StrEnum):
    """Why a segment does not count for a label, whatever its score."""

    SCHEDULE = "schedule"
    AGREEMENT = "agreement"
    INSIDE = "inside"
    OUTSIDE = "outside"
    COOLDOWN = "cooldown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What must hold besides the thresholds; the default asks for nothing."""

    cooldown_segments: int = 0
    """After a confirmed event no event of the label begins for so many segments."""
    schedule: Schedule | None = None
    """None for always."""
    min_agreement: float | None = None
    """Least agreement of sound and picture, -1 to 1."""
    zones: tuple[Zone, ...] = ()
    """All zones of the source; an event names those that it touched."""
    inside: tuple[str, ...] = ()
    """The place must lie in one of these zones; none for anywhere."""
    outside: tuple[str, ...] = ()
    """The place must lie in none of these zones. A place that is not known lies in none."""


NO_RULES: Final = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the rules need to know of one segment."""

    agreement: float
    place: tuple[float, float] | None
    """x, y of the strongest attention, 0 to 1; None when the attention is flat."""
    grid: tuple[int, int]
    """Rows and columns of the attention."""
    utc_ns: int | None
    """UTC of its start, ns since 1970; None where it is not known, and then every schedule holds."""


def held_back(rules: Rules, sight: Sight) -> HeldBack | None:
    """Return the first rule that holds a segment back; None when it counts. The cooldown is not among them: it needs the event before."""
    if rules.schedule is not None and sight.utc_ns is not None and not rules.schedule.holds(sight.utc_ns):
        return HeldBack.SCHEDULE
    if rules.min_agreement is not None and sight.agreement < rules.min_agreement:
        return HeldBack.AGREEMENT
    if rules.inside or rules.outside:
        here = set(zones_at(rules.zones, sight.place, sight.grid))
        if rules.inside and not here & set(rules.inside):
            return HeldBack.INSIDE
        if here & set(rules.outside):
            return HeldBack.OUTSIDE
    return None
