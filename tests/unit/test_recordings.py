"""Tests of the labels of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from rigs.media_clips import write_clip

from streamav.cli import main
from streamav.errors import DataError
from streamav.evaluation.recordings import Span, labels_of, read_labels, read_off_screen

HEADER = "file,class_slug,onset_s,offset_s\n"


def test_seconds_go_to_the_surest_span_that_covers_half() -> None:
    """A segment gets the label of a span that covers at least half of it, of the higher score if two do, else background."""
    spans = [Span("bark", 0.4, 2.0, 0.6), Span("cat", 1.0, 3.4, 0.9)]

    assert labels_of(spans, 5) == ["bark", "cat", "cat", None, None]


def test_rows_without_times_name_a_file_without_events(tmp_path: Path) -> None:
    """A recording without events is part of the table, so its false alarms count."""
    (tmp_path / "labels.csv").write_text(HEADER + "a.mp4,bark,1,3\na.mp4,bark,4,6\nb.mp4,none,,\n")

    assert read_labels(tmp_path / "labels.csv") == {"a.mp4": [Span("bark", 1.0, 3.0), Span("bark", 4.0, 6.0)], "b.mp4": []}


def test_the_table_of_a_training_is_read_as_it_is(tmp_path: Path) -> None:
    """The column may be called label, as for `streamav train`; a label "somewhere" has no seconds to count and is refused, not lost."""
    (tmp_path / "labels.csv").write_text("file,label,onset_s,offset_s\na.mp4,bark,1,3\nb.mp4,none,,\nc.mp4,background,,\n")
    assert read_labels(tmp_path / "labels.csv") == {"a.mp4": [Span("bark", 1.0, 3.0)], "b.mp4": [], "c.mp4": []}
    (tmp_path / "labels.csv").write_text("file,label,onset_s,offset_s\na.mp4,bark,,\n")
    with pytest.raises(DataError, match="line 2: 'bark' must have times"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,class_slug\n", "must have the columns"),
        (HEADER + "a.mp4,bark,one,3\n", "line 2: onset_s and offset_s must be numbers"),
        (HEADER + "a.mp4,bark,3,3\n", "line 2: 0 <= onset_s < offset_s"),
        (HEADER + "a.mp4,bark,nan,3\n", "line 2: 0 <= onset_s < offset_s"),
        (HEADER, "must have a row for each recording, got none"),
        ("", "must have the columns"),
        (HEADER + ",bark,1,3\n", "line 2: the column file must name a recording"),
        (HEADER + "a.mp4,bark,1,3\n\n,bark,1,2\n", "line 4: the column file must name a recording"),
    ],
)
def test_wrong_tables_are_refused_with_their_line(tmp_path: Path, text: str, says: str) -> None:
    """The error for a wrong table names the file, the line and what must be."""
    (tmp_path / "labels.csv").write_text(text)

    with pytest.raises(DataError, match=says):
        read_labels(tmp_path / "labels.csv")


def test_a_missing_table_is_one_clear_error(tmp_path: Path) -> None:
    """A missing table is refused before any run."""
    with pytest.raises(DataError, match="must be a table"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("", "must have a row for each recording, got none"),
        ("a.mp4,none,,\nb.mp4,bark,0,1\n", "2 are missing: a.mp4, b.mp4"),
        ("short.mp4,none,,\n", "must last a segment of one second"),
    ],
)
def test_a_table_that_gives_no_second_ends_the_command_with_7(
    rows: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table without rows, with missing files or with too short recordings gives one clear error and no output."""
    write_clip(tmp_path / "short.mp4", 0.2, 100)
    (tmp_path / "labels.csv").write_text(HEADER + rows)
    assert main(["recordings", str(tmp_path), "--engine", "torch"]) == 7
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""


def test_notes_tell_which_recordings_have_a_sound_off_screen(tmp_path: Path) -> None:
    """A note with off-screen, voice-over or narrator marks its recording; the column may be missing."""
    rows = 'a.mp4,none,,,"sure; voices off-screen"\nb.mp4,none,,,a quiet room\nc.mp4,none,,,Narrator over a hangar\n'
    (tmp_path / "labels.csv").write_text(HEADER.strip() + ",notes\n" + rows)
    assert read_off_screen(tmp_path / "labels.csv") == {"a.mp4", "c.mp4"}
    (tmp_path / "labels.csv").write_text(HEADER + "a.mp4,none,,\n")
    assert read_off_screen(tmp_path / "labels.csv") == set()


@pytest.mark.parametrize("latency", ["0", "11", "2,", "two", "1;2"])
def test_a_wrong_latency_is_refused_before_anything_runs(latency: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names what a latency may be; the folder is not looked at."""
    assert main(["recordings", str(tmp_path / "missing"), "--latency", latency]) == 2
    assert "--latency must be numbers from 1 to 10" in capsys.readouterr().err
