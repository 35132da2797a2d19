"""Reads MQTT commands as changes of a source's detection, and returns the values that are echoed (docs/mqtt.md, commands).

It is pure: it knows topics and payloads, not the connection. Payloads come from outside and may be anything.

    <source>/enabled/set               ON, OFF                     detection.enabled
    <source>/threshold/set             0 ... 1                     detection.on
    <source>/latency/set               1 ... 10                    detection.latency_segments
    <source>/privacy/set               a word of PRIVACY_CHOICES   detection.privacy
    <source>/class/<label>/enabled/set     ON, OFF                 detection.classes.<label>.enabled
    <source>/class/<label>/threshold/set   0 ... 1                 detection.classes.<label>.on
    <source>/class/<label>/cooldown/set    0 ... 86400, s          detection.classes.<label>.cooldown_s
    <source>/zone/<zone>/set           [[x, y], ...], 0 ... 1      detection.zones.<zone>

The word `default` takes a change back: the configuration holds again.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from streamav.privacy_modes import PRIVACY_CHOICES, privacy_word, read_privacy
from streamav.publish.retained import Retained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamav.control import SourcePlan
    from streamav.publish.topics import Topics

__all__ = ["DEFAULT", "FILTERS", "MOST_BYTES", "Command", "CommandError", "read_command", "setting_states"]

MOST_BYTES: Final = 8192
"""Largest payload of a command (our choice: a zone of 100 corners needs less than half)."""
DEFAULT: Final = "default"
"""Payload that takes a change back."""
FILTERS: Final = (
    "+/enabled/set",
    "+/threshold/set",
    "+/latency/set",
    "+/privacy/set",
    "+/class/+/enabled/set",
    "+/class/+/threshold/set",
    "+/class/+/cooldown/set",
    "+/zone/+/set",
)
"""What is subscribed to below the base, one filter for each setting; never the whole tree, which would bring our own messages."""
_LEVEL: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SHOWN: Final = 60
"""Letters of a wrong payload that the answer shows: payloads come from outside."""


class CommandError(Exception):
    """A command cannot be read; it is always caught inside streamav."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    source: str
    setting: str
    """What is between source and `set`, such as class/bark/enabled."""
    patch: Mapping[str, object]
    """The change of the source's section `detection`."""


def read_command(topic: str, payload: bytes) -> Command:
    """Read a command.

    Args:
        topic: topic below the base, such as porch/enabled/set.
        payload: the payload.

    Raises:
        CommandError: when there is no such setting, or the payload is none of its values.
    """
    if len(payload) > MOST_BYTES:
        msg = f"the payload must have at most {MOST_BYTES} bytes, got {len(payload)}"
        raise CommandError(msg)
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        msg = "the payload must be UTF-8"
        raise CommandError(msg) from None
    levels = topic.split("/")
    if not all(_LEVEL.fullmatch(level) for level in levels):
        msg = "each level of the topic must have 1 to 64 of the characters a-z, A-Z, 0-9, _ and -"
        raise CommandError(msg)
    match levels:
        case [source, "enabled", "set"]:
            patch: dict[str, object] = {"enabled": _value(_switch, text)}
        case [source, "threshold", "set"]:
            patch = {"on": _value(_number, text)}
        case [source, "latency", "set"]:
            patch = {"latency_segments": _value(_whole, text)}
        case [source, "privacy", "set"]:
            patch = {"privacy": _value(_privacy, text)}
        case [source, "class", label, ("enabled" | "threshold" | "cooldown") as name, "set"]:
            key, read = _OF_A_CLASS[name]
            patch = {"classes": {label: {key: _value(read, text)}}}
        case [source, "zone", zone, "set"]:
            patch = {"zones": {zone: _value(_corners, text)}}
        case _:
            msg = "there is no such setting"
            raise CommandError(msg)
    return Command(source, "/".join(levels[1:-1]), patch)


def setting_states(topics: Topics, plan: SourcePlan, known: Mapping[str, bool]) -> list[Retained]:
    """Return the values of all settings of a source, to be retained.

    Args:
        topics: topics below the base of the service.
        plan: what holds.
        known: labels that can be switched, and whether they are on.
    """
    values: dict[str, object] = {
        "enabled": "ON" if plan.enabled else "OFF",
        "threshold": f"{plan.on:g}",
        "latency": str(plan.latency_segments),
        "privacy": privacy_word(plan.privacy),
    }
    for label, enabled in known.items():
        values[f"class/{label}/enabled"] = "ON" if enabled else "OFF"
    for one in plan.labels:
        values[f"class/{one.label}/threshold"] = f"{one.thresholds.on:g}"
        values[f"class/{one.label}/cooldown"] = str(one.rules.cooldown_segments)
    for zone, corners in plan.detection.zones.items():
        values[f"zone/{zone}"] = json.dumps(corners, separators=(",", ":"))
    return [Retained(topics.setting(plan.source, name), str(value).encode()) for name, value in values.items()]


def _value(read: Callable[[str], object], text: str) -> object:
    return None if text == DEFAULT else read(text)


def _switch(text: str) -> object:
    if text not in {"ON", "OFF"}:
        _refuse("ON or OFF", text)
    return text == "ON"


def _number(text: str) -> object:
    found = _json(text)
    if isinstance(found, bool) or not isinstance(found, int | float):
        _refuse("a number", text)
    return float(found)


def _whole(text: str) -> object:
    found = _json(text)
    if isinstance(found, bool) or not isinstance(found, int | float) or found != int(found):  # Home Assistant sends 2.0 for 2
        _refuse("a whole number", text)
    return int(found)


def _privacy(text: str) -> object:
    try:
        return list(read_privacy(text))
    except ValueError:
        _refuse(", ".join(PRIVACY_CHOICES), text)


def _corners(text: str) -> object:
    found = _json(text)
    pairs = isinstance(found, list) and all(isinstance(one, list) and len(one) == 2 for one in found)  # noqa: PLR2004 - x, y
    if not pairs or not all(type(value) in {int, float} for one in found for value in one):
        _refuse("a list of corners [[x, y], ...]", text)
    return [[float(value) for value in one] for one in found]


def _json(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_int=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float | None:
    """Return a number, or None for one that is too large for a float, such as 1e999: Python would make it infinite, or fail later."""
    found = float(text)
    return found if math.isfinite(found) else None


def _refuse(wanted: str, text: str) -> NoReturn:
    msg = f"the payload must be {wanted}, or {DEFAULT}, got {text[:_SHOWN]!r}"
    raise CommandError(msg)


_OF_A_CLASS: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "enabled": ("enabled", _switch),
    "threshold": ("on", _number),
    "cooldown": ("cooldown_s", _number),
}
