"""Tests which settings a cluster accepts, what its workers get, and what a user without ray is told."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from rigs.ray_cluster import need_ray

from streamav.cluster.ray_fleet import connect
from streamav.cluster.run import check_cluster, settings_for_workers
from streamav.config import Settings
from streamav.errors import MissingExtraError, SettingsError

MQTT = {"host": "broker", "password": "a sleeping cat"}
SOURCES = [{"id": "a", "scene": True}, {"id": "b", "uri": "b.mp4"}]


def settings(**sections: object) -> Settings:
    return Settings.model_validate({"model": {"name": "starter"}, "mqtt": MQTT, "sources": SOURCES, **sections})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"mqtt": None}, "--cluster needs a broker"),
        ({"sources": []}, "--cluster needs a file with several sources"),
        ({"jsonl": "-"}, "jsonl belongs to one machine"),
        ({"view": {"enabled": True}}, "view.enabled belongs to one machine"),
        ({"clips": {"dir": "clips"}}, "clips.dir belongs to one machine"),
        ({"mqtt": {**MQTT, "commands": True}}, "takes no commands over MQTT yet"),
        ({"sources": [{"id": "pipe", "uri": "-"}]}, "source pipe reads standard input"),
        ({"sources": [{"id": "gate", "camera": "0", "mic": "default"}]}, "source gate opens a device, so it must name the machine"),
        ({"sources": [{"id": "fast", "uri": "a.mp4", "speed": "max"}]}, "source fast: --cluster runs files at their own pace"),
        ({"sources": [{"id": "a", "scene": True, "detection": {"labels": ["no_such"]}}]}, "no_such"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(sections: dict[str, object], message: str) -> None:
    """The message says what must be given or left out, before anything is started."""
    with pytest.raises(SettingsError, match=message):
        check_cluster(settings(**sections))


def test_a_camera_that_names_its_node_is_accepted() -> None:
    """A device belongs to one machine."""
    check_cluster(settings(sources=[{"id": "gate", "camera": "0", "mic": "default", "node": "gate"}]))


def test_workers_get_complete_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings survive the way to another process, with the password, with absolute paths, and with one model for all machines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    sent = settings_for_workers(settings(model={"name": "auto", "weights_dir": "weights"}, detection={"latency_segments": 3}))
    got = Settings.model_validate(sent)
    assert got.mqtt is not None
    assert got.mqtt.password is not None
    assert got.mqtt.password.get_secret_value() == "a sleeping cat"
    assert got.model.name in {"starter", "edge"}
    assert got.model.weights_dir == tmp_path / "weights"
    assert got.sources[1].uri == str(tmp_path / "b.mp4")
    assert [one.detection.latency_segments for one in got.each_source()] == [3, 3]


def test_secrets_and_paths_of_sources_reach_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password of a camera arrives as it is, not as the stars that a printed form has; every path is the same on each machine."""
    monkeypatch.chdir(tmp_path)
    cameras = [
        {"id": "a", "uri": "rtsp://host/1", "user": "u", "password": "a barking dog", "sound_uri": "sound.wav"},
        {"id": "b", "uri": "rtsp://host/2", "user": "u", "password_file": "secret"},
        {"id": "c", "uri": "file:///media/yard%20gate.mp4"},
    ]
    got = Settings.model_validate(settings_for_workers(settings(sources=cameras, state_dir="state")))
    assert got.sources[0].password is not None
    assert got.sources[0].password.get_secret_value() == "a barking dog"
    assert got.sources[0].uri == "rtsp://host/1"
    assert got.sources[0].sound_uri == str(tmp_path / "sound.wav")
    assert got.sources[1].password_file == tmp_path / "secret"
    assert got.sources[2].uri == "/media/yard gate.mp4"
    assert got.state_dir == tmp_path / "state"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "host:port", "127.0.0.1:70000"])
def test_an_address_without_a_ray_is_refused_at_once(address: str) -> None:
    """Nothing waits for minutes; the message says what must be there and how to start it."""
    need_ray()
    with pytest.raises(SettingsError, match=r"--cluster must be auto or the HOST:PORT of a running Ray, got .*: ray start --head"):
        connect(address)


EMPTY_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
NOT_FOUND = bytes((0, 0, 1, 1, 5, 0, 0, 0, 1, 0x8D))
"""Frames of HTTP/2: settings, and an answer with status 404."""


@pytest.mark.parametrize("greeting", [b"", b"220 mail.example ESMTP\r\n", EMPTY_SETTINGS, EMPTY_SETTINGS + NOT_FOUND, None])
def test_another_service_at_the_address_is_refused_at_once(greeting: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong port, such as the broker's, or a proxy without a Ray behind it: Ray itself would try for minutes.

    The service greets, says nothing, answers in Ray's own protocol, or hangs up (None).
    """
    need_ray()
    monkeypatch.setattr("streamav.cluster.ray_fleet._REACH_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):  # the client hangs up
                if greeting is not None:
                    peer.sendall(greeting)
                    peer.settimeout(5.0)
                    while peer.recv(100):  # until the client leaves
                        pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SettingsError, match="something answers there that is not Ray; start one with: ray start --head"):
            connect(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without the extra gets one sentence."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'streamav\[ray\]'"):
        connect("auto")
