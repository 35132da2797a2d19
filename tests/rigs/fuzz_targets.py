"""What takes bytes from outside, one function each: it passes when the answer is a value or an error of ours, and raises otherwise.

The property tests and the coverage-guided runs (`make fuzz`) use the same targets and the same seeds (tests/seeds).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from rigs.media_clips import CARD

from streamav.api.parameters import event_query, moment
from streamav.app import label_options
from streamav.bundle.card import parse_card
from streamav.config import DetectionSettings
from streamav.config_loading import load_settings
from streamav.control import Controls, SourcePlan
from streamav.errors import ModelError, SettingsError
from streamav.publish.commands import Command, CommandError, read_command
from streamav.publish.message import MessageError, decode
from streamav.publish.url import parse_broker_url
from streamav.redaction import redact, show_address

__all__ = ["SEEDS", "TARGETS", "seeds"]

SEEDS: Final = Path(__file__).parents[1] / "seeds"


def seeds(target: str) -> list[bytes]:
    """Return the stored inputs of a target: good ones, and those that once failed."""
    return [path.read_bytes() for path in sorted((SEEDS / target).iterdir())]


def commands(data: bytes) -> None:
    """An MQTT message, its topic in the first line: it is read as a command, and the command is applied."""
    topic, _, payload = data.partition(b"\n")
    try:
        command = read_command(topic.decode("utf-8", "replace"), payload)
    except CommandError as exc:
        _check_said(exc)
        return
    assert isinstance(command, Command)
    controls = Controls({"porch": DetectionSettings()}, _resolve)
    try:
        plan = controls.change(command.source, command.patch)
    except SettingsError:
        assert controls.differences() == []
        return
    assert plan is controls.plan("porch")


def _resolve(source: str, detection: DetectionSettings) -> SourcePlan:
    labels = label_options(CARD, detection)
    return SourcePlan(source=source, detection=detection, labels=labels, latency_segments=detection.latency_segments or 1)


def events(data: bytes) -> None:
    """An event message, as a subscriber receives it: what is accepted can be written and read again."""
    try:
        message = decode(data)
    except MessageError as exc:
        _check_said(exc, most=2000)
        return
    assert decode(message.to_bytes()) == message


def toml(data: bytes) -> None:
    """A file of settings."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        try:
            settings = load_settings(Path(file.name), environment={})
        except SettingsError as exc:
            _check_said(exc, most=100_000, printable=False)
            return
    settings.each_source()
    assert settings.model_dump_json()


def urls(data: bytes) -> None:
    """An address of a broker or a camera: nothing fails, and what is shown stays the same when it is shown again."""
    text = data.decode("utf-8", "replace")
    try:
        parse_broker_url(text)
    except SettingsError as exc:
        _check_said(exc, most=len(text) * 10 + 500, printable=False)
    shown = show_address(text)
    assert show_address(shown) == shown
    redact(text)


def cards(data: bytes) -> None:
    """The card of a model of unknown origin."""
    try:
        card = parse_card(data, "model.json")
    except ModelError as exc:
        _check_said(exc, most=100_000, printable=False)
        return
    assert parse_card(card.to_json(), "model.json") == card


def questions(data: bytes) -> None:
    """The query of a request to the HTTP API."""
    pairs = parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000)
    for ask in (lambda: event_query(pairs, _NOW_S), lambda: moment(pairs, ["porch", "gate"], _NOW_S)):
        try:
            ask()
        except SettingsError as exc:
            _check_said(exc)


def _check_said(exc: Exception, most: int = 500, *, printable: bool = True) -> None:
    """Check that an error says something, and not too much."""
    assert 0 < len(str(exc)) < most
    assert not printable or str(exc).isprintable()


_NOW_S: Final = 1_789_381_200.0

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "commands": commands,
    "events": events,
    "toml": toml,
    "urls": urls,
    "cards": cards,
    "questions": questions,
}
