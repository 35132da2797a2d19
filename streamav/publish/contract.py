"""The contract as one table: each topic with its payload, retained flag, QoS and moment. docs/mqtt.md and the JSON Schema are made from it.

A test compares the generated text with the committed one; `python -m streamav.publish.contract docs/mqtt.md` writes it again.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic.json_schema import models_json_schema

from streamav.privacy_modes import PRIVACY_CHOICES
from streamav.publish.commands import MOST_BYTES
from streamav.publish.message import EventMessage
from streamav.publish.payloads import (
    AnswerPayload,
    AttributesPayload,
    HaEventPayload,
    InfoPayload,
    Payload,
    ScoresPayload,
    StatsPayload,
    TelemetryPayload,
)
from streamav.types import PublishedState

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

__all__ = [
    "COMMANDS",
    "PAYLOADS",
    "TOPICS",
    "CommandEntry",
    "TopicEntry",
    "packaged_payloads",
    "payloads_schema",
    "reference",
    "with_reference",
]

SCHEMA: Final = "streamav.payloads/1"
_ONLINE = ("online", "offline")


@dataclass(frozen=True, slots=True)
class TopicEntry:
    """One published topic, below the base unless it begins with <prefix>."""

    topic: str
    payload: type[BaseModel] | tuple[str, ...] | str
    """A JSON object, one of some words, or a description."""
    retained: str
    qos: int
    when: str


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One setting with its command and its echo."""

    topic: str
    payload: str
    setting: str


TOPICS: Final = (
    TopicEntry("status", _ONLINE, "yes", 1, "after each connect; before a clean disconnect; by the will"),
    TopicEntry("info", InfoPayload, "yes", 1, "after each connect; when `backend` changes, at most ten seconds later"),
    TopicEntry("stats", StatsPayload, "no", 0, "about once a minute while connected"),
    TopicEntry("<source>/status", get_args(PublishedState), "yes", 1, "on change, after each connect"),
    TopicEntry("<source>/availability", _ONLINE, "yes", 1, "on change; `offline` while `lost` or `disabled`, and after a clean stop"),
    TopicEntry("<source>/event", EventMessage, "**no**", 1, "on each change, at most once a second for each event"),
    TopicEntry("<source>/ha_event", HaEventPayload, "**no**", 1, "once for each event, when it is confirmed"),
    TopicEntry("<source>/class/<label>/state", ("ON", "OFF"), "yes", 1, "on change, from confirmed events only; after each connect"),
    TopicEntry("<source>/class/<label>/attributes", AttributesPayload, "yes", 1, "with the state"),
    TopicEntry("<source>/last_event", EventMessage, "yes", 1, "the `end` of the last confirmed event, when it has ended"),
    TopicEntry("<source>/snapshot", "a JPEG file", "on demand", 0, "with a confirmed event, with `mqtt.snapshot`"),
    TopicEntry("<source>/telemetry", TelemetryPayload, "no", 0, "every 10 s while connected"),
    TopicEntry("<source>/scores", ScoresPayload, "no", 0, "every second while connected, with `mqtt.scores`"),
    TopicEntry("<source>/<setting>/state", "the value that holds, see [commands](#commands)", "yes", 1, "on change, with `mqtt.commands`"),
    TopicEntry("<source>/answer", AnswerPayload, "no", 1, "after each command for the source"),
    TopicEntry("answer", AnswerPayload, "no", 1, "after `restate/set`"),
    TopicEntry(
        "<prefix>/device/streamav_<source>/config",
        "device discovery of [Home Assistant](home-assistant.md)",
        "yes",
        1,
        "after each connect, when Home Assistant starts, with `mqtt.homeassistant`",
    ),
    TopicEntry("doctor/probe", "random text", "no", 1, "once after each connect, to see whether the broker delivers our messages"),
    TopicEntry(
        "doctor/kept",
        "random text",
        "yes",
        1,
        "after the states that follow a connect; cleared at the end",
    ),
)
"""Every topic that is published."""

COMMANDS: Final = (
    CommandEntry("<source>/enabled", "`ON`, `OFF`", "`detection.enabled`: whether the source detects at all"),
    CommandEntry("<source>/threshold", "number, 0 … 1", "`detection.on`: threshold of the classes that have none of their own"),
    CommandEntry("<source>/latency", "whole number, 1 … 10", "`detection.latency_segments`"),
    CommandEntry(
        "<source>/privacy",
        ", ".join(f"`{word}`" for word in PRIVACY_CHOICES),
        "`detection.privacy`: [what is kept of people](clips.md#people)",
    ),
    CommandEntry("<source>/class/<label>/enabled", "`ON`, `OFF`", "`detection.classes.<label>.enabled`"),
    CommandEntry("<source>/class/<label>/threshold", "number, 0 … 1", "`detection.classes.<label>.on`"),
    CommandEntry("<source>/class/<label>/cooldown", "seconds, 0 … 86400", "`detection.classes.<label>.cooldown_s`"),
    CommandEntry("<source>/zone/<zone>", "JSON, 3 to 100 corners `[[x, y], …]`, 0 … 1 from the top left", "`detection.zones.<zone>`"),
)
"""Every setting that a command changes; the command is at `…/set`, the echo at `…/state`."""

PAYLOADS: Final[tuple[type[Payload], ...]] = (
    InfoPayload,
    StatsPayload,
    HaEventPayload,
    AttributesPayload,
    TelemetryPayload,
    ScoresPayload,
    AnswerPayload,
)
"""JSON objects of the small topics, in the order of the reference."""


def payloads_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of all payloads; its key `topics` says which one is at which topic."""
    mode: JsonSchemaMode = "serialization"
    models: list[type[BaseModel]] = [EventMessage, *PAYLOADS]
    _, whole = models_json_schema([(one, mode) for one in models], by_alias=True, ref_template="#/$defs/{model}")
    for entry in whole["$defs"].values():
        if "properties" in entry:
            entry["required"] = list(entry["properties"])  # every key is always there
    topics = {one.topic: {"retained": one.retained.strip("*"), "qos": one.qos, "payload": _shape(one)} for one in TOPICS}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, "topics": topics, **whole}


def packaged_payloads() -> str:
    """Return the text of the schema file in the package."""
    return (resources.files("streamav") / "publish" / "schemas" / "streamav.payloads-1.json").read_text(encoding="utf-8")


def reference() -> dict[str, str]:
    """Return the generated parts of docs/mqtt.md by name: topics, payloads, commands."""
    topics = ["| Topic | Payload | Retained | QoS | When |", "|---|---|---|---|---|"]
    topics += [f"| `{one.topic}` | {_payload_words(one)} | {one.retained} | {one.qos} | {one.when} |" for one in TOPICS]
    payloads: list[str] = []
    for model in PAYLOADS:
        name = _name(model)
        where = " and ".join(f"`{one.topic}`" for one in TOPICS if one.payload is model)
        payloads += [f"### {name}", "", f"{where}:", "", "| Key | Meaning |", "|---|---|"]
        payloads += [f"| `{key}` | {field.description} |" for key, field in model.model_fields.items()]
        payloads.append("")
    commands = ["| Command | Payload, at most " + str(MOST_BYTES) + " bytes | What it sets |", "|---|---|---|"]
    commands += [f"| `{one.topic}/set` | {one.payload} | {one.setting} |" for one in COMMANDS]
    commands.append("| `restate/set` | anything | nothing: all retained values are sent again |")
    return {"topics": "\n".join(topics), "payloads": "\n".join(payloads).rstrip(), "commands": "\n".join(commands)}


def with_reference(text: str) -> str:
    """Return the text of docs/mqtt.md with its generated parts made again; they stand between marks."""
    for name, made in reference().items():
        mark = re.compile(rf"(<!-- generated: {name} -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
        text = mark.sub(lambda found, made=made: found[1] + made + found[2], text)  # type: ignore[misc]
    return text


def _name(model: type[BaseModel]) -> str:
    words = model.__name__.removesuffix("Payload")
    return {"HaEvent": "Home Assistant event", "Info": "Info", "Stats": "Statistics", "Answer": "Answers"}.get(words, words)


def _payload_words(entry: TopicEntry) -> str:
    if isinstance(entry.payload, tuple):
        return ", ".join(f"`{word}`" for word in entry.payload)
    if isinstance(entry.payload, str):
        return entry.payload
    if entry.payload is EventMessage:
        return "an event message, see [below](#the-event-message)"
    name = _name(entry.payload)
    return f"see [{name}](#{name.lower().replace(' ', '-')})"


def _shape(entry: TopicEntry) -> dict[str, Any]:
    if isinstance(entry.payload, tuple):
        return {"enum": list(entry.payload)}
    if isinstance(entry.payload, str):
        return {"description": re.sub(r"\[(.*?)\]\(.*?\)", r"\1", entry.payload)}
    return {"$ref": f"#/$defs/{entry.payload.__name__}"}


def _main(paths: list[str]) -> None:
    for path in map(Path, paths):
        path.write_text(with_reference(path.read_text(encoding="utf-8")), encoding="utf-8")
    schema = Path(__file__).parent / "schemas" / "streamav.payloads-1.json"
    schema.write_text(json.dumps(payloads_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1:])
