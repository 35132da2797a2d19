"""Rules that hold an event back although its score is high: schedule, zones, agreement, cooldown.

They are pure: each depends on one segment alone, except the cooldown, which depends on the end of the event before. The tracker applies
them, and `streamav explain` names the one that decided.
"""

from __future__ import annotations

from streamav.rules.held_back import NO_RULES, HeldBack, Rules, Sight, held_back
from streamav.rules.schedule import Schedule, read_schedule, read_time_zone
from streamav.rules.zones import Zone, read_polygon, zones_at

__all__ = [
    "NO_RULES",
    "HeldBack",
    "Rules",
    "Schedule",
    "Sight",
    "Zone",
    "held_back",
    "read_polygon",
    "read_schedule",
    "read_time_zone",
    "zones_at",
]
