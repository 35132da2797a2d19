"""Tests `streamav localize` on real files with the tiny model."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path

import pytest
from rigs.media_clips import write_clip

from streamav.cli import main
from streamav.cli.span_formats import FORMATS, FoundEvent
from streamav.evaluation.recordings import read_labels

EVENTS = [
    FoundEvent(
        file="yard 1.mp4", label="bark", label_name="Bark <dog> & co", onset_s=3.0, offset_s=3_661.0, score=0.91, peak=None, box=None
    ),
    FoundEvent(file="yard 1.mp4", label="bird", label_name="Bird", onset_s=1.0, offset_s=2.0, score=0.5, peak=(0.5, 0.5), box=None),
]


def lines_of(text: str) -> list[str]:
    return text.strip().splitlines()


def test_a_folder_gives_the_events_of_its_files(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON holds every file with its length and events; a file that cannot be read is named and the status is 3, the rest is there."""
    write_clip(tmp_path / "a.mp4", 12.0, 200)
    write_clip(tmp_path / "b.mp4", 3.0, 90)
    (tmp_path / "c.mp4").write_bytes(b"no media")
    assert main(["localize", str(tmp_path), "--model", str(tiny_bundle), "--engine", "torch", "--json"]) == 3
    said = capsys.readouterr()
    tree = json.loads(said.out)
    assert [(Path(one["file"]).name, one["seconds"], one["error"] is None) for one in tree["files"]] == [
        ("a.mp4", 12.0, True),
        ("b.mp4", 3.0, True),
        ("c.mp4", 0.0, False),
    ]
    assert "c.mp4 is not a media file" in said.err
    assert tree["events"]
    assert all(0.0 <= event["onset_s"] < event["offset_s"] <= 12.0 for event in tree["events"])
    assert sum(one["events"] for one in tree["files"]) == len(tree["events"])


def test_subtitles_are_written_beside_each_other(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --out every recording gets its own file; recordings of the same name do not overwrite each other."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_clip(tmp_path / folder / "a.mp4", 11.0, 200)
    out = tmp_path / "out"
    assert main(["localize", str(tmp_path), "--model", str(tiny_bundle), "--engine", "torch", "--vtt", "--out", str(out)]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["a-2.vtt", "a.vtt"]
    assert (out / "a.vtt").read_text().startswith("WEBVTT\n\n00:00:0")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{dir}"], "at least one recording"),
        (["rtsp://192.0.2.1/x"], "run --source"),
        (["{dir}", "--json", "--csv"], "at most one format"),
        (["{dir}", "--out", "{dir}"], "needs the format"),
    ],
)
def test_wrong_calls_say_what_to_do(tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No recording, a network stream, two formats or a folder without a format are refused with the remedy."""
    assert main(["localize", *(one.format(dir=tmp_path) for one in arguments)]) in {2, 7}
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "address", ["rtsp:/admin:Xq7zWv@cam/x", "admin:Xq7zWv@cam/live", "http://cam/Xq7zWv/index.m3u8", "rtsp%3A%2F%2Fa%3AXq7zWv%40cam"]
)
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_what_is_no_file_is_told_without_its_password(address: str, form: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An address that was given for a file, also a misspelled one, is refused without its secret."""
    assert main(["localize", address, "--model", "starter", *form]) != 0
    said = capsys.readouterr()
    assert "Xq7zWv" not in said.out + said.err
    assert said.err


def test_the_table_is_read_as_labels(tmp_path: Path) -> None:
    """The CSV table has the columns of labels.csv: `streamav recordings` reads it."""
    text = FORMATS["csv"](EVENTS)
    assert [row["score"] for row in csv.DictReader(io.StringIO(text))] == ["0.9100", "0.5000"]
    (tmp_path / "labels.csv").write_text(text)
    spans = read_labels(tmp_path / "labels.csv")["yard 1.mp4"]
    assert [(span.label, span.onset_s, span.offset_s) for span in spans] == [("bark", 3.0, 3_661.0), ("bird", 1.0, 2.0)]


def test_subtitles_are_sorted_and_escaped() -> None:
    """WebVTT: hours, minutes, seconds with milliseconds; cues in order of time; no markup in a label."""
    assert FORMATS["vtt"](EVENTS) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nBird (0.50)\n\n00:00:03.000 --> 01:01:01.000\nBark &lt;dog&gt; &amp; co (0.91)\n"
    )


def test_labels_and_marks_have_their_columns() -> None:
    """Audacity reads begin, end and text; RTTM has ten fields, and no name with white space."""
    assert lines_of(FORMATS["audacity"](EVENTS))[1] == "1.000000\t2.000000\tBird"
    (first, second) = lines_of(FORMATS["rttm"](EVENTS))
    assert first == "SPEAKER yard_1.mp4 1 3.000 3658.000 <NA> <NA> bark 0.9100 <NA>"
    assert len(second.split(" ")) == 10


def test_the_default_model_is_that_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --model the model is chosen as in `streamav run`, and the JSON names it."""
    write_clip(tmp_path / "a.mp4", 3.0, 90)
    assert main(["localize", str(tmp_path / "a.mp4"), "--engine", "torch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] in {"starter", "edge"}


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"], ["--csv", "--out", "{dir}/out"]])
def test_a_name_of_any_bytes_is_shown_on_one_line(
    tmp_path: Path, tiny_bundle: Path, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A file name may hold commands of the terminal, line breaks and bytes that are not UTF-8; the table shows them as escapes."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/a\n\x1b[31m\xff.mp4")
    write_clip(tmp_path / "a.mp4", 11.0, 200)
    os.rename(tmp_path / "a.mp4", name)  # noqa: PTH104 - the name is no text
    arguments = [one.format(dir=tmp_path) for one in form]
    assert main(["localize", name, "--model", str(tiny_bundle), "--engine", "torch", *arguments]) == 0
    said = capsys.readouterr()
    assert "\x1b[31m" not in said.err
    for written in (tmp_path / "out").glob("*.csv"):
        assert "\\udcff.mp4" in written.read_bytes().decode()
    if not form:
        assert "\x1b" not in said.out
        assert r"a\n\x1b[31m\udcff.mp4" in said.out


def test_an_error_about_a_name_of_any_bytes_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message never passes a file name's commands on to the terminal."""
    (tmp_path / "a\n\x1b[31m.mp4").write_bytes(b"no media")
    assert main(["localize", str(tmp_path / "a\n\x1b[31m.mp4"), "--model", "starter"]) == 3
    assert r"a\n\x1b[31m.mp4 is not a media file" in capsys.readouterr().err


def test_a_name_that_begins_with_a_dash_follows_two_dashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two dashes end the options of every command."""
    monkeypatch.chdir(tmp_path)
    Path("-dash.mp4").write_bytes(b"no media")
    assert main(["localize", "--model", "starter", "--", "-dash.mp4"]) == 3
    assert "-dash.mp4 is not a media file" in capsys.readouterr().err


def test_a_path_that_is_too_long_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A path that the system refuses ends no command with a traceback."""
    assert main(["localize", f"{'n' * 300}.mp4", "--model", "starter"]) == 2
    assert "a path must be no longer" in capsys.readouterr().err


def test_files_that_all_fail_print_no_table(tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where nothing could be read, standard output is empty in every form but JSON, which names the error; standard error has one line."""
    (tmp_path / "a.mp4").write_bytes(b"no media")
    run = ["localize", str(tmp_path / "a.mp4"), "--model", str(tiny_bundle), "--engine", "torch"]
    assert main(run) == 3
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert main([*run, "--json"]) == 3
    assert "is not a media file" in json.loads(capfd.readouterr().out)["files"][0]["error"]


def test_a_pipe_without_a_writer_is_told(
    tmp_path: Path, tiny_bundle: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A named pipe says that it waits for a program, and is read when the program writes; standard input is told by this name."""
    pipe = tmp_path / "pipe.ts"
    os.mkfifo(pipe)

    writer = threading.Thread(target=pipe.write_bytes, args=[b"no media"], daemon=True)  # waits for the reader
    writer.start()
    assert main(["localize", str(pipe), "--model", str(tiny_bundle), "--engine", "torch"]) == 3
    writer.join(10.0)
    assert "it is read as soon as a program writes to it" in caplog.text
    assert "pipe.ts is not a media file" in capsys.readouterr().err
