"""Tables as Excel, LibreOffice and users write them, and file names as other systems spell them."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from streamav.errors import DataError
from streamav.evaluation.recordings import Span, read_labels
from streamav.tables import find_below, read_table, to_seconds
from streamav.training.clips.table import read_clip_table
from streamav.training.composite.material import read_index

PLAIN = "file,label,onset_s,offset_s,split,group\nsub/café.mp4,bark,0.5,3,,\nb.mp4,none,,,,\n"
NFD = unicodedata.normalize("NFD", "café")
SPELLINGS = {
    "plain": PLAIN,
    "mark": "\ufeff" + PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace("0.5", "0,5"),
    "sep": "sep=;\r\n" + PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "crlf": PLAIN.replace("\n", "\r\n"),
    "cr": PLAIN.replace("\n", "\r"),
    "no end of the last line": PLAIN.rstrip("\n"),
    "blank rows": PLAIN.replace("\nb", "\n,,,,,\n\n , ,,,,\nb") + ",,,,,\n,,,,,\n",
    "blank rows in front": ",,,,,\n\n" + PLAIN,
    "empty last columns": PLAIN.replace("\n", ",,\n"),
    "ends of rows left out": PLAIN.replace(",,\n", "\n").replace(",,\n", "\n"),
    "quotes": PLAIN.replace("bark", '"bark"').replace("0.5", '"0,5"'),
    "spaces": PLAIN.replace(",", " , "),
    "backslashes": PLAIN.replace("/", "\\"),
    "dot": PLAIN.replace("sub/", ".\\sub\\"),
    "decomposed": PLAIN.replace("café", NFD),
}


def files(folder: Path, form: Literal["NFC", "NFD"]) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / f"{unicodedata.normalize(form, 'café')}.mp4").touch()
    (folder / "b.mp4").touch()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_table_means_the_same_however_a_program_writes_it(tmp_path: Path, spelling: str, form: Literal["NFC", "NFD"]) -> None:
    """Separator, decimal sign, line ends, blank rows, empty cells and spellings of names do not change what either reader returns."""
    files(tmp_path, form)
    (tmp_path / "labels.csv").write_bytes(SPELLINGS[spelling].encode())
    table = read_clip_table(tmp_path / "labels.csv", tmp_path)
    name = f"sub/{unicodedata.normalize(form, 'café')}.mp4"
    assert [clip.file for clip in table.clips] == [name, "b.mp4"]
    assert [(event.label, event.onset_s, event.offset_s) for event in table.clips[0].events] == [("bark", 0.5, 3.0)]
    (tmp_path / "labels.csv").write_bytes(SPELLINGS[spelling].replace("label", "class_slug").encode())
    assert read_labels(tmp_path / "labels.csv") == {name: [Span("bark", 0.5, 3.0)], "b.mp4": []}


def test_two_spellings_of_one_name_are_one_file(tmp_path: Path) -> None:
    """Rows with a composed and a decomposed name are about the same recording, so contradictions between them are reported."""
    files(tmp_path, "NFD")
    rows = f"sub/{NFD}.mp4,bark,0,3\nsub\\café.mp4,meow,0,3\n"
    (tmp_path / "labels.csv").write_text(f"file,label,onset_s,offset_s\n{rows}", encoding="utf-8")
    with pytest.raises(DataError, match="has two labels at one time"):
        read_clip_table(tmp_path / "labels.csv", tmp_path)


def test_each_part_of_a_path_may_be_spelt_in_its_own_way(tmp_path: Path) -> None:
    """A folder and the file in it may have different normal forms. A missing file and a folder are not found."""
    folder = tmp_path / unicodedata.normalize("NFD", "é")
    folder.mkdir()
    (folder / "ü.mp4").touch()
    assert find_below(tmp_path, unicodedata.normalize("NFD", "ü.mp4")) is None
    assert find_below(tmp_path, "é\\" + unicodedata.normalize("NFD", "ü.mp4")) == f"{folder.name}/ü.mp4"
    assert find_below(tmp_path, "é") is None


def test_rows_are_told_by_the_line_they_begin_on(tmp_path: Path) -> None:
    """Line numbers count blank rows, values over two lines and the line `sep=;`."""
    path = tmp_path / "t.csv"
    path.write_text('sep=;\n\na;b\n;;\n1;"x\ny"\n2;z;\n', encoding="utf-8")
    assert read_table(path) == (["a", "b"], [(5, {"a": "1", "b": "x\ny"}), (7, {"a": "2", "b": "z"})])
    path.write_text("a;b\n;\n1;2;3\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 3: the row must have at most the 2 fields"):
        read_table(path)
    path.write_bytes("a,b\ncaf\xe9,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="save it as CSV UTF-8"):
        read_table(path)


def test_the_index_of_sounds_and_photos_is_read_the_same(tmp_path: Path) -> None:
    """The table of `streamav compose` may come from Excel too."""
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").touch()
    rows = "path;kind;class;split;\n;;;;\nsounds\\a.wav;sound;Dog bark;train;\n"
    (tmp_path / "index.csv").write_text("\ufeff" + rows, encoding="utf-8")
    (item,) = read_index(tmp_path)
    assert (item.path, item.kind, item.label, item.split) == ("sounds/a.wav", "sound", "Dog bark", "train")


@pytest.mark.parametrize("text", ["", "a", "1,2,3", "1.000,5", "1:30"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    """Text with a thousands separator is refused."""
    with pytest.raises(ValueError, match="could not convert"):
        to_seconds(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_table_in_another_encoding_is_told(tmp_path: Path, encoding: str) -> None:
    """A spreadsheet's "Unicode text" is UTF-16, with and without byte order mark; the message says how to save it."""
    (tmp_path / "labels.csv").write_bytes("file,class_slug,onset_s,offset_s\na.mp4,dog,1,2\n".encode(encoding))
    with pytest.raises(DataError, match="save it as CSV UTF-8"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("../a.mp4,dog,1,2", "below"),
        ("/etc/passwd,dog,1,2", "below"),
        ("a\x1b[31m.mp4,dog,1,2", "below"),
        ("a.mp4,dog,1,", "must be numbers"),
        ("a.mp4,dog,,2", "must be numbers"),
    ],
)
def test_a_row_that_leads_out_of_the_folder_or_has_one_time_is_refused(tmp_path: Path, row: str, says: str) -> None:
    """A table names recordings beside it only; a row with one of its two times is not taken for a recording without events."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "a.mp4").touch()
    (folder / "labels.csv").write_text(f"file,class_slug,onset_s,offset_s\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"line 2: .*{says}"):
        read_labels(folder / "labels.csv")


def test_a_file_name_that_no_system_takes_is_no_file(tmp_path: Path) -> None:
    """The system refuses a name of more than 255 bytes; the table is then told as wrong, without a traceback."""
    assert find_below(tmp_path, "n" * 300 + ".mp4") is None
