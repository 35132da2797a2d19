"""Tests of the command line that need no run."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from streamav.cli import COMMANDS, loaded, main
from streamav.cli.console import ConsoleSink, set_up_logging
from streamav.cli.demo import next_steps, run_options
from streamav.cli.demo_comparison import compare
from streamav.cli.json_output import print_json
from streamav.cli.named_settings import settings_of
from streamav.cli.run_summary import tell
from streamav.cli.subscribe import broker_of
from streamav.config import Settings
from streamav.config_loading import load_settings
from streamav.errors import SettingsError
from streamav.files import write_whole
from streamav.pipeline.measure import RunSummary
from streamav.setting_names import OPTIONS, _paths
from streamav.types import TRYING_AGAIN, SourceState


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`streamav --help` exits with 0 and lists every command of this installation."""
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in ("run", "demo", "subscribe", "devices", "config", "models"))


@pytest.mark.parametrize("name", ["run", "demo", "devices", "config", "subscribe"])
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`streamav NAME --help` exits with 0 and begins with the command's name."""
    assert main([name, "--help"]) == 0
    assert f"Usage: streamav {name}" in capsys.readouterr().out


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints one line to standard output."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "streamav 0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run", "--nonsense"],
        ["run", "--latency", "11"],
        ["tune", "--model", "starter", "--quiet", "none.mkv", "--latency", "0"],
        ["run", "--speed", "2"],
        ["config", "check", "/no.toml"],
        ["run"],
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option or setting exits with 2 and prints nothing to standard output, whether typer or streamav finds it."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_config_check_shows_the_settings_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config check` prints a right file as JSON without the password."""
    monkeypatch.setenv("STREAMAV_MQTT_PASSWORD", "hunter2")
    file = tmp_path / "s.toml"
    file.write_text('[source]\nuri = "a.mp4"\n[mqtt]\nhost = "h"\n')
    assert main(["config", "check", str(file)]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["source"]["uri"] == "a.mp4"
    assert "hunter2" not in printed
    assert main(["config", "check", str(file), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_config_check_names_the_nearest_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped key exits with 2 and one sentence."""
    file = tmp_path / "s.toml"
    file.write_text("[detection]\nlatency_segmnts = 3\n")
    assert main(["config", "check", str(file)]) == 2
    assert capsys.readouterr().err == "streamav: unknown setting detection.latency_segmnts; the nearest is detection.latency_segments\n"


def chosen(**options: str) -> dict[str, object]:
    given = {"source": None, "camera": None, "mic": None, "mqtt": None} | options
    return settings_of(values={"source.id": None, "detection.latency_segments": None}, **given)


def test_options_become_settings() -> None:
    """Options become settings: an address, the scene, or camera and microphone, and a broker; options that were not given are left out."""
    assert chosen() == {}
    assert load_settings(options=chosen(source="scene"), environment={}).source.scene
    assert load_settings(options=chosen(source="a.mp4"), environment={}).source.uri == "a.mp4"
    pair = load_settings(options=chosen(camera="0", mic="default"), environment={}).source
    assert (pair.camera, pair.mic, pair.uri, pair.scene) == ("0", "default", None, False)
    mqtt = load_settings(options=chosen(mqtt="mqtt://me@host:1884/house"), environment={}).mqtt
    assert mqtt is not None
    assert (mqtt.host, mqtt.port, mqtt.username, mqtt.base) == ("host", 1884, "me", "house")


def test_subscribe_listens_where_it_was_told(tmp_path: Path) -> None:
    """The broker comes from file, environment, URL and --set, each overriding the ones before; the default is 127.0.0.1."""
    file = tmp_path / "s.toml"
    file.write_text('[mqtt]\nhost = "file"\nport = 8884\nbase = "house"\n[mqtt.tls]\nca = "ca.pem"\n')
    told = broker_of(None, file, [], {})
    assert (told.host, told.port, told.base, told.tls is not None) == ("file", 8884, "house", True)
    told = broker_of(None, file, [], {"STREAMAV_MQTT_HOST": "environment"})
    assert (told.host, told.port) == ("environment", 8884)
    told = broker_of("mqtt://url", file, ["mqtt.base=garden"], {"STREAMAV_MQTT_HOST": "environment"})
    assert (told.host, told.port, told.base, told.tls is not None) == ("url", 8884, "garden", True)
    told = broker_of(None, None, [], {})
    assert (told.host, told.port, told.base, told.tls) == ("127.0.0.1", 1883, "streamav", None)
    assert broker_of(None, None, ["mqtt.port=1999"], {}).port == 1999


def test_run_keeps_the_configured_broker_behind_a_bare_url(tmp_path: Path) -> None:
    """`--mqtt mqtt://host` changes only the host."""
    file = tmp_path / "s.toml"
    file.write_text('[mqtt]\nhost = "file"\nport = 8883\n[mqtt.tls]\nca = "ca.pem"\n')
    mqtt = load_settings(file, options=chosen(mqtt="mqtt://other"), environment={}).mqtt
    assert mqtt is not None
    assert (mqtt.host, mqtt.port, mqtt.tls is not None) == ("other", 8883, True)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--id", "front door"], "--id"),
        (["--id", "status"], "--id"),
        (["--http", "here"], "--http"),
        (["--camera-size", "large"], "--camera-size"),
        (["--camera-rate", "-4"], "--camera-rate"),
        (["--duration", "1e300"], "--duration"),
        (["--mqtt", "my broker"], "the host in the broker's URL"),
    ],
)
def test_an_error_names_the_option_that_was_written(arguments: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who wrote an option is told about this option, and not about the setting behind it."""
    assert main(["run", "--source", "scene", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"streamav: {option}")


def test_an_error_names_the_setting_where_no_option_was_written() -> None:
    """A value from --set, which overrides an option, or from the environment is named by its setting."""
    for given in ({"overrides": ["source.id=a b"], "options": {"source": {"id": "porch"}}}, {"environment": {"STREAMAV_SOURCE_ID": "a b"}}):
        with pytest.raises(SettingsError, match=r"^source\.id must be"):
            load_settings(**({"environment": {}} | given))


def test_every_option_that_an_error_names_is_one_of_run() -> None:
    """The list of options for errors has only options that exist, and only settings that exist."""
    listed = {name for parameter in loaded("run", COMMANDS["run"]).params for name in parameter.opts}
    assert set(OPTIONS.values()) <= listed
    assert {".".join(path) for path in OPTIONS} <= {".".join(path) for path in _paths(Settings)}


def test_a_source_that_failed_is_told_once() -> None:
    """That a source failed for good is left to the log or to the final error; that it is tried again is told here."""
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out, width=200), updates=False)
    sink.source_state("porch", SourceState.LOST, "a.mp4 is not a media file")
    assert out.getvalue() == ""
    sink.source_state("porch", SourceState.LOST, f"no more data{TRYING_AGAIN}")
    assert "porch: lost (no more data; trying again)" in out.getvalue()


def test_the_demonstration_passes_on_only_what_was_named() -> None:
    """Defaults of the demo do not override a model or speed from STREAMAV_* variables."""
    assert not {"--model", "--speed"} & set(run_options(60.0, None, None))
    assert run_options(60.0, "edge", "max")[-4:] == ["--model", "edge", "--speed", "max"]


@pytest.mark.parametrize("arguments", [["models", "list"], ["config", "check", "x.toml"], ["subscribe"], ["run", "--source", "scene"]])
def test_every_command_refuses_a_misspelt_variable(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command refuses a wrong STREAMAV_* variable, also a command without settings; `--help` still works."""
    monkeypatch.setenv("STREAMAV_HOM", "/elsewhere")
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        "streamav: unknown environment variable STREAMAV_HOM; the nearest is STREAMAV_HOME; correct or unset it\n"
    )
    assert main([arguments[0], "--help"]) == 0


@pytest.mark.parametrize("options", [{"source": "b.mp4"}, {"source": "scene"}, {"camera": "1", "mic": "2"}])
def test_an_option_replaces_the_source_of_the_file(tmp_path: Path, options: dict[str, str]) -> None:
    """A source option replaces the source of the file, whatever its kind."""
    file = tmp_path / "s.toml"
    for written in ('uri = "a.mp4"', 'camera = "0"\nmic = "default"', "scene = true"):
        file.write_text(f"[source]\n{written}\n")
        source = load_settings(file, options=chosen(**options), environment={}).source
        assert (source.uri, source.scene, source.camera, source.mic) == (
            None if options.get("source") in {None, "scene"} else "b.mp4",
            options.get("source") == "scene",
            options.get("camera"),
            options.get("mic"),
        )


def test_two_sources_at_once_are_refused() -> None:
    """A file and a camera on one command line are refused."""
    with pytest.raises(SettingsError, match="pictures must come from one place"):
        load_settings(options=chosen(source="a.mp4", camera="0"), environment={})


def test_every_command_that_is_there_can_be_loaded() -> None:
    """The command table names functions that the modules have."""
    import importlib

    for place in COMMANDS.values():
        if importlib.util.find_spec(place.module) is not None:
            assert hasattr(importlib.import_module(place.module), place.attribute), place


def test_devices_without_any_device_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without cameras is not an error; --json prints two lists."""
    import streamav.capture

    monkeypatch.setattr(streamav.capture, "list_cameras", list)
    monkeypatch.setattr(streamav.capture, "list_microphones", list)
    assert main(["devices"]) == 0
    assert "none found" in capsys.readouterr().out
    assert main(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"cameras": [], "microphones": [], "problem": None}


def seen(label: str, start_s: float, end_s: float | None, *, confirmed: bool = True) -> dict[str, object]:
    return {"label": label, "media_start_s": start_s, "media_end_s": end_s, "confirmed": confirmed}


def test_the_demonstration_compares_honestly() -> None:
    """An event is found by the same label and enough overlap; each event matches once, and the rest are false alarms."""
    truth = [("bark", 3.0, 9.0), ("siren", 20.0, 25.0), ("bark", 30.0, 35.0), ("bird", 40.0, 45.0)]
    events = [
        seen("bark", 2.0, 4.0),
        seen("bark", 4.0, 9.0),
        seen("siren", 25.0, 27.0),
        seen("bark", 31.0, 36.0, confirmed=False),
        seen("bark", 33.0, None),
        seen("bird", 0.0, 60.0),
    ]
    found, others = compare(truth, events)
    assert [one.seen_s for one in found] == [(4.0, 9.0), None, None, None]
    assert others == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[detection]\non = 0.3\noff = 0.6\n", "detection.off of"),
        ("[detection.classes.no_such_thing]\non = 0.5\n", "no such label"),
        (
            "[[sources]]\nid = 'a'\nuri = 'a.mp4'\n[[sources]]\nid = 'b'\nuri = 'b.mp4'\n[sources.detection.classes.barkk]\non = 0.5\n",
            "source b: ",
        ),
        ("[model]\nname = 'no-such-model'\n", "no-such-model"),
    ],
)
def test_config_check_refuses_what_a_run_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str) -> None:
    """Labels and thresholds are checked with the card of the model in the file, with the same message and status as in `run`."""
    file = tmp_path / "run.toml"
    file.write_text(text, encoding="utf-8")
    checked = main(["config", "check", "--quiet", str(file)])
    words = capsys.readouterr().err
    source = [] if "[[sources]]" in text else ["--source", "scene"]
    assert main(["run", "--config", str(file), *source]) == checked
    assert checked in {2, 4}
    assert told in words
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run", "--source", "scene"], ["subscribe"]])
def test_a_summary_that_cannot_be_written_is_refused_before_the_run(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing folder, or a folder in place of the file, ends with 2 at once: not after the whole run with a traceback."""
    for wrong in (tmp_path / "none" / "x.json", tmp_path):
        assert main([*command, "--summary", str(wrong)]) == 2
        told = capsys.readouterr().err
        assert f"--summary must be a file that can be written, got {wrong}" in told


def test_the_demonstration_ends_with_commands_for_this_machine() -> None:
    """The last lines name devices that are there, or a network camera where there are none; names with spaces are quoted."""
    with_devices = "\n".join(next_steps(".venv/bin/streamav", ["/dev/v4l/by-id/usb cam"], ["hw:0", "default"]))
    assert ".venv/bin/streamav run --camera '/dev/v4l/by-id/usb cam' --mic default --view" in with_devices
    without = "\n".join(next_steps("streamav", [], ["default"]))
    assert "no camera" in without
    assert "--camera" not in without
    assert "streamav run --source CLIP.mp4 --view" in without


def test_the_word_scene_means_the_scene_in_a_file_too(tmp_path: Path) -> None:
    """`uri = "scene"` in a configuration file is the embedded scene, as --source scene is."""
    file = tmp_path / "settings.toml"
    file.write_text('[[sources]]\nid = "a"\nuri = "scene"\n[[sources]]\nid = "b"\nuri = "./scene"\n', encoding="utf-8")
    first, second = load_settings(file, environment={}).each_source()
    assert (first.scene, first.uri) == (True, None)
    assert (second.scene, second.uri) == (False, "./scene")


def test_a_log_in_a_pipe_has_one_line_for_each_record(capsys: pytest.CaptureFixture[str]) -> None:
    """A long record is not broken at 80 columns, and its time has its zone."""
    set_up_logging(verbose=False)
    logging.getLogger("streamav.test").warning("%s", "long " * 60)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"\d\d:\d\d:\d\dZ WARNING  long long", line)


def test_a_run_tells_that_it_makes_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --verbose, a first start says what takes so long; other lines below WARNING stay away."""
    set_up_logging(verbose=False)
    logging.getLogger("streamav.engines.making").info("engine: building cpu-fp32")
    logging.getLogger("streamav.engines.selection").info("engine: cpu-fp32 runs")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("engine: building cpu-fp32")


def test_a_cluster_tells_where_its_sources_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --verbose the placement is told: it is the result that a person waits for."""
    set_up_logging(verbose=False)
    logging.getLogger("streamav.cluster.scheduler").info("sources placed worker=n1 count=2 sources=a, b")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("sources placed worker=n1 count=2 sources=a, b")


def test_what_make_run_needs_is_in_the_source_package() -> None:
    """The sdist holds every file that `make run`, `make test` and continuous integration use."""
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        included = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {".ci", "streamav", "engines", "examples", "tests", "docs", "scripts", "Makefile", "README.md", "LICENSE"} <= set(included)


@pytest.mark.parametrize(("events", "media_s", "told"), [(0, 30.0, True), (1, 30.0, False), (0, 4.0, False)])
def test_a_run_without_events_says_how_to_find_out_why(events: int, media_s: float, told: bool) -> None:
    """After a whole window without an event the summary names the two ways to see why; after an event, or too early, it does not."""
    summary = RunSummary(
        media_s=media_s,
        wall_s=1.0,
        events=events,
        retracted=0,
        dropped_segments=0,
        thinned_segments=0,
        latency_p50_s=None,
        latency_p95_s=None,
        latency_p99_s=None,
        realtime_factor=None,
        peak_memory_mb=1.0,
        sources=(),
    )
    console = Console(file=io.StringIO(), width=200)
    tell(console, summary, "engine")
    assert isinstance(console.file, io.StringIO)
    assert ("streamav explain" in console.file.getvalue()) is told


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["localize", ""], "localize"),
        (["run", "--source", "", "--speed", "max"], "--source"),
        (["ave", "check", ""], "check"),
        (["train", "--data=", "--out", "x"], "--data="),
        (["tune", "--model", "starter", "--quiet", ""], "--quiet"),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable of a script that is not set ends the command with 2; it does not search, read or write the folder it runs in."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"what follows {named} must not be empty" in said.err


def test_json_of_numbers_that_are_none_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    """NaN and infinity, as scores of a class without events are, become null: every reader of JSON takes the output."""
    print_json({"f1": float("nan"), "rows": [(1.0, float("-inf"))], "name": "a"})

    def refuse(constant: str) -> object:
        raise AssertionError(constant)

    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {"f1": None, "rows": [[1.0, None]], "name": "a"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "--data", "{dir}", "--out", "x"], 7, "labels.csv (own clips"),
        (["recordings", "{dir}"], 7, "got no such file"),
        (["extract", "--media", "{dir}/none", "--model", "starter", "--out", "x", "--json"], 7, "--media must be a folder"),
    ],
)
def test_a_folder_that_holds_nothing_is_told_with_what_it_must_hold(
    tmp_path: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong folder ends the command with a sentence, without an error number of the system, and nothing on standard output."""
    assert main([one.format(dir=tmp_path) for one in arguments]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert "Errno" not in said.err


def test_the_list_of_labels_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """At 80 columns no line is wider, no label is cut, and the columns that are left out are named; in a pipe every column is there."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich takes the output for a terminal
    assert main(["labels", "list", "--model", "starter"]) == 0
    said = capsys.readouterr()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.out).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in said.out
    assert sum("saxophone" in line for line in lines) == 1
    assert "hear and see" in said.err
    monkeypatch.delenv("TTY_COMPATIBLE")
    assert main(["labels", "list", "--model", "starter"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split("\t")[-2:] == ["hear", "see"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "\u2014source", "clip.mp4"], "\u2014source begins with a long dash, as web pages write it; write --source"),
        (["run", "\u2013-source", "clip.mp4"], "write --source"),
        (["run", "clip.mp4"], "streamav run --source clip.mp4"),
        (["doctor", "rtsp://192.0.2.10/stream"], "streamav doctor --source rtsp://192.0.2.10/stream"),
        (["clip.mp4"], "For the events of a file write: streamav run --source clip.mp4"),
        (["runn"], "Did you mean 'run'?"),
        (["run", "--source", "clip.mp4", "--jsonl", "no/such/folder.jsonl"], "its folder no/such does not exist; make it first"),
    ],
)
def test_usual_slips_are_told_with_what_to_write(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Long dashes of web pages, a file without --source and a missing folder end with 2 and the right words."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in " ".join(said.err.split())


@pytest.mark.parametrize(
    "arguments", [["help"], ["-h"], ["help", "models", "pull"], ["run", "-h"], ["models", "-h"], ["models", "pull", "-h"]]
)
def test_help_is_found(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`help`, `help COMMAND` and -h show what --help shows."""
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert main([one for one in arguments if one not in {"help", "-h"}] + ["--help"]) == 0
    assert said == capsys.readouterr().out
    assert "-h, --help" in said


def test_a_full_disk_is_no_bug(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for a result ends the command with 2 and the file's own name, not with a traceback and that of a temporary file."""

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    folder = tmp_path / "own"
    folder.mkdir()

    def work() -> None:
        write_whole(folder / "report.html", "text")

    monkeypatch.setattr("streamav.cli.devices.devices", work)
    assert main(["devices"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"there must be room at {folder / 'report.html'}, but the disk is full: make room" in said
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_summary_that_does_not_fit_is_told(capsys: pytest.CaptureFixture[str], tiny_bundle: Path) -> None:
    """A run whose summary cannot be written says so at its end, with status 2."""
    run = ["run", "--source", "scene", "--duration", "2", "--speed", "max", "--model", str(tiny_bundle), "--engine", "torch"]
    assert main([*run, "--summary", "/dev/full"]) == 2
    assert "there must be room at /dev/full, but the disk is full" in " ".join(capsys.readouterr().err.split())
