"""Describes the API in OpenAPI 3.1: /openapi.json. A test keeps it equal to the routes, and checks real answers against its schemas."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from streamav import __version__
from streamav.api.parameters import CURSOR_PATTERN, MOST_EVENTS, USUAL_EVENTS
from streamav.config import SOURCE_ID_PATTERN, DetectionSettings
from streamav.journal.times import LONGEST_TIME
from streamav.privacy_modes import PRIVACY_CHOICES
from streamav.publish.json_schema import event_schema
from streamav.slugs import SLUG_SIZE
from streamav.types import SourceState

__all__ = ["document"]

_TIME: Final = "ISO 8601 such as 2026-09-14T10:00:00Z, 10:30 (today), yesterday, seconds since 1970, or an age such as 90m, 2h, 7d"
_SHORT: Final = {"minLength": 1, "maxLength": LONGEST_TIME}
_LABEL: Final = rf"^[a-z0-9_]{{1,{SLUG_SIZE}}}$"
_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_STATE: Final = {"type": "string", "enum": [state.value for state in SourceState]}


@lru_cache(1)
def document() -> dict[str, Any]:
    """Return the description of all addresses."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamav",
            "version": __version__,
            "description": "Asks a run of streamav for its events, sources and figures, and changes what a source detects.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": {**_event_paths(), **_run_paths(), **_monitor_paths()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "http.token; needed where one is set"}},
            "responses": {"Error": _answer("What was wrong, and what to do.", {"$ref": "#/components/schemas/Error"})},
        },
    }


def _event_paths() -> dict[str, Any]:
    identifier = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{26}$"}}
    return {
        "/api/events": _get(
            "Events of the journal, a page at a time.",
            "EventPage",
            [
                _query("since", f"Only events that began then or later: {_TIME}.", **_SHORT),
                _query("until", "Only events that began before; as since.", **_SHORT),
                _query("source", "Only events of this source.", pattern=SOURCE_ID_PATTERN),
                _query("label", "Only events of this label.", pattern=_LABEL),
                {
                    "name": "limit",
                    "in": "query",
                    "description": "Most events of the answer.",
                    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_EVENTS, "default": USUAL_EVENTS},
                },
                _query("after", "Value of `next` in the answer before: the next page.", pattern=f"^{CURSOR_PATTERN}$"),
                {
                    "name": "order",
                    "in": "query",
                    "description": "Which events come first.",
                    "schema": {"type": "string", "enum": ["oldest", "newest"], "default": "oldest"},
                },
            ],
        ),
        "/api/events/{id}": _get("One event, and where its clip and snapshot are.", "EventDetail", [identifier]),
        "/api/events/{id}/clip": _media("The clip of an event (MP4).", "video/mp4", identifier),
        "/api/events/{id}/snapshot": _media("The picture of an event (JPEG).", "image/jpeg", identifier),
    }


def _run_paths() -> dict[str, Any]:
    return {
        "/api/sources": _get("All sources: state, remedy, labels, thresholds and newest figures.", "Sources"),
        "/api/sources/{id}/detection": _detection(),
        "/api/stats": _get("Figures of the run.", "Stats"),
        "/api/explain": _get(
            "Why a second did or did not become an event.",
            "Explanation",
            [
                {**_query("at", f"The second: {_TIME}.", **_SHORT), "required": True},
                _query("source", "Id of the source; may be left out when there is only one.", pattern=SOURCE_ID_PATTERN),
            ],
        ),
    }


def _detection() -> dict[str, Any]:
    identifier = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": SOURCE_ID_PATTERN}}
    asked = _get("What a source detects now: its section `detection` with all changes.", "Detection", [identifier])["get"]
    changed = _get(
        "Change a part of it (JSON Merge Patch); null takes a setting back to the configuration. Needs http.commands = true. It holds from "
        "the next segment on, and is kept over restarts.",
        "Detection",
        [identifier],
    )["get"] | {"operationId": "changeDetection"}
    parts: dict[str, Any] = {name: {} for name in sorted(DetectionSettings.model_fields.keys() - {"labels"})}
    content = {
        "schema": {"type": "object", "minProperties": 1, "properties": parts, "additionalProperties": False},
        "example": {"privacy": "blur"},
    }
    changed["requestBody"] = {"required": True, "content": {"application/merge-patch+json": content, "application/json": content}}
    return {"get": asked, "patch": changed}


def _monitor_paths() -> dict[str, Any]:
    health = _get("200 while the run takes turns, 503 when it hangs. Needs no token.", "Health")
    ready = _get("200 when events can arrive, else 503. Needs no token.", "Readiness")
    for path, schema in ((health, "Health"), (ready, "Readiness")):
        path["get"]["security"] = [{}]
        path["get"]["responses"]["503"] = _answer("Not well.", {"$ref": f"#/components/schemas/{schema}"})
    return {
        "/healthz": health,
        "/readyz": ready,
        "/metrics": {"get": {"summary": "Metrics in the text format of Prometheus.", "responses": _responses("text/plain", _TEXT)}},
        "/openapi.json": {"get": {"summary": "This description.", "responses": _responses("application/json", {"type": "object"})}},
    }


def _get(summary: str, schema: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": schema[0].lower() + schema[1:],
        "responses": _responses("application/json", {"$ref": f"#/components/schemas/{schema}"}),
    }
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


def _media(summary: str, kind: str, identifier: dict[str, Any]) -> dict[str, Any]:
    responses = _responses(kind, {"type": "string", "contentMediaType": kind})
    responses["206"] = {"description": "The range that the header Range names.", "content": {kind: {}}}
    return {"get": {"summary": summary, "parameters": [identifier], "responses": responses}}


def _responses(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "200": {"description": "Done.", "content": {kind: {"schema": schema}}},
        "default": {"$ref": "#/components/responses/Error"},
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _query(name: str, description: str, **limits: str | int) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **limits}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that always has all of these keys, and may get more."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _schemas() -> dict[str, Any]:
    event = _local(event_schema())
    parts = event.pop("$defs", {})
    for key in ("$schema", "$id"):
        event.pop(key, None)
    reference = {"$ref": "#/components/schemas/Event"}
    return {
        **parts,
        "Event": event,
        "EventPage": _object(events=_list(reference), next=_or_null(_TEXT)),
        "EventDetail": _object(event=reference, clip=_or_null(_TEXT), snapshot=_or_null(_TEXT)),
        "Sources": _object(sources=_list(_source())),
        "Detection": _object(source=_TEXT, detection={"type": "object"}),
        "Stats": _stats(),
        "Explanation": _object(source=_TEXT, at_s=_NUMBER, event={"type": "boolean"}, why=_TEXT, labels=_list({"type": "object"})),
        "Health": _object(status={"type": "string", "enum": ["ok", "stalled"]}),
        "Readiness": _object(
            ready={"type": "boolean"},
            checks=_object(loop={"type": "boolean"}, sources={"type": "boolean"}, broker=_or_null({"type": "boolean"})),
        ),
        "Error": _object(error=_TEXT),
    }


def _source() -> dict[str, Any]:
    label = _object(label=_TEXT, on=_NUMBER, off=_NUMBER, min_segments=_COUNT, gap_segments=_COUNT)
    return _object(
        id=_TEXT,
        state=_STATE,
        reason=_TEXT,
        remedy=_TEXT,
        since={"type": "string", "format": "date-time"},
        live={"type": "boolean"},
        privacy={"type": "string", "enum": list(PRIVACY_CHOICES)},
        latency_segments={"type": "integer"},
        labels=_list(label),
        telemetry=_or_null({"type": "object"}),
        open_events=_list(_object(id=_TEXT, label=_TEXT)),
        last_event=_or_null(_object(id=_TEXT, label=_TEXT, start_time=_TEXT)),
        confirmed_events=_COUNT,
    )


def _stats() -> dict[str, Any]:
    counts = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _COUNT}}
    return _object(
        version=_TEXT,
        model=_object(name=_TEXT, version=_TEXT, sha256=_TEXT),
        backend=_TEXT,
        uptime_s=_NUMBER,
        sources={"type": "object", "additionalProperties": _STATE},
        open_events=_COUNT,
        confirmed_events=counts,
        retracted_events=_COUNT,
        mqtt=_or_null({"type": "object"}),
        journal=_or_null(_object(lost_entries=_COUNT)),
        gpu_memory_bytes=_or_null(_COUNT),
    )


def _local(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON Schema whose references lead into the components of the description."""
    if isinstance(value, dict):
        return {key: inner.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _local(inner) for key, inner in value.items()}
    return [_local(one) for one in value] if isinstance(value, list) else value
