"""Holds the JSON Schema of `streamav.event/1`, for consumers in any language.

The schema is a file in the package, made from `EventMessage`. A contract test keeps both equal and keeps published keys from changing.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from streamav.publish.message import SCHEMA, EventMessage

__all__ = ["event_schema", "packaged_schema", "written"]


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of an event message, from the model."""
    schema = EventMessage.model_json_schema(by_alias=True, mode="serialization")
    schema |= {"title": SCHEMA, "required": list(schema["properties"])}  # every key is always there, also one with a default
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **schema}


def packaged_schema() -> str:
    """Return the text of the schema file in the package."""
    return (resources.files("streamav") / "publish" / "schemas" / "streamav.event-1.json").read_text(encoding="utf-8")


def written(schema: dict[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
