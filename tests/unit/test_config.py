"""Tests settings from file, environment and command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from streamav.config import Settings, SourceSettings
from streamav.config_loading import load_settings
from streamav.errors import SettingsError
from streamav.publish.credentials import Credentials
from streamav.publish.url import parse_broker_url
from streamav.setting_names import HOME, NOT_SETTINGS, explain, setting_of_variable

NOTHING: dict[str, str] = {}


def test_the_later_place_wins(tmp_path: Path) -> None:
    """File, environment, options and --set each override the places before them; keys that are not named keep their value."""
    file = tmp_path / "s.toml"
    file.write_text('[mqtt]\nhost = "file"\nport = 1\nkeepalive_s = 10\nbase = "file"\n')
    settings = load_settings(
        file, ["mqtt.port=4"], {"STREAMAV_MQTT_PORT": "2", "STREAMAV_MQTT_HOST": "env"}, {"mqtt": {"port": 3, "base": "option"}}
    )
    assert settings.mqtt is not None
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.keepalive_s, settings.mqtt.base) == ("env", 4, 10, "option")


def test_without_anything_there_are_defaults() -> None:
    """Without file and environment the run uses the starter model and no broker."""
    settings = load_settings(environment=NOTHING)
    assert (settings.model.name, settings.mqtt, settings.source.speed) == ("auto", None, "1")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("detection.latency_segmnts=3", r"unknown setting detection.latency_segmnts; the nearest is detection.latency_segments"),
        ("modle.name=x", r"unknown setting modle"),
        ("detection.latency_segments=11", r"detection.latency_segments: .*less than or equal to 10 .*got 11"),
        ("detection.on=1.5", r"detection.on: .*got 1.5"),
        ("source.id=a b", r"source.id must be 1 to 64 letters a to z, digits, _ and -, got 'a b'"),
        ("source.id=status", r"source.id: it must not be one of"),
        ('mqtt={host="h", base="a//b"}', r"mqtt.base must be one or more levels of letters .* with one / between two of them, got 'a//b'"),
        ("labels.Bark.hear=x", r"labels.Bark must be 1 to 64 small letters a to z, digits and _, got 'Bark'"),
        ("detection.classes.bark.onn=1", r"unknown setting detection.classes.bark.onn; the nearest is detection.classes.bark.on"),
        ("nonsense", r"--set takes section.key=value, got 'nonsense'"),
        ("model.engine=gpu", r"model.engine: .*'auto', 'torch'"),
    ],
)
def test_a_wrong_setting_is_named(override: str, message: str) -> None:
    """The error names the setting, and its range or the nearest known name."""
    with pytest.raises(SettingsError, match=message):
        load_settings(overrides=[override], environment=NOTHING)


def patterns(schema: object) -> set[str]:
    """Return every pattern in a JSON schema."""
    if isinstance(schema, list):
        return set().union(*map(patterns, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
    return own.union(*map(patterns, schema.values()), *(patterns({"pattern": key}) for key in schema.get("patternProperties", ())))


def test_no_regular_expression_is_told() -> None:
    """Each pattern of a setting is told in words."""
    found = patterns(Settings.model_json_schema())
    assert len(found) >= 5
    for pattern in found:
        error = {"type": "string_pattern_mismatch", "loc": ("x",), "msg": "should match", "input": "?", "ctx": {"pattern": pattern}}
        assert explain(error).startswith("x must be ")
        assert pattern not in explain(error)


def test_a_list_of_sources_is_never_shown(tmp_path: Path) -> None:
    """The error about too many sources, or about a value in place of tables, states the number, not addresses with passwords."""
    one = '[[sources]]\nid = "s{}"\nuri = "rtsp://user:hunter2@camera"\n'
    (tmp_path / "many.toml").write_text("".join(one.format(number) for number in range(4097)))
    with pytest.raises(SettingsError, match=r"^sources must be at most 4096 tables, each headed \[\[sources\]\], got 4097$"):
        load_settings(tmp_path / "many.toml", environment=NOTHING)
    (tmp_path / "one.toml").write_text('[sources]\nid = "a"\nuri = "rtsp://user:hunter2@camera"\n')
    with pytest.raises(SettingsError, match=r"got a table: write \[\[sources\]\]$"):
        load_settings(tmp_path / "one.toml", environment=NOTHING)


def test_a_password_is_never_shown() -> None:
    """A password is shown neither in an error about it nor in printed settings."""
    secret = "x" * 5
    settings = load_settings(environment={"STREAMAV_MQTT_PASSWORD": secret, "STREAMAV_MQTT_HOST": "h"})
    assert settings.mqtt is not None
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == secret
    assert secret not in repr(settings) + settings.model_dump_json()
    with pytest.raises(SettingsError, match=r"must not be on the command line.*STREAMAV_MQTT_PASSWORD") as refused:
        load_settings(overrides=["mqtt.host=h", "mqtt.password=hunter2"], environment=NOTHING)
    with pytest.raises(SettingsError, match=r"mqtt.password: ") as caught:
        load_settings(environment=NOTHING, options={"mqtt": {"host": "h", "password": ["hunter2"]}})
    assert "hunter2" not in str(refused.value) + str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"[mqtt\n", "must be TOML"), (b"\xff\xfe", "must be TOML"), (b"[x]\ny = 1\n", "unknown setting")]
)
def test_a_wrong_file_is_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    """Broken TOML, other encodings and unknown sections each give their own error."""
    file = tmp_path / "s.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_settings(file, environment=NOTHING)


def test_a_key_of_very_many_parts_is_refused(tmp_path: Path) -> None:
    """A key of thousands of parts between dots, which is TOML, is one sentence and no RecursionError."""
    file = tmp_path / "streamav.toml"
    file.write_text(".".join(["a"] * 5_000) + " = 1\n")
    with pytest.raises(SettingsError, match="a key has too many parts"):
        load_settings(file, environment={})


def test_a_missing_file_is_said() -> None:
    """The error holds the path and the system's reason."""
    with pytest.raises(SettingsError, match=r"/does/not/exist.toml cannot be read: No such file"):
        load_settings(Path("/does/not/exist.toml"), environment=NOTHING)


@pytest.mark.parametrize(
    "override", ["source.password=hush", "sources.0.password=hush", "source={user='me', password='hush'}", "sources=[{password='hush'}]"]
)
def test_the_password_of_a_camera_is_refused_on_the_command_line(override: str) -> None:
    """Other users can read the command line, so the error says where the password may stand, and does not show it."""
    with pytest.raises(SettingsError, match="STREAMAV_SOURCE_PASSWORD") as caught:
        load_settings(overrides=[override], environment=NOTHING)
    assert "hush" not in str(caught.value)


def test_a_source_is_one_thing() -> None:
    """A file and a camera in one source are refused."""
    with pytest.raises(SettingsError, match="pictures must come from one place"):
        load_settings(overrides=["source.uri=a.mp4", "source.camera=front"], environment=NOTHING)


def test_a_number_may_stand_for_a_text() -> None:
    """`--set source.speed=1` is read as TOML, where 1 is a number; a number is also accepted for an id, a camera and a protocol."""
    settings = load_settings(overrides=["source.speed=1", "source.id=7", "mqtt.host=h", "mqtt.protocol=5"], environment=NOTHING)
    assert settings.mqtt is not None
    assert (settings.source.speed, settings.source.id, settings.mqtt.protocol) == ("1", "7", "5")
    with pytest.raises(SettingsError, match=r"source.speed: .*got 'true'|source.speed: .*got True"):
        load_settings(overrides=["source.speed=true"], environment=NOTHING)


def test_settings_do_not_change() -> None:
    """Settings are frozen."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().source.id = "x"  # type: ignore[misc]
    assert SourceSettings().id == "camera"


def test_the_example_file_is_right() -> None:
    """The documented example can be loaded."""
    example = Path(__file__).parents[2] / "examples" / "porch.toml"
    assert load_settings(example, environment=NOTHING).source.id == "porch"


# The environment


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("STREAMAV_MQTT_HSOT", "STREAMAV_MQTT_HOST"),
        ("STREAMAV_MQTT_PASSWROD", "STREAMAV_MQTT_PASSWORD"),
        ("STREAMAV_DETECTION_LATENCY", "STREAMAV_DETECTION_LATENCY_SEGMENTS"),
        ("STREAMAV_SOURCES_1_URII", "STREAMAV_SOURCES_1_URI"),
        ("STREAMAV_DETECTION_CLASSES_BARK_ONN", "STREAMAV_DETECTION_CLASSES_LABEL_ON"),
        ("STREAMAV_HOEM", "STREAMAV_HOME"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_nearest(name: str, nearest: str) -> None:
    """A misspelt variable would have no effect, so it is an error; its value, which may be a password, is not shown."""
    with pytest.raises(SettingsError, match=rf"unknown environment variable {name}; the nearest is {nearest};") as caught:
        load_settings(environment={name: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_variables_of_others_and_of_no_setting_are_left_alone() -> None:
    """The model folder and variables for tests are not settings; a name without the prefix STREAMAV_ is ignored."""
    environment = dict.fromkeys(NOT_SETTINGS, "/somewhere") | {"STREAMAVX": "1", "MQTT_HSOT": "x"}
    assert load_settings(environment=environment) == load_settings(environment=NOTHING)


def test_every_variable_that_the_project_reads_is_a_setting_or_in_the_one_list() -> None:
    """A variable that is read but not listed would be refused as misspelt; one that nothing reads must leave the list."""
    root = Path(__file__).parents[2]
    files = [file for folder in ("streamav", "tests", "scripts") for file in (root / folder).rglob("*") if file.is_file()]
    texts = [file.read_text(encoding="utf-8") for file in files if file.suffix in {"", ".py"}]
    read = {name for text in texts for name in re.findall(r"""(?:environ(?:\.get)?[\[(]|getenv\()\s*["'](STREAMAV_\w+)""", text)}
    assert {name for name in read if setting_of_variable(name) is None} | {HOME} == set(NOT_SETTINGS)


def test_every_setting_has_a_variable() -> None:
    """A setting of a class has a variable too: the label is a part between the names of the settings."""
    environment = {"STREAMAV_DETECTION_CLASSES_BABY_CRY_ON": "0.7", "STREAMAV_DETECTION_CLASSES_BARK_ENABLED": "false"}
    classes = load_settings(environment=environment).detection.classes
    assert (classes["baby_cry"].on, classes["bark"].enabled) == (0.7, False)


# The broker

CONFIGURED = """
[mqtt]
host = "file"
port = 8884
base = "house"
username = "me"
[mqtt.tls]
ca = "ca.pem"
"""


@pytest.mark.parametrize(
    ("url", "changed"),
    [
        ("mqtt://other", {"host": "other"}),
        ("other", {"host": "other"}),
        ("mqtts://other", {"host": "other"}),
        ("mqtt://other:1999", {"host": "other", "port": 1999}),
        ("mqtt://you@other/garden", {"host": "other", "username": "you", "base": "garden"}),
    ],
)
def test_a_broker_url_sets_only_what_is_written_in_it(tmp_path: Path, url: str, changed: dict[str, object]) -> None:
    """A configured port, user, base and TLS stay; `mqtt://` leaves TLS as it is and never disables it."""
    file = tmp_path / "s.toml"
    file.write_text(CONFIGURED)
    mqtt = load_settings(file, environment=NOTHING, options={"mqtt": parse_broker_url(url)}).mqtt
    expected = {"host": "file", "port": 8884, "base": "house", "username": "me"} | changed
    assert mqtt is not None
    assert {name: getattr(mqtt, name) for name in expected} == expected
    assert mqtt.tls is not None
    assert mqtt.tls.ca == Path("ca.pem")


@pytest.mark.parametrize(
    ("overrides", "port"),
    [([], 1883), (["mqtt.tls.insecure=true"], 8883), (["mqtt.tls.insecure=true", "mqtt.port=1"], 1), (["mqtt.tls=false"], 1883)],
)
def test_the_port_follows_tls_where_none_is_written(overrides: list[str], port: int) -> None:
    """The default port is 8883 with TLS and 1883 without; a written port stays."""
    mqtt = load_settings(overrides=["mqtt.host=h", *overrides], environment=NOTHING).mqtt
    assert mqtt is not None
    assert mqtt.port == port


def test_configured_tls_can_be_switched_off_by_name_alone(tmp_path: Path) -> None:
    """`--set mqtt.tls=false` disables TLS, which cannot happen by accident; `mqtts://` enables it over a false."""
    file = tmp_path / "s.toml"
    file.write_text(CONFIGURED)
    mqtt = load_settings(file, ["mqtt.tls=false"], NOTHING).mqtt
    assert mqtt is not None
    assert mqtt.tls is None
    file.write_text('[mqtt]\nhost = "file"\ntls = false\n')
    mqtt = load_settings(file, environment=NOTHING, options={"mqtt": parse_broker_url("mqtts://other")}).mqtt
    assert mqtt is not None
    assert mqtt.tls is not None


def test_defaults_of_a_command_are_below_everything(tmp_path: Path) -> None:
    """A default of the command is used only where file, environment, options and --set name no value."""
    defaults: dict[str, object] = {"mqtt": {"host": "here", "port": 1}}
    file = tmp_path / "s.toml"
    file.write_text("[mqtt]\nport = 2\n")
    mqtt = load_settings(file, environment={"STREAMAV_MQTT_BASE": "b"}, defaults=defaults).mqtt
    assert mqtt is not None
    assert (mqtt.host, mqtt.port, mqtt.base) == ("here", 2, "b")
    assert defaults == {"mqtt": {"host": "here", "port": 1}}, "what a command passes must not be changed"


# Several sources

MANY = """
[detection]
on = 0.7
[detection.classes.bark]
on = 0.9
min_segments = 2
[capture]
timeout_s = 3.0
[[sources]]
id = "gate"
uri = "gate.mp4"
[sources.detection]
on = 0.5
latency_segments = 4
[sources.detection.classes.bark]
enabled = false
[sources.capture]
queue_segments = 9
[[sources]]
id = "porch"
scene = true
"""


def many(
    tmp_path: Path, text: str = MANY, overrides: Sequence[str] = (), environment: Mapping[str, str] = NOTHING, **base: object
) -> Settings:
    file = tmp_path / "many.toml"
    file.write_text(text)
    return load_settings(file, overrides, environment, base)


def test_each_source_has_its_own_settings_over_the_general_ones(tmp_path: Path) -> None:
    """Keys that a source leaves out are taken from [detection] and [capture], down to single keys of a class."""
    gate, porch = many(tmp_path).each_source()
    assert (gate.id, gate.uri, gate.detection.on, gate.detection.latency_segments) == ("gate", "gate.mp4", 0.5, 4)
    assert (gate.capture.timeout_s, gate.capture.queue_segments) == (3.0, 9)
    bark = gate.detection.classes["bark"]
    assert (bark.enabled, bark.on, bark.min_segments) == (False, 0.9, 2)
    assert (porch.id, porch.scene, porch.detection.on, porch.detection.latency_segments) == ("porch", True, 0.7, None)
    assert (porch.detection.classes["bark"].enabled, porch.capture.queue_segments) == (True, 4)


def test_one_source_is_one_of_one() -> None:
    """each_source() also returns a single source, with all its settings."""
    settings = load_settings(overrides=["source.uri=a.mp4", "detection.on=0.7", "capture.timeout_s=3"], environment=NOTHING)
    (one,) = settings.each_source()
    assert (one.id, one.uri, one.detection.on, one.capture.timeout_s) == ("camera", "a.mp4", 0.7, 3.0)


def test_one_of_several_can_be_set_from_outside(tmp_path: Path) -> None:
    """STREAMAV_SOURCES_0_URI sets a source by its number, so an address with a password need not be in the file; --set overrides it."""
    environment = {"STREAMAV_SOURCES_0_URI": "rtsp://me:hunter2@host", "STREAMAV_SOURCES_1_DETECTION_ON": "0.25"}
    gate, porch = many(
        tmp_path, overrides=["sources.1.id=yard", "sources.1.capture.reconnect=false"], environment=environment
    ).each_source()
    assert gate.uri == "rtsp://me:hunter2@host"
    assert (porch.id, porch.detection.on, porch.capture.reconnect) == ("yard", 0.25, False)


@pytest.mark.parametrize(
    ("overrides", "environment", "message"),
    [
        (["sources.2.id=x"], NOTHING, r"sources.2.id cannot be set: sources has the numbers 0 to 1, got '2'"),
        (["sources.first.id=x"], NOTHING, r"sources.first.id cannot be set: sources has the numbers 0 to 1, got 'first'"),
        (["sources.0=x"], NOTHING, r"sources.0 cannot be set"),
        (["sources.0.urii=x"], NOTHING, r"unknown setting sources.0.urii; the nearest is sources.0.uri"),
        (["sources.0.detection.onn=1"], NOTHING, r"unknown setting sources.0.detection.onn; the nearest is sources.0.detection.on"),
        (["sources.1.id=gate"], NOTHING, r"^the ids of sources must differ: sources.0.id and sources.1.id are both 'gate'$"),
        (["sources.0.id=status"], NOTHING, r"sources.0.id: it must not be one of"),
        (["sources.0.camera=1"], NOTHING, r"sources.0: .*must come from one place|sources.0: .*whole source"),
        (["source.id=x"], NOTHING, r"several sources \(\[\[sources\]\]\), so options of a single source"),
        ([], {"STREAMAV_SOURCE_ID": "x"}, r"several sources"),
        ([], {"STREAMAV_SOURCES_7_ID": "x"}, r"sources.7.id cannot be set: sources has the numbers 0 to 1"),
    ],
)
def test_wrong_settings_of_several_sources_are_named(
    tmp_path: Path, overrides: list[str], environment: dict[str, str], message: str
) -> None:
    """The error holds the number of the source, or both numbers where two contradict each other."""
    with pytest.raises(SettingsError, match=message):
        many(tmp_path, overrides=overrides, environment=environment)


def test_options_of_one_source_are_refused_beside_several(tmp_path: Path) -> None:
    """--source, --id, --duration and a [source] section are refused together with [[sources]]."""
    for base in ({"uri": "a.mp4"}, {"id": "x"}, {"duration_s": 5.0}):
        with pytest.raises(SettingsError, match=r"--source, --camera, --mic, --id, --speed, --duration"):
            many(tmp_path, source=base)
    with pytest.raises(SettingsError, match="several sources"):
        many(tmp_path, MANY + '[source]\nid = "x"\n')


def test_sources_have_an_id_and_a_bound(tmp_path: Path) -> None:
    """A source without an id is refused, and so are more than 4096; no address is shown."""
    with pytest.raises(SettingsError, match=r"^sources.0.id must be given$"):
        many(tmp_path, '[[sources]]\nuri = "rtsp://me:hunter2@host"\n')
    with pytest.raises(SettingsError, match=r"sources must be at most 4096"):
        many(tmp_path, "".join(f'[[sources]]\nid = "s{number}"\nscene = true\n' for number in range(4097)))
    with pytest.raises(SettingsError, match=r"sources is empty: the file has no \[\[sources\]\]"):
        load_settings(overrides=["sources.0.id=x"], environment=NOTHING)


def test_the_example_of_several_sources_is_right() -> None:
    """The example has a device, a network stream and a file; the override of one does not change the others."""
    example = Path(__file__).parents[2] / "examples" / "many.toml"
    desk, porch, archive = load_settings(example, environment=NOTHING).each_source()
    assert (desk.id, desk.camera, desk.mic) == ("desk", "0", "default")
    assert (porch.id, porch.uri, porch.capture.timeout_s, porch.detection.latency_segments) == (
        "porch",
        "rtsp://192.0.2.10/stream",
        10.0,
        3,
    )
    assert (archive.id, archive.uri, archive.detection.latency_segments) == ("archive", "recording.mp4", 2)
    assert [one.detection.classes["bark"].on for one in (desk, porch, archive)] == [0.7, 0.7, 0.7]
    assert ["keyboard" in one.detection.classes for one in (desk, porch, archive)] == [False, True, False]


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    """A byte order mark, as editors on Windows write it, changes neither settings nor password."""
    password = tmp_path / "password"
    password.write_bytes("\ufeffa sleeping cat\r\n".encode())
    file = tmp_path / "run.toml"
    file.write_text(f'\ufeff[mqtt]\nhost = "h"\nusername = "me"\npassword_file = "{password}"\n', encoding="utf-8")
    settings = load_settings(file, environment={})
    assert settings.mqtt is not None
    assert Credentials(settings.mqtt).password == "a sleeping cat"  # noqa: S105 - made up


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 100_000, "0x" + "f" * 500_000])
@pytest.mark.parametrize("key", ["model.threads", "mqtt.outbox.bytes", "source.duration_s"])
def test_a_value_that_no_one_can_read_is_one_short_message(tmp_path: Path, key: str, value: str) -> None:
    """In a file, --set and the environment, a number of thousands of digits is refused; the error names the setting, not the value."""
    file = tmp_path / "run.toml"
    section, _, name = key.rpartition(".")
    file.write_text(f'mqtt.host = "h"\n[{section}]\n{name} = {value}\n', encoding="utf-8")
    for arguments in (
        {"file": file, "environment": {}},
        {"overrides": ["mqtt.host=h", f"{key}={value}"], "environment": {}},
        {"environment": {"STREAMAV_MQTT_HOST": "h", f"STREAMAV_{key.replace('.', '_').upper()}": value}},
    ):
        with pytest.raises(SettingsError) as told:
            load_settings(**arguments)
        assert len(str(told.value)) < 600


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "key",
    [
        *("source.duration_s", "capture.timeout_s", "capture.reconnect_min_s", "capture.reconnect_max_s"),
        *("mqtt.timeout_s", "mqtt.backoff.min_s", "mqtt.backoff.max_s"),
    ],
)
def test_seconds_are_finite(key: str, value: str) -> None:
    """Every setting in seconds refuses infinity and NaN, in --set and in the environment."""
    with pytest.raises(SettingsError, match=key):
        load_settings(overrides=["mqtt.host=h", f"{key}={value}"], environment={})
    with pytest.raises(SettingsError, match=key):
        load_settings(environment={"STREAMAV_MQTT_HOST": "h", f"STREAMAV_{key.replace('.', '_').upper()}": value})


def test_a_rule_of_a_section_names_its_settings_once() -> None:
    """A rule about several settings of one section names them itself, so the section does not stand before it again."""
    with pytest.raises(SettingsError, match=r"^http\.listen '0\.0\.0\.0' lets other machines see the HTTP API"):
        load_settings(None, ["http.listen=0.0.0.0:8735"])


@pytest.mark.parametrize("key", ["source.uri", "source.camera", "source.mic", "clips.dir", "mqtt.host", "model.name", "state_dir"])
def test_no_text_holds_nul(tmp_path: Path, key: str) -> None:
    """The character NUL ends a text for the system, so it is refused when the settings are read, not as a crash of the run."""
    file = tmp_path / "a.toml"
    file.write_text(
        f'mqtt.host = "h"\n{key} = "a\\u0000b"\n'.removeprefix('mqtt.host = "h"\n' if key == "mqtt.host" else ""), encoding="utf-8"
    )
    with pytest.raises(SettingsError, match=rf"{key}: .*NUL"):
        load_settings(file, environment={})


@pytest.mark.parametrize("key", ["source.begin_s", "source.duration_s", "capture.reconnect_min_s", "capture.reconnect_max_s"])
def test_seconds_have_an_end(key: str) -> None:
    """A number of seconds that no clock can hold is refused with the setting's name."""
    with pytest.raises(SettingsError, match=rf"{key}: .*less than or equal"):
        load_settings(overrides=[f"{key}=99999999999999999999"], environment={})
