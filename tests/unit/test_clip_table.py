"""Tests of a user's table of clips: every mistake is reported with file and row, and every segment has one label."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.errors import DataError
from streamav.training.clips.rows import events_beyond
from streamav.training.clips.table import Clip, ClipEvent, ClipTable, read_clip_table, segment_labels

HEADER = "file,label,onset_s,offset_s,split,group"


def read(folder: Path, *rows: str, header: str = HEADER) -> ClipTable:
    """Write a table whose files all exist, and read it."""
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4", "c.mp4", "sub/d.mkv"):
        (folder / name).touch()
    commas = header.count(",")
    lines = [row + "," * max(0, commas - row.count(",")) for row in rows]
    (folder / "labels.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return read_clip_table(folder / "labels.csv", folder)


def test_a_table_gives_clips_classes_splits_and_groups(tmp_path: Path) -> None:
    """Files keep their order, classes are sorted, a file without a group is its own group, a file with `none` only has no events."""
    table = read(
        tmp_path,
        "sub/d.mkv,kettle_whistle,0.5,3,train,kitchen",
        "a.mp4,door_bell,2,4,val",
        "a.mp4,background,4,9,val",
        "b.mp4,none,,,test",
        "sub/d.mkv,door_bell,7,9,,",
    )
    assert [clip.file for clip in table.clips] == ["sub/d.mkv", "a.mp4", "b.mp4"]
    assert table.labels == ("door_bell", "kettle_whistle")
    assert [clip.split for clip in table.clips] == ["train", "val", "test"]
    assert [clip.group for clip in table.clips] == ["kitchen", "a.mp4", "b.mp4"]
    assert table.clips[2].events == []


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("x.mp4,bark,0,1", r"row 2: file x\.mp4 must be in"),
        ("a.mp4,bark,3,3", r"row 2: a\.mp4: 0 <= onset_s < offset_s must hold, got 3 and 3"),
        ("a.mp4,bark,-1,3", r"row 2: a\.mp4: 0 <= onset_s"),
        ("a.mp4,bark,nan,3", r"row 2: a\.mp4: 0 <= onset_s"),
        ("a.mp4,bark,0,inf", r"row 2: a\.mp4: 0 <= onset_s"),
        ("a.mp4,bark,1,", r"row 2: onset_s and offset_s of a\.mp4 must be numbers"),
        ("a.mp4,Dog Bark,0,1", r"row 2: label of a\.mp4 must be small letters.*write dog_bark"),
        ("a.mp4,Café,0,1", r"row 2: label of a\.mp4 must be small letters.*got 'Café'; write cafe"),
        ("a.mp4,犬,0,1", r"row 2: label of a\.mp4 must be small letters.*'犬' must be in letters a to z"),
        ("a.mp4,dog__bark,0,1", r"write dog_bark"),
        ("a.mp4,=cmd(),0,1", r"row 2: label of a\.mp4"),
        ("a.mp4,,0,1", r"row 2: label of a\.mp4"),
        ("a.mp4,bark,0,1,training", r"row 2: split of a\.mp4 must be train, val, test"),
        ("../a.mp4,bark,0,1", "row 2: file must be a path below"),
        ("sub/../a.mp4,bark,0,1", "row 2: file must be a path below"),
        ("/etc/passwd,bark,0,1", "row 2: file must be a path below"),
        ("~/a.mp4,bark,0,1", "row 2: file must be a path below"),
        ("=HYPERLINK(1),bark,0,1", "row 2: file must be a path below"),
        ("lavfi:testsrc,bark,0,1", "row 2: file must be a path below"),
        ("http://host/a.mp4,bark,0,1", "row 2: file must be a path below"),
        ("..\\a.mp4,bark,0,1", "row 2: file must be a path below"),
        ("C:\\clips\\a.mp4,bark,0,1", "row 2: file must be a path below"),
        (",bark,0,1", "row 2: file must be a path below"),
    ],
)
def test_a_wrong_row_is_told_with_its_file_and_number(tmp_path: Path, row: str, told: str) -> None:
    """Missing files, wrong times, labels that are no slugs, unknown splits and hostile names are refused."""
    with pytest.raises(DataError, match=told):
        read(tmp_path, row, "b.mp4,bark,0,1")


def test_all_wrong_rows_are_told_at_once(tmp_path: Path) -> None:
    """One error names all wrong rows, so that a user can correct the table in one pass."""
    with pytest.raises(DataError) as caught:
        read(tmp_path, "x.mp4,bark,0,1", "a.mp4,bark,5,1", "b.mp4,bark,0,1")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == ["row 2", "row 3"]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("file,label,onset,offset_s", "unknown column 'onset'; the nearest is onset_s"),
        ("file,label,onset_s", "must have the columns"),
        ("file,label,class_slug,onset_s,offset_s", "once each"),
    ],
)
def test_a_wrong_header_is_told(tmp_path: Path, header: str, told: str) -> None:
    """The error names unknown, missing and repeated columns."""
    with pytest.raises(DataError, match=f"row 1: .*{told}"):
        read(tmp_path, "a.mp4,bark,0,1", header=header)


def test_the_table_of_recordings_is_read_too(tmp_path: Path) -> None:
    """A table for `streamav recordings` (class_slug, columns for people) can be read, also with a byte order mark."""
    (tmp_path / "a.mp4").touch()
    text = '\ufefffile,class_slug,ave_class,onset_s,offset_s,labelled_by,notes\na.mp4,bark,Bark,1,3,me,"loud, near"\n'
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert read_clip_table(tmp_path / "labels.csv", tmp_path).labels == ("bark",)


def test_two_labels_at_one_time_are_refused_and_half_a_second_is_not(tmp_path: Path) -> None:
    """An overlap of two classes above half a second is refused and both rows are named; a row with `none` contradicts an event too."""
    with pytest.raises(DataError, match=r"row 3: a\.mp4 has two labels at one time, meow here and bark in row 2, for 0\.6 s from 2\.4 s"):
        read(tmp_path, "a.mp4,bark,0,3", "a.mp4,meow,2.4,5")
    with pytest.raises(DataError, match=r"row 3: .* none here and bark in row 2"):
        read(tmp_path, "a.mp4,bark,0,3", "a.mp4,none,,")
    read(tmp_path, "a.mp4,bark,0,3", "a.mp4,meow,2.5,5", "a.mp4,bark,1,2")


def test_a_recording_is_never_in_two_splits(tmp_path: Path) -> None:
    """Refused are a file or group in two splits, a file without a split beside others, a class without a training file, an empty split."""
    with pytest.raises(DataError, match=r"row 3: a\.mp4 must have one split"):
        read(tmp_path, "a.mp4,bark,0,1,train", "a.mp4,bark,2,3,val")
    with pytest.raises(DataError, match=r"row 3: group tape must lie in one split, got val for b\.mp4 and train for a\.mp4 \(row 2\)"):
        read(tmp_path, "a.mp4,bark,0,1,train,tape", "b.mp4,bark,0,1,val,tape", "c.mp4,bark,0,1,test")
    with pytest.raises(DataError, match=r"row 3: b\.mp4 must have a split"):
        read(tmp_path, "a.mp4,bark,0,1,train", "b.mp4,bark,0,1")
    with pytest.raises(DataError, match="row 3: class meow must have a file of split train"):
        read(tmp_path, "a.mp4,bark,0,1,train", "b.mp4,meow,0,1,val", "c.mp4,bark,0,1,test")
    with pytest.raises(DataError, match="at least one file must be of split test"):
        read(tmp_path, "a.mp4,bark,0,1,train", "b.mp4,bark,0,1,val")


def test_a_row_of_another_width_and_a_table_without_class_are_told(tmp_path: Path) -> None:
    """A row with too many or too few fields is refused, and so is a table with background only."""
    (tmp_path / "a.mp4").touch()
    for row in ("a.mp4,bark,0", "a.mp4,bark,0,1,2"):
        (tmp_path / "labels.csv").write_text(f"file,label,onset_s,offset_s\n{row}\n", encoding="utf-8")
        with pytest.raises(
            DataError, match=r"row 2: (the row must have at most the 4 fields|onset_s and offset_s of a\.mp4 must be numbers)"
        ):
            read_clip_table(tmp_path / "labels.csv", tmp_path)
    with pytest.raises(DataError, match="at least one row must have a class"):
        read(tmp_path, "a.mp4,none,,")


def test_the_label_of_a_second() -> None:
    """A segment has the class that covers most of it, at least half; stretches of a class are added, and overlaps count once."""
    spans = [("bark", 0.0, 1.4), ("meow", 1.4, 2.0), ("bark", 3.0, 3.3), ("bark", 3.6, 3.8), ("bark", 4.0, 4.3), ("bark", 4.1, 4.4)]
    clip = Clip("a.mp4", 2, [ClipEvent(label, onset, offset, 2) for label, onset, offset in spans])
    labels = segment_labels(clip, 6, {"bark": 0, "meow": 1}, 2)
    assert labels.tolist() == [0, 1, 2, 0, 2, 2]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 80), st.integers(1, 40)), max_size=6), st.integers(1, 12))
def test_seconds_follow_the_whole_event(events: list[tuple[str, int, int]], seconds: int) -> None:
    """For any events, a segment is background if no class covers half of it; else it has a class that covers most of it."""
    clip = Clip("a.mp4", 2, [ClipEvent(label, start / 10, (start + length) / 10, 2) for label, start, length in events])
    labels = segment_labels(clip, seconds, {"a": 0, "b": 1}, 2)
    tenths = np.zeros((2, 10 * seconds + 200), dtype=bool)
    for label, start, length in events:
        tenths["ab".index(label), start : start + length] = True
    shares = tenths[:, : 10 * seconds].reshape(2, seconds, 10).sum(axis=2)
    for second, label in enumerate(labels):
        assert (label == 2) == bool(shares[:, second].max() < 5)
        if label < 2:
            assert shares[label, second] == shares[:, second].max()


@given(
    st.text(st.characters(codec="utf-8", exclude_characters='\r\n"'), max_size=40)
    | st.sampled_from(["../labels.csv", ".", "a/..", "labels.csv/"])
)
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Any file name is refused if no such file is below the folder."""
    folder = tmp_path_factory.getbasetemp() / "names"
    (folder / "media").mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text(f'file,label,onset_s,offset_s\n"{name}",bark,0,1\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2|NUL"):  # a table with NUL is refused as a whole
        read_clip_table(folder / "labels.csv", folder / "media")


def test_csv_quoting_is_csvs(tmp_path: Path) -> None:
    """A file name with a comma in quotes is one field."""
    (tmp_path / "a, b.mp4").touch()
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["file", "label", "onset_s", "offset_s"], ["a, b.mp4", "bark", "0", "1"]])
    assert read_clip_table(tmp_path / "labels.csv", tmp_path).clips[0].file == "a, b.mp4"


def test_a_class_without_times_holds_somewhere_in_the_file(tmp_path: Path) -> None:
    """Its span is the whole file, and no event beyond the end; it must not contradict times or `none` for the same file."""
    table = read(tmp_path, "a.mp4,bark,,", "b.mp4,bark,1,2")
    assert [(event.somewhere, event.offset_s) for clip in table.clips for event in clip.events] == [(True, np.inf), (False, 2.0)]
    assert segment_labels(table.clips[0], 3, {"bark": 0}, 1).tolist() == [0, 0, 0]
    assert events_beyond(table.clips[0], 3.0, 0.5) == []
    with pytest.raises(DataError, match=r"row 2: a\.mp4 has bark without times, and with times in row 3"):
        read(tmp_path, "a.mp4,bark,,", "a.mp4,bark,1,2")
    with pytest.raises(DataError, match=r"a\.mp4 has two labels at one time"):
        read(tmp_path, "a.mp4,bark,,", "a.mp4,none,,")


def test_two_classes_at_one_time_are_allowed_where_labels_are_apart(tmp_path: Path) -> None:
    """With *together* two classes may hold at one time; a class and `none` may not."""
    read(tmp_path, "b.mp4,bark,0,1")
    rows = [HEADER, "a.mp4,bark,0,3,,", "a.mp4,meow,1,4,,"]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert read_clip_table(tmp_path / "labels.csv", tmp_path, together=True).labels == ("bark", "meow")
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "a.mp4,none,2,3,,"]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="two labels at one time"):
        read_clip_table(tmp_path / "labels.csv", tmp_path, together=True)
