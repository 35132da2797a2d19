"""Turns the settings of a label's rules into the rules: the value of the class first, then the general one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from streamav.errors import SettingsError
from streamav.rules import NO_RULES, Rules, Zone, read_polygon, read_schedule, read_time_zone

if TYPE_CHECKING:
    from streamav.config import ClassSettings, DetectionSettings

__all__ = ["label_rules"]

_OF_THE_PICTURE: Final = ("min_agreement", "inside", "outside")
"""Rules that a label which is only heard cannot have."""


def label_rules(label: str, detection: DetectionSettings, own: ClassSettings, *, seen: bool) -> Rules:
    """Return the rules of a label.

    Args:
        label: slug of the label, for messages.
        detection: settings of the source.
        own: settings of the class; they come first.
        seen: False for a label that is only heard: general rules about the picture do not concern it.

    Raises:
        SettingsError: when a rule names a zone that is not defined, or a label that is only heard gets a rule about the picture.
    """

    def value(name: str) -> object:
        if not seen and name in _OF_THE_PICTURE:
            if getattr(own, name) not in {None, ()}:
                msg = f"detection.classes.{label}.{name} must be left out: {label} is only heard, so it has no place and no agreement"
                raise SettingsError(msg)
            return None
        particular = getattr(own, name)
        return getattr(detection, name) if particular is None else particular

    zones = tuple(Zone(name, read_polygon(corners)) for name, corners in detection.zones.items()) if seen else ()
    cooldown, schedule, agreement = value("cooldown_s"), value("schedule"), value("min_agreement")
    rules = Rules(
        cooldown_segments=math.ceil(cooldown) if isinstance(cooldown, float) else 0,
        schedule=read_schedule(schedule, read_time_zone(detection.time_zone)) if isinstance(schedule, tuple) else None,
        min_agreement=agreement if isinstance(agreement, float) else None,
        zones=zones,
        inside=_known(label, "inside", value("inside"), zones),
        outside=_known(label, "outside", value("outside"), zones),
    )
    return NO_RULES if rules == NO_RULES else rules


def _known(label: str, rule: str, names: object, zones: tuple[Zone, ...]) -> tuple[str, ...]:
    """Return the names of zones that a rule asks for.

    Raises:
        SettingsError: when one is not defined.
    """
    found = names if isinstance(names, tuple) else ()
    known = [zone.name for zone in zones]
    for name in found:
        if name not in known:
            have = f"the zones are {', '.join(known)}" if known else "no zone is defined"
            msg = f"detection.{rule} of {label} names the zone {name!r}, but {have}; define it as detection.zones.{name} = [[x, y], ...]"
            raise SettingsError(msg)
    return found
