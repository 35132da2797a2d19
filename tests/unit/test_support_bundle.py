"""Tests of the support bundle: what is in it, and that secrets planted everywhere are not."""

from __future__ import annotations

import json
import sqlite3
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.published_events import MODEL, make_event

from streamav.cli import main
from streamav.config import ADDRESS_SETTINGS, SourceSettings
from streamav.config_loading import load_settings
from streamav.journal import History, journal_path
from streamav.publish.message import describe
from streamav.support.bundle import PARTS
from streamav.support.scrub import Scrubber, known_secrets

SECRETS = {
    "uri user": "Xq7zWvAlpha", "uri password": "Bz9%kTbeta", "uri path": "Tok3nGamma77", "uri query": "PwDelta88x",
    "mqtt password": 'quo"te\\Epsilon5',
    "mqtt file": "FileZeta66q", "view token": "Vi3wEtaTokenLong", "http file": "HttpThetaTokenLong", "variable": "EnvIota55zz",
}  # fmt: skip


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_no_secret_planted_anywhere_is_in_the_bundle(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in addresses, settings, files, variables, logs, events and the journal are in no file of the bundle, in no form."""
    state = tmp_path / "state"
    (tmp_path / "mqtt").write_text(SECRETS["mqtt file"] + "\n", encoding="utf-8")
    (tmp_path / "http").write_text(SECRETS["http file"], encoding="utf-8")
    uri = f"rtsp://{SECRETS['uri user']}:{SECRETS['uri password']}@127.0.0.1:1/{SECRETS['uri path']}/live?pwd={SECRETS['uri query']}"
    config = tmp_path / "run.toml"
    config.write_text(
        f"state_dir = '{state}'\n[[sources]]\nid = 'porch'\nuri = '{uri}'\n[model]\nname = '{tiny_bundle}'\n"
        "[mqtt]\nhost = '127.0.0.1'\nport = 1\n"
        f"password_file = '{tmp_path}/mqtt'\n[http]\ntoken_file = '{tmp_path}/http'\n[capture]\nreconnect = false\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("STREAMAV_VIEW_TOKEN", SECRETS["view token"])
    monkeypatch.setenv("MY_CAMERA_PASSWORD", SECRETS["variable"])
    everything = " ".join(SECRETS.values()) + f" {uri} in the middle"
    (state / "mqtt").mkdir(parents=True)
    (state / "streamav.log").write_text(f"12:00 WARNING reason={everything}\n", encoding="utf-8")
    (state / f"left-{SECRETS['uri path']}").write_text("x", encoding="utf-8")
    (tmp_path / "own.log").write_text(f"{uri}\n{everything}\n", encoding="utf-8")
    event = replace(make_event(1), label_name=f"Bark {SECRETS['uri path']}", epoch_ns=time.time_ns() - 60_000_000_000)
    with History.writing(journal_path(state)) as history:
        history.write([describe(event, MODEL, 0.1)], [])
    out = tmp_path / "out.zip"
    assert main(["support-bundle", str(out), "--config", str(config), "--log", str(tmp_path / "own.log")]) == 0
    found = contents(out)
    assert set(found) == {*PARTS, "README.txt", "logs/streamav.log", "logs/1-own.log"} - {"logs/"}
    known = {name: secret for name, secret in SECRETS.items() if name != "mqtt password"}
    assert {(where, name) for where, text in found.items() for name, secret in known.items() if secret in text} == set()
    assert out.stat().st_mode & 0o777 == 0o600
    assert json.loads(found["settings.json"])["sources"][0]["uri"].startswith("rtsp://...@127.0.0.1:1/")
    assert json.loads(found["model.json"])["card"]["name"]
    assert json.loads(found["events.json"])[0]["label"] == "bark"
    assert "port" in json.dumps(json.loads(found["doctor.json"])["findings"])


def test_secrets_of_every_source_are_known(tmp_path: Path, tiny_bundle: Path) -> None:
    """Addresses of sound, user names with passwords, and files of passwords of each of several sources are hidden, also in logs."""
    sound, password, in_file = "Tok3nSoundKappa9", "SourcePwLambda7", "FilePwMuMu55"
    (tmp_path / "pw").write_text(f"{in_file}\nsecond line\n", encoding="utf-8")
    config = tmp_path / "run.toml"
    config.write_text(
        f"state_dir = '{tmp_path}/state'\n[model]\nname = '{tiny_bundle}'\n"
        f"[[sources]]\nid = 'porch'\nuri = 'rtsp://cam/live'\nsound_uri = 'http://cam/{sound}/audio.aac'\n"
        f"user = 'me'\npassword = '{password}'\n"
        f"[[sources]]\nid = 'gate'\nuri = 'rtsp://gate/live'\nuser = 'me'\npassword_file = '{tmp_path}/pw'\n",
        encoding="utf-8",
    )
    (tmp_path / "own.log").write_text(f"tried {password} and then {in_file}, sound from {sound}\n", encoding="utf-8")
    out = tmp_path / "out.zip"
    assert main(["support-bundle", str(out), "--no-doctor", "--config", str(config), "--log", str(tmp_path / "own.log")]) == 0
    found = contents(out)
    assert {(where, word) for where, text in found.items() for word in (sound, password, in_file) if word in text} == set()
    assert json.loads(found["settings.json"])["sources"][0]["sound_uri"].startswith("http://cam/")


def test_every_setting_that_may_be_an_address_is_known_as_one() -> None:
    """A new setting of a source that takes any text is either an address, and is hidden as one, or stands here with a reason."""
    texts = {name for name, field in SourceSettings.model_fields.items() if field.annotation == (str | None) and not field.metadata}
    assert texts - set(ADDRESS_SETTINGS) == {"user"}  # shown: without its password it opens nothing


def test_a_board_without_a_clock_writes_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its clock is set, a board shows 1970, which no ZIP file knows."""
    monkeypatch.setattr("streamav.support.bundle.time.gmtime", lambda: time.struct_time((1970, 1, 1, 0, 1, 0, 3, 1, 0)))
    monkeypatch.setattr("zipfile.time.localtime", lambda *_: time.struct_time((1970, 1, 1, 0, 1, 0, 3, 1, 0)))
    assert main(["support-bundle", str(tmp_path / "out.zip"), "--no-doctor", "--set", f"state_dir={tmp_path}"]) == 0
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_DEFLATED}


def test_a_bundle_is_made_where_everything_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a model, with a damaged journal and an unreadable folder, the bundle says what could not be made, and why."""
    journal_path(tmp_path).write_bytes(b"no database" * 1000)
    arguments = ["--no-doctor", "--set", f"state_dir={tmp_path}", "--set", "model.name=nothing"]
    assert main(["support-bundle", str(tmp_path / "out.zip"), *arguments]) == 0
    found = contents(tmp_path / "out.zip")
    assert "could_not_be_made" in json.loads(found["model.json"])
    assert sqlite3.DatabaseError.__name__ in json.loads(found["events.json"])["could_not_be_made"]
    assert json.loads(found["about.json"])["packages"]["numpy"]
    assert "look through it" in capsys.readouterr().out


def test_a_bundle_replaces_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that exists, a folder that does not, and a log that cannot be read are each one sentence, and nothing is written."""
    (tmp_path / "old.zip").write_bytes(b"old")
    assert main(["support-bundle", str(tmp_path / "old.zip"), "--no-doctor"]) == 2
    assert main(["support-bundle", str(tmp_path / "none" / "new.zip"), "--no-doctor"]) == 2
    assert main(["support-bundle", str(tmp_path / "new.zip"), "--no-doctor", "--log", str(tmp_path / "none.log")]) == 2
    said = capsys.readouterr().err
    assert all(words in said for words in ("delete it", "does not exist", "--log"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.zip"]
    assert (tmp_path / "old.zip").read_bytes() == b"old"


@given(st.text(min_size=4, max_size=30), st.text(max_size=20), st.text(max_size=20))
def test_a_known_secret_is_removed_from_any_text(secret: str, before: str, after: str) -> None:
    """Whatever a secret consists of, it is in no text or JSON value afterwards; texts of JSON stay JSON."""
    scrubber = Scrubber([secret])
    hidden = scrubber.text(f"{before}{secret}{after}")
    assert secret not in hidden or not secret.strip(".")
    value = scrubber.value({"a": [f"x{secret}"], f"{secret}": 1})
    assert secret not in value["a"][0] or not secret.strip("x.")


def test_the_password_of_the_settings_is_known() -> None:
    """A password with quotes and backslashes is known, and is removed before JSON escapes it."""
    settings = load_settings(environment={"STREAMAV_MQTT_HOST": "home", "STREAMAV_MQTT_PASSWORD": SECRETS["mqtt password"]})
    known = known_secrets(settings, {})
    assert known == {SECRETS["mqtt password"]}
    assert "Epsilon5" not in json.dumps(Scrubber(known).value({"reason": f"bad {SECRETS['mqtt password']}"}))
