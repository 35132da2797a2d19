"""Checks discovery messages with Home Assistant's own schemas: reads them as JSON on standard input, prints each refusal as a line.

It runs in a Python that has the package `homeassistant`. The schema of devices is that of a whole message; then each component is checked
with the schema of its platform, as Home Assistant does.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import tempfile
from typing import Any

SINCE_2025_10 = {"default_entity_id"}
"""Keys that earlier versions ignore: they make the same entity ids of the names."""


def expanded(part: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a dictionary with whole names in place of abbreviations."""
    return {names.get(key, key): value for key, value in part.items()}


def whole(message: dict[str, Any], abbreviations: Any) -> dict[str, Any]:  # noqa: ANN401 - a module of Home Assistant
    """Return a message without abbreviations."""
    found = expanded(message, abbreviations.ABBREVIATIONS)
    found["device"] = expanded(found["device"], abbreviations.DEVICE_ABBREVIATIONS)
    found["origin"] = expanded(found["origin"], abbreviations.ORIGIN_ABBREVIATIONS)
    found["components"] = {name: expanded(part, abbreviations.ABBREVIATIONS) for name, part in found["components"].items()}
    return found


def refusals(message: dict[str, Any]) -> list[str]:
    """Return what Home Assistant says against a message."""
    schemas: Any = importlib.import_module("homeassistant.components.mqtt.schemas")
    found = []
    try:
        schemas.DEVICE_DISCOVERY_SCHEMA(message)
    except Exception as exc:  # noqa: BLE001 - any refusal is the result
        found.append(f"the device: {exc}")
    shared = {key: message[key] for key in ("availability", "availability_mode", "qos") if key in message}
    for name, part in message["components"].items():
        given = {**shared, **{key: value for key, value in part.items() if key != "platform"}, "device": message["device"]}
        schema: Any = importlib.import_module(f"homeassistant.components.mqtt.{part['platform']}").DISCOVERY_SCHEMA
        try:
            taken = schema(given)
        except Exception as exc:  # noqa: BLE001 - any refusal is the result
            found.append(f"{name}: {exc}")
            continue
        lost = given.keys() - {str(key) for key in taken} - SINCE_2025_10
        found += [f"{name}: ignored {sorted(lost)}"] if lost else []
    return found


async def check(messages: list[dict[str, Any]]) -> list[str]:
    """Return what it says against all messages. Templates are read by an instance, which need not run."""
    abbreviations: Any = importlib.import_module("homeassistant.components.mqtt.abbreviations")
    core: Any = importlib.import_module("homeassistant.core")
    frame: Any = importlib.import_module("homeassistant.helpers.frame")
    with tempfile.TemporaryDirectory() as folder:
        frame.async_setup(core.HomeAssistant(folder))
        return [line for message in messages for line in refusals(whole(message, abbreviations))]


def main() -> None:
    """Check every message."""
    print(*asyncio.run(check(json.load(sys.stdin))), "checked", sep="\n")  # noqa: T201 - the result


if __name__ == "__main__":
    main()
