"""Contract tests of the JSON Schema of `streamav.event/1`: the file in the package is complete, and its keys never change."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rigs.published_events import MODEL, make_event

from streamav.cli import main
from streamav.publish.commands import FILTERS
from streamav.publish.contract import COMMANDS, TOPICS, packaged_payloads, payloads_schema, reference, with_reference
from streamav.publish.json_schema import event_schema, packaged_schema, written
from streamav.publish.message import describe
from streamav.publish.topics import Topics

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
    """The file equals what the model gives. After a key was added on purpose, write it again with `written(event_schema())`."""
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


FROZEN_PAYLOADS: dict[str, dict[str, str]] = {
    "InfoPayload": {"version": "string", "model": "object", "backend": "string", "sources": "array"},
    "AttributesPayload": {"score": "number", "event_id": "string null", "since": "string null", "zone": "string null"},
    "HaEventPayload": {
        "event_type": "string", "id": "string", "source": "string", "score": "number", "start_time": "string", "zones": "array",
        "snapshot_url": "string null",
    },
    "TelemetryPayload": {
        "fps": "number", "rms_dbfs": "number null", "latency_s": "number", "av_skew_ms": "integer null", "rtf": "number",
        "dropped": "integer", "looked_fps": "number", "thinned": "integer",
    },
    "StatsPayload": {"version": "string", "uptime_s": "number", "peak_memory_mb": "number", "sources": "object", "outbox": "object"},
    "AnswerPayload": {"topic": "string", "accepted": "boolean", "reason": "string null"},
}  # fmt: skip
"""Keys of the small topics; entries may be added, never changed or removed."""
FROZEN_TOPICS = {
    "status": ("yes", 1), "info": ("yes", 1), "stats": ("no", 0), "<source>/status": ("yes", 1), "<source>/availability": ("yes", 1),
    "<source>/event": ("no", 1), "<source>/ha_event": ("no", 1), "<source>/class/<label>/state": ("yes", 1),
    "<source>/class/<label>/attributes": ("yes", 1), "<source>/last_event": ("yes", 1), "<source>/telemetry": ("no", 0),
    "<source>/scores": ("no", 0), "<source>/<setting>/state": ("yes", 1), "<source>/snapshot": ("on demand", 0),
}  # fmt: skip
"""Topic -> retained, QoS."""


def test_the_schema_of_all_payloads_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The file in the package is what the code gives, and `streamav mqtt schema --all` prints it.

    After a change on purpose: `python -m streamav.publish.contract docs/mqtt.md`.
    """
    assert packaged_payloads() == written(payloads_schema())
    assert main(["mqtt", "schema", "--all"]) == 0
    assert capsys.readouterr().out == packaged_payloads()


def test_keys_and_topics_are_only_added() -> None:
    """A key of a small topic that is renamed, retyped or removed fails here, and a topic whose retained flag or QoS changes."""
    schema = json.loads(packaged_payloads())
    for name, frozen in FROZEN_PAYLOADS.items():
        found = {key: types_of(entry, schema) for key, entry in schema["$defs"][name]["properties"].items()}
        assert frozen.items() <= found.items()
        assert set(found) == set(schema["$defs"][name]["required"])
    assert FROZEN_TOPICS.items() <= {topic: (entry["retained"], entry["qos"]) for topic, entry in schema["topics"].items()}.items()


def test_the_reference_in_the_docs_is_generated() -> None:
    """docs/mqtt.md holds the tables that the code gives, all three of them."""
    text = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
    assert text == with_reference(text)
    assert all(made in text for made in reference().values())


def test_every_topic_of_the_code_is_in_the_contract() -> None:
    """Each topic that `Topics` builds, but filters and commands, is in the table, and the reverse."""
    topics = Topics("streamav")
    built = {topics.status, topics.info, topics.stats, topics.probe, topics.kept, topics.answer}
    for name in ("source_status", "availability", "event", "ha_event", "last_event", "telemetry", "scores", "snapshot", "source_answer"):
        built.add(getattr(topics, name)("<source>"))
    built |= {
        topics.class_state("<source>", "<label>"),
        topics.class_attributes("<source>", "<label>"),
        topics.setting("<source>", "<setting>"),
    }
    assert {one.removeprefix("streamav/") for one in built} == {one.topic for one in TOPICS if not one.topic.startswith("<prefix>")}
    assert {re.sub(r"<\w+>", "+", one.topic) + "/set" for one in COMMANDS} == set(FILTERS)
