"""Tests of topic names and broker URLs."""

from __future__ import annotations

import re

import pytest

from streamav.config_loading import load_settings
from streamav.errors import SettingsError
from streamav.publish.topics import Topics
from streamav.publish.url import parse_broker_url


def test_every_topic_is_plain_levels_below_the_base() -> None:
    """All topics differ, have no leading slash, and each level holds only letters, digits, minus and underscore."""
    topics = Topics("home/av")
    source = "porch"
    names = [
        topics.status,
        topics.info,
        topics.probe,
        topics.source_status(source),
        topics.availability(source),
        topics.event(source),
        topics.ha_event(source),
        topics.class_state(source, "bark"),
        topics.class_attributes(source, "bark"),
        topics.last_event(source),
        topics.telemetry(source),
        topics.scores(source),
    ]
    assert all(re.fullmatch(r"home/av(/[a-zA-Z0-9_-]+)+", name) for name in names)
    assert len(set(names)) == len(names)
    assert topics.any_event == "home/av/+/event"


def test_topics_of_the_contract() -> None:
    """The topics have the names of the contract."""
    topics = Topics()
    assert topics.status == "streamav/status"
    assert topics.event("porch") == "streamav/porch/event"
    assert topics.class_state("porch", "bark") == "streamav/porch/class/bark/state"


@pytest.mark.parametrize("source", ["a/b", "a b", "", "+", "#", "status", "info", "stats", "doctor", "ä"])
def test_odd_source_names_are_refused(source: str) -> None:
    """A source id must be one topic level and not a reserved word of the service."""
    with pytest.raises(SettingsError):
        load_settings(environment={}, options={"source": {"id": source}})


@pytest.mark.parametrize(
    ("url", "values"),
    [
        ("mqtt://127.0.0.1:1884/streamav", {"host": "127.0.0.1", "port": 1884, "base": "streamav"}),
        ("mqtt://broker", {"host": "broker"}),
        ("broker:1999", {"host": "broker", "port": 1999}),
        ("mqtts://me@broker/home/av/", {"host": "broker", "username": "me", "base": "home/av", "tls": {}}),
        ("mqtt://a%40b@[::1]:1883", {"host": "::1", "port": 1883, "username": "a@b"}),
    ],
)
def test_a_broker_url_becomes_settings(url: str, values: dict[str, object]) -> None:
    """Host, and port, user, base and TLS when present, are read from the URL and accepted by the settings; no default is added."""
    assert parse_broker_url(url) == values
    settings = load_settings(environment={}, options={"mqtt": values})
    assert settings.mqtt is not None
    assert settings.mqtt.host == values["host"]


@pytest.mark.parametrize("url", ["http://broker", "mqtt://", "mqtt://broker:99999", "mqtt://broker:x", "mqtt://b?x=1", "mqtt://[::1"])
def test_what_is_no_broker_url_is_refused(url: str) -> None:
    """A text that is no broker URL is refused with an example of a URL."""
    with pytest.raises(SettingsError, match="mqtt://127"):
        parse_broker_url(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("the broker", "the host in the broker's URL"),
        ("mqtt://broker:0", "the port in the broker's URL"),
        ("mqtt://broker/my house", "the base in the broker's URL"),
        ("mqtt://broker/#", "must be a URL like"),
    ],
)
def test_a_wrong_part_of_a_broker_url_is_named_as_what_was_written(url: str, words: str) -> None:
    """Who writes a URL is told which part of the URL is wrong, and not the name of a setting that was never written."""
    with pytest.raises(SettingsError, match=words) as caught:
        parse_broker_url(url)
    assert "mqtt." not in str(caught.value)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    """A password in the URL is refused; the error does not repeat it and names the right place for it."""
    with pytest.raises(SettingsError, match="STREAMAV_MQTT_PASSWORD") as caught:
        parse_broker_url("mqtt://me:hunter2@broker")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["ws://broker:9001/mqtt", "wss://broker"])
def test_websockets_are_named_as_what_is_not_spoken(url: str) -> None:
    """A broker's address for browsers is refused with the reason, not only with an example."""
    with pytest.raises(SettingsError, match="does not speak MQTT over websockets"):
        parse_broker_url(url)
