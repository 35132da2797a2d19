"""Settings from file, environment and command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamav.config import Settings, SourceSettings, load_settings
from streamav.errors import SettingsError

NOTHING: dict[str, str] = {}


def test_the_later_place_wins(tmp_path: Path) -> None:
    """File, environment, options, --set: each wins over the one before; what it does not name stays."""
    file = tmp_path / "s.toml"
    file.write_text('[mqtt]\nhost = "file"\nport = 1\nkeepalive_s = 10\nbase = "file"\n')
    settings = load_settings(
        file, ["mqtt.port=4"], {"STREAMAV_MQTT_PORT": "2", "STREAMAV_MQTT_HOST": "env"}, {"mqtt": {"port": 3, "base": "option"}}
    )
    assert settings.mqtt is not None
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.keepalive_s, settings.mqtt.base) == ("env", 4, 10, "option")


def test_without_anything_there_are_defaults() -> None:
    """No file and no environment: the starter model, no broker."""
    settings = load_settings(environment=NOTHING)
    assert (settings.model.name, settings.mqtt, settings.source.speed) == ("starter", None, "1")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("detection.latency_segmnts=3", r"unknown setting detection.latency_segmnts; the nearest is detection.latency_segments"),
        ("modle.name=x", r"unknown setting modle"),
        ("detection.latency_segments=11", r"detection.latency_segments: .*less than or equal to 10 .*got 11"),
        ("detection.on=1.5", r"detection.on: .*got 1.5"),
        ("source.id=a b", r"source.id: "),
        ("source.id=status", r"source.id must not be one of"),
        ("mqtt.base=a//b", r"mqtt"),
        ("nonsense", r"--set takes section.key=value, got 'nonsense'"),
        ("model.engine=gpu", r"model.engine: .*'auto', 'torch'"),
    ],
)
def test_a_wrong_setting_is_named(override: str, message: str) -> None:
    """The message names the setting, and says what it may be or which one is the nearest."""
    with pytest.raises(SettingsError, match=message):
        load_settings(overrides=[override], environment=NOTHING)


def test_a_password_is_never_shown() -> None:
    """Neither in a message about it nor in the settings when printed."""
    secret = "x" * 5
    settings = load_settings(environment={"STREAMAV_MQTT_PASSWORD": secret, "STREAMAV_MQTT_HOST": "h"})
    assert settings.mqtt is not None
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == secret
    assert secret not in repr(settings) + settings.model_dump_json()
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=["mqtt.host=h", 'mqtt.password=["hunter2"]'], environment=NOTHING)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"[mqtt\n", "must be TOML"), (b"\xff\xfe", "must be TOML"), (b"[x]\ny = 1\n", "unknown setting")]
)
def test_a_wrong_file_is_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    """Broken TOML, other encodings and unknown sections each get their sentence."""
    file = tmp_path / "s.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_settings(file, environment=NOTHING)


def test_a_missing_file_is_said() -> None:
    """The message has the path and the system's reason."""
    with pytest.raises(SettingsError, match=r"/does/not/exist.toml cannot be read: No such file"):
        load_settings(Path("/does/not/exist.toml"), environment=NOTHING)


def test_a_source_is_one_thing() -> None:
    """A file and a camera at once are refused."""
    with pytest.raises(SettingsError, match="give only one of them"):
        load_settings(overrides=["source.uri=a.mp4", "source.camera=front"], environment=NOTHING)


def test_settings_do_not_change() -> None:
    """They are frozen."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().source.id = "x"  # type: ignore[misc]
    assert SourceSettings().id == "camera"


def test_the_example_file_is_right() -> None:
    """What the documentation shows can be loaded."""
    example = Path(__file__).parents[2] / "examples" / "porch.toml"
    assert load_settings(example, environment=NOTHING).source.id == "porch"
