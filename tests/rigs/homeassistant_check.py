"""Checks discovery messages with Home Assistant's own schemas: reads them as JSON on standard input, prints each refusal as a line.

Run in a process of its own, with the package `homeassistant` on the path, because its dependencies differ from ours. Device discovery
splits a message into its components, and checks each with the schema of its platform; these schemas are in every version since 2021.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def expanded(part: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a dictionary with whole names in place of abbreviations."""
    return {names.get(key, key): value for key, value in part.items()}


def main() -> None:
    """Check every component of every message."""
    abbreviations: Any = importlib.import_module("homeassistant.components.mqtt.abbreviations")
    for message in json.load(sys.stdin):
        shared = {key: message[key] for key in ("availability", "availability_mode", "qos") if key in message}
        device = expanded(message["dev"], abbreviations.DEVICE_ABBREVIATIONS)
        for name, part in message["cmps"].items():
            whole = {**shared, **expanded(part, abbreviations.ABBREVIATIONS), "device": device}
            platform = whole.pop("platform", None) or whole.pop("p")
            schema: Any = importlib.import_module(f"homeassistant.components.mqtt.{platform}").DISCOVERY_SCHEMA
            try:
                found = schema(whole)
            except Exception as exc:  # noqa: BLE001 - any refusal is the result
                print(f"{name}: {exc}")  # noqa: T201 - the result
                continue
            lost = whole.keys() - {str(key) for key in found} - {"default_entity_id"}  # newer than the schemas of some versions
            if lost:
                print(f"{name}: ignored {sorted(lost)}")  # noqa: T201
    print("checked")  # noqa: T201


if __name__ == "__main__":
    main()
