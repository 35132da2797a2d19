"""Writes the reference of commands, settings and MQTT messages as Markdown, from the code itself, so that it is never out of date.

The site of the documentation (mkdocs.yml) is built with it, and `streamav config reference` prints the settings.
"""

from __future__ import annotations

import ast
import functools
import inspect
import io
import itertools
import json
import os
import textwrap
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from streamav.cli import COMMANDS, loaded, main

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["cli_reference", "command_names", "descriptions", "mqtt_reference", "settings_reference", "undescribed"]

_COLUMNS: Final = "100"
"""Width of the help texts."""
_MADE: Final = "*This page is made from the code.*\n"


def command_names() -> list[str]:
    """Return every command and subcommand as it is called, without `streamav`, in the order of --help."""
    names = []
    for name, place in COMMANDS.items():
        names += [f"{name} {inner}".strip() for inner in getattr(loaded(name, place), "commands", {"": None})]
    return names


def cli_reference() -> str:
    """Return the page of all commands with their help."""
    parts = ["# Commands\n", _MADE, f"```text\n{_help('')}```\n"]
    parts += [f"## streamav {name}\n\n```text\n{_help(name)}```\n" for name in command_names()]
    return "\n".join(parts)


def _help(name: str) -> str:
    """Return what `streamav NAME --help` prints."""
    shown = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _COLUMNS
    try:
        with redirect_stdout(shown):
            main([*name.split(), "--help"])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return shown.getvalue()


def settings_reference() -> str:
    """Return the page of all settings: key, values, default and meaning, section by section."""
    from streamav.config import Settings

    schema = Settings.model_json_schema()
    parts = ["# Settings\n", _MADE, _SETTINGS_INTRO]
    parts += [
        f"## {f'`{path}`' if path else 'General'}\n\n{inspect.getdoc(model) or ''}\n\n{_table(model, path, schema['$defs'])}"
        for path, model in _sections(Settings)
    ]
    return "\n".join(parts)


_SETTINGS_INTRO: Final = """Each value comes from the last place that has it: the default, the file of `--config` (TOML), the environment,
an option of the command, `--set section.key=value`. The variable of a setting is `STREAMAV_` and its path in capitals:
`mqtt.tls.ca` is `STREAMAV_MQTT_TLS_CA`. `<name>` stands for a label, `<number>` for the number of a source, from 0.
A source of several has sections `detection` and `capture` of its own, with the keys of the general ones.
`streamav config check FILE` checks a file and names the nearest right setting for a wrong one.
"""


def _sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every section of the settings with its path, parents first; those inside a source are left out."""
    from streamav.setting_names import section_of

    yield path, model
    for name, field in model.model_fields.items():
        inner, stand_in = section_of(field.annotation)
        if inner is not None and not path.startswith("sources."):  # a source's own sections repeat the general ones
            yield from _sections(inner, ".".join(part for part in (path, name, *stand_in) if part))


def _table(model: type[BaseModel], path: str, known: Mapping[str, Any]) -> str:
    """Return the table of the plain settings of one section."""
    from streamav.setting_names import section_of

    schema, told = model.model_json_schema(), descriptions(model)
    rows = ["| Key | Values | Default | Meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if section_of(field.annotation)[0] is not None:
            continue
        values = _values(schema["properties"][name], {**known, **schema.get("$defs", {})})
        default = "must be given" if field.is_required() else _value(field.default)
        key = f"{path}.{name}" if path else name
        rows.append(_row(f"`{key}`", values, default, told.get(name, "")))
    return "\n".join(rows) + "\n"


def undescribed() -> list[str]:
    """Return the paths of the plain settings that have no docstring."""
    from streamav.config import Settings
    from streamav.setting_names import section_of

    return [
        f"{path}.{name}"
        for path, model in _sections(Settings)
        for name, field in model.model_fields.items()
        if section_of(field.annotation)[0] is None and not descriptions(model).get(name)
    ]


@functools.cache
def descriptions(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the docstring below each field of a model and its parents, on one line."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if one is BaseModel or not issubclass(one, BaseModel):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        statements = getattr(body, "body", [])
        for field, text in itertools.pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else None
                found[field.target.id] = " ".join(said.split()) if isinstance(said, str) else found.get(field.target.id, "")
    return found


def mqtt_reference() -> str:
    """Return the page of the topics, the event message and the words in it."""
    from streamav.publish.json_schema import packaged_schema
    from streamav.types import EndReason, SourceState

    schema = json.loads(packaged_schema())
    parts = ["# Topics and messages\n", _MADE, "[The contract](../mqtt.md) says what each message means and when it is sent.\n"]
    parts += ["## Topics\n", _topics(), f"## The event message, `{schema['$id']}`\n", "Every key is in every message.\n"]
    parts.append(_keys(schema["properties"], schema["$defs"]))
    for name, entry in schema["$defs"].items():
        parts += [f"### {name}\n", f"{entry.get('description', '')}\n", _keys(entry["properties"], schema["$defs"])]
    parts += ["## Words\n", f"State of a source: {_words(SourceState)}.\n", f"Why an event ended: {_words(EndReason)}.\n"]
    return "\n".join(parts)


def _topics() -> str:
    from streamav.publish.topics import Topics

    topics = Topics("<base>")
    rows = ["| Topic | What it carries |", "|---|---|"]
    for name, member in inspect.getmembers_static(Topics):
        if name.startswith("_") or name == "base":
            continue
        text = (inspect.getdoc(member) or "").removeprefix("Return the topic of ").replace("\n", " ")
        if isinstance(member, property):
            topic = getattr(topics, name)
        elif callable(member):
            topic = getattr(topics, name)(*[f"<{one}>" for one in list(inspect.signature(member).parameters)[1:]])
        else:
            continue
        rows.append(_row(f"`{topic}`", text[:1].upper() + text[1:]))
    return "\n".join(rows) + "\n"


def _keys(properties: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    rows = ["| Key | Values |", "|---|---|", *(_row(f"`{name}`", _values(one, known)) for name, one in properties.items())]
    return "\n".join(rows) + "\n"


def _words(words: Any) -> str:  # noqa: ANN401 - an enumeration of strings
    return ", ".join(f"`{word.value}`" for word in words)


def _values(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return the allowed values of a JSON schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        inner = known.get(name, {})
        return _values(inner, known) if "enum" in inner else name
    if "anyOf" in schema:
        kinds = [_values(one, known) for one in schema["anyOf"]]
        return "; or ".join("none" if kind == "null" else kind for kind in kinds)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        inside = " and ".join(dict.fromkeys(_values(one, known) for one in items))
        return f"list of {inside}" if "prefixItems" not in schema else f"{len(items)} values: {inside}"
    name = {"string": "text", "integer": "whole number", "boolean": "true, false"}.get(
        str(schema.get("type")), str(schema.get("type", "any"))
    )
    return f"{'path' if schema.get('format') == 'path' else name}{_range(schema)}"


def _range(schema: Mapping[str, Any]) -> str:
    low, above, high, below = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"))
    if low is not None and high is not None:
        return f", {low:g} to {high:g}" if isinstance(low, float) else f", {low} to {high}"
    bounds = (("at least", low), ("more than", above), ("at most", high), ("less than", below))
    return "".join(f", {words} {value:g}" for words, value in bounds if value is not None)


def _value(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if repr(default) in {"PydanticUndefined", "()"} else f"`{default}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
