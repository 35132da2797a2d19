"""Maps the names of settings: paths in a file or after --set, and environment variables. It also finds the nearest known name.

It reads no file and no environment, and holds no values.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from pydantic import BaseModel

from streamav.config import MOST_CLUSTER_SOURCES, Settings
from streamav.redaction import show_address

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "HOME",
    "NOT_SETTINGS",
    "OPTIONS",
    "PREFIX",
    "SECRETS",
    "explain",
    "nearest_setting",
    "nearest_variable",
    "section_of",
    "setting_of_variable",
    "where_secrets_go",
]

PREFIX: Final = "STREAMAV_"
"""Every variable with this prefix is a setting, or one of `NOT_SETTINGS`, or a mistake."""
HOME: Final = "STREAMAV_HOME"
NOT_SETTINGS: Final[Mapping[str, str]] = {
    HOME: "folder of the user's models and engines",
    "STREAMAV_HARDWARE": "tests: set to use real cameras and microphones",
    "STREAMAV_HOMEASSISTANT": "tests: virtual environment with Home Assistant (make test-homeassistant)",
    "STREAMAV_OTHER_BROKERS": "tests: brokers beside Mosquitto, by name (make test-brokers)",
    "STREAMAV_SCREENSHOTS": "tests: folder for pictures of the live page",
    "STREAMAV_SHARED_DATA": "tests: folder of shared data",
}
"""Variables that are not settings; the only list of them."""

OPTIONS: Final[Mapping[tuple[str, ...], str]] = {
    ("source", "uri"): "--source",
    ("source", "sound_uri"): "--sound-source",
    ("source", "camera"): "--camera",
    ("source", "camera_size"): "--camera-size",
    ("source", "camera_rate"): "--camera-rate",
    ("source", "camera_format"): "--camera-format",
    ("source", "mic"): "--mic",
    ("source", "id"): "--id",
    ("source", "speed"): "--speed",
    ("source", "duration_s"): "--duration",
    ("model", "name"): "--model",
    ("model", "weights_dir"): "--weights",
    ("detection", "labels"): "--labels",
    ("http", "listen"): "--http",
    ("jsonl",): "--jsonl",
}
"""Settings that an option of a command may set, and this option, which has the same name in every command; for messages."""

SECRETS: Final = (("mqtt", "password"), ("view", "token"), ("http", "token"), ("source", "password"))
"""Section and key of the settings that must not be on a command line; beside each is a key that names a file (password_file)."""

_LONGEST_SHOWN: Final = 200
_NUMBER: Final = "<number>"
"""Stands in a path for the number of an item in a list of sections."""
_NAME: Final = "<name>"
"""Stands in a path for the free name of a section, such as a label."""
_PATTERNS: Final = {_NUMBER: r"(\d+)", _NAME: "(.+)"}
_WORDS: Final = {
    r"^[a-zA-Z0-9_-]+(/[a-zA-Z0-9_-]+)*$": "one or more levels of letters a to z, digits, _ and -, with one / between two of them",
    r"^[a-zA-Z0-9_-]{1,64}$": "1 to 64 letters a to z, digits, _ and -",
    r"^[a-z0-9_]{1,64}$": "1 to 64 small letters a to z, digits and _",
    r"^[a-z0-9_]{2,20}$": "2 to 20 small letters a to z, digits and _",
    r"^\d{2,5}x\d{2,5}$": "width and height, such as 1280x720",
    r"^https?://[^\s?#@]+$": "an address such as http://nas.local:8735, without user, ? and #",
}
"""What the pattern of a setting means, for people."""

Path = tuple[str, ...]


def where_secrets_go(section: str, key: str) -> str:
    """Return where one of `SECRETS` may be written, for messages."""
    return f"Put it into {PREFIX}{section.upper()}_{key.upper()}, or into a file named by {section}.{key}_file"


def setting_of_variable(name: str) -> Path | None:
    """Return the path that a variable sets: STREAMAV_MQTT_TLS_CA gives ("mqtt", "tls", "ca"); None where it names no setting."""
    rest = name.removeprefix(PREFIX).lower()
    for path in _paths(Settings):
        found = re.fullmatch("_".join(_PATTERNS.get(part, part) for part in path), rest)
        if found is not None:
            free = iter(found.groups())
            return tuple(next(free) if part in _PATTERNS else part for part in path)
    return None


def nearest_variable(name: str) -> str:
    """Return the known variable that is most similar to an unknown one."""
    number = re.search(r"_(\d+)(?=_|$)", name)
    stand_ins = {_NUMBER: number[1] if number else "0", _NAME: "LABEL"}
    settings = [PREFIX + "_".join(stand_ins.get(part, part) for part in path).upper() for path in _paths(Settings)]
    known = [*settings, *NOT_SETTINGS]
    longer = [one for one in known if one.startswith(f"{name.upper()}_")]  # a name cut short is nearer than one that is as long by chance
    return difflib.get_close_matches(name.upper(), longer or known, n=1, cutoff=0.0)[0]


def nearest_setting(location: Path) -> str:
    """Return the known setting most similar to an unknown one: first a similar name in the same section, then a similar path anywhere."""
    known = _paths(Settings)
    beside = [path[-1] for path in known if _fits(location[:-1], path[:-1])]
    near = difflib.get_close_matches(location[-1], beside, n=1, cutoff=0.5)
    if near:
        return ".".join([*location[:-1], near[0]])
    return difflib.get_close_matches(".".join(location), [".".join(path) for path in known], n=1, cutoff=0.0)[0]


def explain(error: Mapping[str, Any], written: str | None = None) -> str:
    """Return one pydantic error as a sentence that names what is wrong, without passwords and whole sections.

    Args:
        error: one of ValidationError.errors().
        written: what a person wrote in place of the setting, such as "--id"; None for the setting itself.
    """
    location = tuple(str(part) for part in error["loc"])
    where = written or ".".join(location) or "settings"
    said, given = str(error["msg"]).removeprefix("Value error, "), error.get("input")
    if error["type"] == "missing":
        return f"{where} must be given"
    if error["type"] == "value_error" and (
        not location or said.startswith(f"{'.'.join(location)}.")
    ):  # a rule about several settings names them
        return said
    if error["type"] == "extra_forbidden":
        return f"unknown setting {where}; the nearest is {nearest_setting(location)}"
    if location == ("sources",):
        return _sources_rule(given)
    words = _WORDS.get(str(error["ctx"]["pattern"])) if error["type"] == "string_pattern_mismatch" else None
    if words is not None:
        where, said = where.removesuffix(".[key]"), f"must be {words}"
    if isinstance(given, dict | list | tuple):  # a whole section may hold an address or a password: do not show it
        return f"{where}: {said}"
    got = "a secret" if "password" in where or location in SECRETS else _shown(given)
    return f"{where}: {said} (got {got})" if words is None else f"{where} {said}, got {got}"


def _sources_rule(given: object) -> str:
    """Return what `sources` must be, without its content."""
    kind = "a table: write [[sources]]" if isinstance(given, dict) else "a value"
    got = str(len(given)) if isinstance(given, list | tuple) else kind
    return f"sources must be at most {MOST_CLUSTER_SOURCES} tables, each headed [[sources]], got {got}"


def _shown(given: object) -> str:
    """Return a value for a message: without the secrets of an address, and not longer than 200 characters."""
    if isinstance(given, int) and given.bit_length() > _LONGEST_SHOWN:
        return "a number that is far too large"
    text = repr(show_address(given) if isinstance(given, str) else given)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... of {len(text)} characters"


def _fits(location: Path, path: Path) -> bool:
    """Return whether *location* matches *path*, which may hold stand-ins."""
    return len(location) == len(path) and all(part in _PATTERNS or part == at for at, part in zip(location, path, strict=True))


def _paths(model: type[BaseModel], before: Path = ()) -> list[Path]:
    """Return the paths of all plain settings below *model*, with a stand-in for each number and free name."""
    paths: list[Path] = []
    for name, field in model.model_fields.items():
        inner, stand_in = section_of(field.annotation)
        paths += [(*before, name)] if inner is None else _paths(inner, (*before, name, *stand_in))
    return paths


def section_of(annotation: object) -> tuple[type[BaseModel] | None, Path]:
    """Return the settings class of a field that holds sections, and the stand-in for the key of one section; None for a plain value."""
    origin = get_origin(annotation)
    stand_in: Path = (_NAME,) if origin is dict else (_NUMBER,) if origin is tuple else ()
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate, stand_in
    return None, ()
