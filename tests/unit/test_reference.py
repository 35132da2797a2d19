"""Tests of the reference that is made from the code."""

from __future__ import annotations

import pytest

from streamav.cli import main
from streamav.cli.reference import cli_reference, command_names, mqtt_reference, settings_reference, undescribed
from streamav.config import Settings
from streamav.publish.message import EventMessage
from streamav.publish.topics import Topics


def test_every_setting_is_described() -> None:
    """Every setting has a docstring, which is its meaning in the reference."""
    assert undescribed() == []


def test_the_settings_reference_has_ranges_defaults_and_meanings() -> None:
    """A row names the full key, the allowed values, the default and what the setting does; secrets have no default to show."""
    page = settings_reference()
    assert "| `detection.latency_segments` | whole number, 1 to 10; or none | none | Latency L" in page
    assert "| `mqtt.port` | whole number, 1 to 65535 | `1883` |" in page
    assert "| `model.engine` | `auto`, `torch`, `cpu`, `cuda`, `tensorrt` | `auto` |" in page
    assert all(f"## `{name}`" in page for name in ("source", "capture", "mqtt.tls", "view", "journal", "labels.<name>"))
    assert {name for name in Settings.model_fields if f"`{name}" not in page} == set()


def test_the_reference_of_commands_is_their_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command has a section with the text of its --help."""
    page = cli_reference()
    assert all(f"\n## streamav {name}\n\n```text\nUsage: streamav {name} " in page for name in command_names())
    assert "models pull" in command_names()
    assert capsys.readouterr().out == ""


def test_the_mqtt_reference_has_every_topic_and_key() -> None:
    """Every topic that the code builds and every key of the message are listed, with the words that they may hold."""
    page = mqtt_reference()
    assert all(f"| `{name}` |" in page for name in EventMessage.model_json_schema(by_alias=True)["properties"])
    topics = Topics("<base>")
    wanted = (topics.status, topics.event("<source>"), topics.class_state("<source>", "<label>"), topics.scores("<source>"))
    assert all(f"| `{topic}` |" in page for topic in wanted)
    assert "`source_lost`" in page
    assert "`degraded`" in page


def test_the_settings_can_be_read_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """`streamav config reference` prints the reference of the settings."""
    assert main(["config", "reference"]) == 0
    assert capsys.readouterr().out == settings_reference()
