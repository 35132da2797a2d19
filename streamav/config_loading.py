"""Builds the settings of a command from the places where they can be written. A later place overrides an earlier one.

    defaults of the command  <  TOML file  <  STREAMAV_* variables  <  options  <  --set

A place overrides only the keys that it names; all other keys keep their value. Several sources are written in the file as
`[[sources]]`; `sources.0.uri` and STREAMAV_SOURCES_0_URI name the address of the first one. Nothing is read at import.
"""

from __future__ import annotations

import os
import re
import tomllib
from typing import TYPE_CHECKING

from pydantic import ValidationError

from streamav.config import Settings, merge
from streamav.errors import SettingsError, reason_of
from streamav.mistyped import advice_on_path
from streamav.setting_names import NOT_SETTINGS, OPTIONS, PREFIX, SECRETS, explain, nearest_variable, setting_of_variable, where_secrets_go

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

__all__ = ["check_environment", "load_settings"]


def load_settings(
    file: Path | None = None,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
) -> Settings:
    """Build the settings of a command.

    Args:
        file: TOML file, or None.
        overrides: "section.key=value" strings. The value is read as TOML; if that fails, it is a plain string.
        environment: variables to read; None for those of the process. STREAMAV_MQTT_HOST sets mqtt.host.
        options: nested values from command line options; only the options that were given.
        defaults: nested values that are used where nothing else is written.

    Raises:
        SettingsError: when the file is missing or not TOML, a key or a STREAMAV_* variable is unknown, or a value is out of range.
    """
    tree: dict[str, object] = {}
    merge(tree, defaults or {})
    try:
        merge(tree, {} if file is None else _read(file))
    except RecursionError:  # a key of thousands of parts between dots, which the reader of TOML takes
        msg = f"the configuration file {file} must be TOML with sections of few levels: a key has too many parts; shorten it"
        raise SettingsError(msg) from None
    for path, value in _from_environment(os.environ if environment is None else environment):
        _put(tree, path, value)
    merge(tree, options or {})
    set_paths = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            named = re.split(r"[^\w.]", override, maxsplit=1)[0]  # the rest may be a secret
            msg = f"--set takes section.key=value, got {named!r} without ="
            raise SettingsError(msg)
        path = tuple(key.strip().split("."))
        given = _value(text)
        for section, secret in SECRETS:
            if _holds(path, given, section, secret):
                msg = f"{section}.{secret} must not be on the command line: other users of the machine can read it. "
                raise SettingsError(msg + where_secrets_go(section, secret))
        _put(tree, path, given)
        set_paths.add(path)
    try:
        return Settings.model_validate(tree)
    except ValidationError as exc:
        raise SettingsError(
            "\n".join(explain(error, _option_of(error["loc"], options or {}, set_paths)) for error in exc.errors())
        ) from None


def _option_of(location: tuple[int | str, ...], options: Mapping[str, object], set_paths: Collection[tuple[str, ...]]) -> str | None:
    """Return the option that a person wrote for the setting at *location*; None where --set or no option wrote it."""
    path = tuple(map(str, location))
    place: object = options
    for key in path:
        place = place.get(key) if isinstance(place, dict) else None
    return None if place is None or path in set_paths else OPTIONS.get(path)


def _holds(path: tuple[str, ...], given: object, section: str, secret: str) -> bool:
    """Return whether a value of --set is, or holds, a secret; the sections of `sources` count as `source`."""
    plain = tuple("source" if part == "sources" else part for part in path if not part.isdigit())
    sections = given if isinstance(given, list) else [given]
    return plain == (section, secret) or (plain == (section,) and any(isinstance(one, dict) and secret in one for one in sections))


def check_environment(environment: Mapping[str, str]) -> None:
    """Check that every STREAMAV_* variable is one that the program reads.

    Raises:
        SettingsError: when one is unknown. The message names it and the nearest known one, never its value.
    """
    _from_environment(environment)


def _from_environment(environment: Mapping[str, str]) -> list[tuple[tuple[str, ...], str]]:
    """Return the settings that the environment names, with their values."""
    found = []
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        path = setting_of_variable(name)
        if path is None:
            msg = f"unknown environment variable {name}; the nearest is {nearest_variable(name)}; correct or unset it"
            raise SettingsError(msg)
        found.append((path, value))
    return found


def _read(file: Path) -> dict[str, object]:
    try:
        return _toml(file.read_text(encoding="utf-8-sig"))  # editors on Windows may write a byte order mark
    except OSError as exc:
        advice = advice_on_path(str(file)) if isinstance(exc, FileNotFoundError) else "check the path and its permissions"
        msg = f"the configuration file {file} cannot be read: {reason_of(exc)}; {advice}"
        raise SettingsError(msg) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        msg = f"the configuration file {file} must be TOML: {exc}"
        raise SettingsError(msg) from exc


def _put(tree: dict[str, object], path: tuple[str, ...], value: object) -> None:
    """Set one leaf of a nested dictionary and make the sections on its path; a number chooses one item of a list of sections."""
    place: object = tree
    for depth, key in enumerate(path[:-1], 1):
        if isinstance(place, list):
            place = _numbered(place, path, depth)
        elif isinstance(place, dict):
            place = place.setdefault(key, [] if key == "sources" else {})
    if isinstance(place, dict):
        place[path[-1]] = value
        return
    msg = f"{'.'.join(path)} cannot be set: {'.'.join(path[:-1])} is a value, not a section"
    raise SettingsError(msg)


def _numbered(sections: list[object], path: tuple[str, ...], depth: int) -> object:
    """Return the section of a list that *path* names at *depth*."""
    number = path[depth - 1]
    if not number.isdigit() or int(number) >= len(sections):
        where = ".".join(path[: depth - 1])
        known = f"has the numbers 0 to {len(sections) - 1}" if sections else "is empty: the file has no [[sources]]"
        msg = f"{'.'.join(path)} cannot be set: {where} {known}, got {number!r}"
        raise SettingsError(msg)
    return sections[int(number)]


def _value(text: str) -> object:
    """Read a value as TOML; return it as a plain string if it is not TOML."""
    try:
        return _toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _toml(text: str) -> dict[str, object]:
    """Parse TOML. A value that exceeds a limit of Python is an error of TOML too.

    Raises:
        tomllib.TOMLDecodeError: when the text is not TOML, or a value is too long or too deep.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as exc:  # Python's limits: 4300 digits of an integer, nested brackets
        msg = f"a value is too long or too deep ({type(exc).__name__}); shorten it"
        raise tomllib.TOMLDecodeError(msg) from exc
