"""Contract tests of the JSON Schema of `streamav.event/1`: the file in the package is complete, and its keys never change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rigs.published_events import MODEL, make_event

from streamav.cli import main
from streamav.publish.json_schema import event_schema, packaged_schema, written
from streamav.publish.message import describe

FROZEN: dict[str, str] = {
    "schema": "string", "type": "string", "seq": "integer", "id": "string", "source": "string", "label": "string",
    "label_name": "string", "class_id": "integer null", "start_time": "string", "end_time": "string null", "start_ts": "number",
    "end_ts": "number null", "duration_s": "number", "media_start_s": "number", "media_end_s": "number null", "score": "number",
    "top_score": "number", "is_event_score": "number null", "av_similarity": "number null", "score_kind": "string", "segments": "array",
    "location": "object null", "zones": "array", "audio": "object", "latency_s": "number", "av_skew_ms": "number null",
    "confirmed": "boolean", "end_reason": "string null", "snapshot_url": "string null", "clip_url": "string null", "has_clip": "boolean",
    "model": "object", "modalities": "array", "trained": "boolean",
}  # fmt: skip
"""Key -> JSON types, as in the contract (docs/mqtt.md). Entries may be added, never changed or removed."""


def types_of(entry: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return the JSON types that an entry of the schema allows."""
    if "$ref" in entry:
        return types_of(schema["$defs"][entry["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in entry:
        return " ".join(types_of(one, schema) for one in entry["anyOf"])
    return str(entry["type"])


def test_the_packaged_schema_is_that_of_the_messages() -> None:
    """The file equals what the model gives. After a key was added on purpose, write it anew with `written(event_schema())`."""
    assert packaged_schema() == written(event_schema())


def test_keys_are_only_added() -> None:
    """Every key of the contract is there, required, and of its type; a key that is renamed, retyped or removed fails here."""
    schema = json.loads(packaged_schema())
    found = {key: types_of(entry, schema) for key, entry in schema["properties"].items()}
    assert FROZEN.items() <= found.items()
    assert set(found) == set(schema["required"])
    assert schema["$id"] == "streamav.event/1"


def test_a_message_has_exactly_the_keys_of_the_schema() -> None:
    """A message has every key of the schema and no other, in the same order."""
    assert list(json.loads(describe(make_event(), MODEL, 0.1).to_bytes())) == list(json.loads(packaged_schema())["properties"])


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`streamav mqtt schema` prints the file of the package."""
    assert main(["mqtt", "schema"]) == 0
    assert capsys.readouterr().out == packaged_schema()
