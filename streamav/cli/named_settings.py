"""Turns the options that several commands share into settings, and checks that a source is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.config import NO_DEVICE
from streamav.errors import SettingsError

if TYPE_CHECKING:
    from streamav.config import Settings

__all__ = ["check_named", "settings_of"]


def settings_of(
    *,
    source: str | None,
    camera: str | None,
    mic: str | None,
    mqtt: str | None,
    values: dict[str, object],
    sound_source: str | None = None,
) -> dict[str, object]:
    """Return the nested settings that the options name; options that were not given are left out.

    Raises:
        SettingsError: when the broker's URL is wrong.
    """
    named = dict(values)
    if source is not None:  # replaces the source of the file completely
        named |= {
            "source.uri": None,
            "source.sound_uri": None,
            "source.camera": None,
            "source.mic": None,
            "source.scene": source == "scene",
        }
        named |= {} if source == "scene" else {"source.uri": source}
    elif camera not in {None, NO_DEVICE}:
        named |= {"source.uri": None, "source.scene": False}
    devices = {"source.camera": camera, "source.mic": mic, "source.sound_uri": sound_source}
    named |= {key: value for key, value in devices.items() if value is not None}
    tree: dict[str, object] = {}
    for path, value in named.items():
        if value is None and path in values:
            continue
        *sections, key = path.split(".")
        place = tree
        for section in sections:
            inner = place.setdefault(section, {})
            if isinstance(inner, dict):
                place = inner
        place[key] = value
    if mqtt is not None:
        from streamav.publish.url import parse_broker_url

        tree["mqtt"] = parse_broker_url(mqtt)
    return tree


def check_named(settings: Settings) -> None:
    """Check that every source names what it reads.

    Raises:
        SettingsError: when one does not.
    """
    for number, one in enumerate(settings.each_source()):
        if one.uri is None and one.camera is None and one.mic is None and not one.scene:
            msg = "a source must be named, got none; add --source FILE or URL, --source scene, or --camera 0 --mic default"
            if settings.sources:
                msg = f"sources.{number} ({one.id}) must name a source: uri, camera and mic, or scene"
            raise SettingsError(msg)
