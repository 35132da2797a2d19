"""Tests of the log: its forms, its fields, its secrets, and the file that keeps its newest lines."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from rigs.published_events import story

from streamav.cli.console import set_up_logging
from streamav.cli.logs import JournalFormatter, JsonFormatter, LogSink, chosen_form
from streamav.support.kept_log import KEPT_NAME, KeptLog
from streamav.types import SourceState

SECRET = "hunter2hunter2"  # noqa: S105 - of tests alone


def record(message: str, *values: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("streamav.capture", level, "file.py", 1, message, values, None)


def test_a_line_of_json_has_the_values_that_the_message_names() -> None:
    """A JSON line holds the sentence and, as fields of their own kind, what the message names as key=value."""
    made = record("broker lost broker=%s messages=%d share=%.2f%% known=%s reason=%s", "home:1883", 7, 0.125, None, "gone")
    found = json.loads(JsonFormatter().format(made))
    assert found["message"] == "broker lost broker=home:1883 messages=7 share=0.12% known=None reason=gone"
    assert (found["level"], found["logger"]) == ("warning", "streamav.capture")
    assert {key: found[key] for key in ("broker", "messages", "share", "known", "reason")} == {
        "broker": "home:1883", "messages": 7, "share": 0.125, "known": None, "reason": "gone",
    }  # fmt: skip
    assert found["time"].endswith("Z")


def test_a_value_cannot_replace_the_time_or_the_level() -> None:
    """Fields of the line itself cannot be overwritten by what a message names, and a number that JSON lacks is null."""
    found = json.loads(JsonFormatter().format(record("odd level=%s time=%s rate=%s", "low", 3, float("nan"))))
    assert (found["level"], found["rate"]) == ("warning", None)
    assert found["time"] != 3


def test_no_form_of_a_line_shows_a_secret() -> None:
    """Addresses lose their passwords in the message, in the fields and in the traceback."""
    made = record("source failed uri=%s", f"rtsp://admin:{SECRET}@cam/live")
    try:
        raise OSError(f"cannot open rtsp://admin:{SECRET}@cam/live")  # noqa: EM102, TRY003, TRY301
    except OSError:
        made.exc_info = sys.exc_info()
    for formatter in (JsonFormatter(), JournalFormatter("%(message)s")):
        line = formatter.format(made)
        assert SECRET not in line.replace("SECRET", "")
        assert "OSError" in line


def test_the_journal_gets_priorities_and_no_times() -> None:
    """Each line for systemd's journal, also of a traceback, begins with its priority (sd-daemon(3))."""
    formatter = JournalFormatter("%(message)s")
    assert formatter.format(record("one\ntwo")) == "<4>one\n<4>two"
    assert formatter.format(record("bad", level=logging.ERROR)) == "<3>bad"
    assert formatter.format(record("fine", level=logging.INFO)) == "<6>fine"


def test_the_journal_is_recognised_by_its_stream(tmp_path: Path) -> None:
    """Under systemd the log is in the journal's form, but only where standard error really goes to the journal."""
    with (tmp_path / "stream").open("w", encoding="ascii") as stream:
        status = os.fstat(stream.fileno())
        assert chosen_form("auto", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, stream) == "journal"
        assert chosen_form("auto", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}, stream) == "text"
        assert chosen_form("json", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, stream) == "json"
    assert chosen_form("auto", {"JOURNAL_STREAM": "1:2"}, io.StringIO()) == "text"


def test_everything_on_standard_error_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --log-format json, what the command prints, what it logs, and its events and states are lines of JSON."""
    console = set_up_logging(verbose=False, form="json")
    console.print(f"ready: model [bold]x[/] at rtsp://a:{SECRET}@cam/1, " + "long " * 200)
    logging.getLogger("streamav.publish").warning("broker lost broker=%s", "home")
    sink = LogSink(updates=False)
    for event in story(1, updates=2):
        sink.event(event, 0.25)
    sink.source_state("porch", SourceState.LOST, "no answer")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["logger"] for line in lines[:2]] == ["streamav.run", "streamav.publish"]
    assert SECRET not in json.dumps(lines)
    events = [line for line in lines if "event" in line]
    assert [line["type"] for line in events] == ["new", "end"]
    assert (events[0]["source"], events[0]["label"], events[0]["latency_s"]) == ("porch", "bark", 0.25)
    assert lines[-1]["state"] == "lost"


def test_the_kept_log_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest lines from INFO on are kept without secrets, in at most two private files of bounded size."""
    monkeypatch.setattr("streamav.support.kept_log._KEPT_BYTES", 10_000)
    set_up_logging(verbose=False)
    with KeptLog(tmp_path / "state"):
        for number in range(500):
            logging.getLogger("streamav.capture").info("line=%d uri=%s", number, f"rtsp://a:{SECRET}@cam/1")
    files = sorted((tmp_path / "state").iterdir())
    assert [path.name for path in files] == [KEPT_NAME, f"{KEPT_NAME}.1"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert sum(path.stat().st_size for path in files) < 20_500
    text = files[0].read_text(encoding="utf-8")
    assert "line=499" in text
    assert SECRET not in text


def test_without_room_for_a_log_the_run_goes_on(tmp_path: Path) -> None:
    """Where the folder cannot be made, nothing is kept and nothing fails."""
    (tmp_path / "file").write_text("", encoding="ascii")
    with KeptLog(tmp_path / "file" / "state"):
        logging.getLogger("streamav").warning("still here")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_kept_is_not_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The kept log holds lines of INFO that the terminal does not show."""
    set_up_logging(verbose=False)
    with KeptLog(tmp_path):
        logging.getLogger("streamav.capture").info("detail")
        logging.getLogger("streamav.capture").warning("trouble")
    assert "detail" not in capsys.readouterr().err
    assert "detail" in (tmp_path / KEPT_NAME).read_text(encoding="utf-8")
