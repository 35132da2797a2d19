"""Tests of extraction from a user's own clips, with real media files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from rigs.media_clips import CARD, Formula, write_clip

from streamav.bundle import Bundle, ModelCard
from streamav.errors import DataError
from streamav.training.clips import features as clip_features
from streamav.training.clips.encode import LocalWorker, MediaEncoder, MediaResult, MediaTask
from streamav.training.clips.features import extract_clips
from streamav.training.clips.rows import ClipOptions, row_starts
from streamav.training.clips.table import read_clip_table
from streamav.training.data.folder import open_ave

SECONDS = {"one.mp4": 11, "two.mp4": 4, "three.mp4": 10, "four.mp4": 24, "five.mp4": 10, "six.mp4": 10}
ROWS = (
    "one.mp4,bark,1,4,train",
    "two.mp4,meow,0,3,train",
    "three.mp4,bark,0,10,val",
    "four.mp4,meow,20,24,train",
    "five.mp4,none,,,test",
    "six.mp4,meow,2,5,test",
)


class Model(Bundle):
    """A bundle without weights; its encoders are a formula."""

    @property
    def sha256(self) -> str:
        return "ab" * 32


class Worker:
    """Encodes with the formula, keeps the names of the files it encodes, and can be killed after some files."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.kill_after = kill_after

    def __call__(self, tasks: Sequence[MediaTask]) -> Iterator[MediaResult]:
        for task in tasks:
            if self.kill_after is not None and len(self.asked) == self.kill_after:
                raise KeyboardInterrupt
            self.asked.append(task.path.name)
            yield from LocalWorker(MediaEncoder(Formula(), CARD))([task])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number, (name, seconds) in enumerate(SECONDS.items()):
        write_clip(folder / name, seconds, 30 + 30 * number)
    return folder


def write_table(folder: Path, rows: Sequence[str] = ROWS) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(["file,label,onset_s,offset_s,split", *rows]) + "\n", encoding="utf-8")
    return path


def extract(clips: Path, out: Path, worker: Worker, rows: Sequence[str] = ROWS, **options: object) -> clip_features.ClipExtraction:
    table = read_clip_table(write_table(clips, rows), clips)
    skip = bool(options.pop("skip", False))
    return extract_clips(table, out, Model(CARD, clips), worker, ClipOptions(**options), skip=skip)  # type: ignore[arg-type]


def test_clips_become_a_folder_that_training_reads(clips: Path, tmp_path: Path) -> None:
    """Every segment of every file is in a row of its split, with features and label; short files repeat, long ones give several rows."""
    found = extract(clips, tmp_path, Worker())
    assert found.rows == {"train": 6, "val": 1, "test": 2}
    data = open_ave(tmp_path)
    assert [entry.slug for entry in data.classes] == ["bark", "meow"]
    with (tmp_path / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["first_s"], row["split"]) for row in rows] == [
        ("one.mp4", "0", "train"),
        ("one.mp4", "1", "train"),
        ("two.mp4", "0", "train"),
        ("three.mp4", "0", "val"),
        ("four.mp4", "0", "train"),
        ("four.mp4", "10", "train"),
        ("four.mp4", "14", "train"),
        ("five.mp4", "0", "test"),
        ("six.mp4", "0", "test"),
    ]
    labels = data.train.labels
    assert labels[0].tolist() == [2, 0, 0, 0, 2, 2, 2, 2, 2, 2]
    assert labels[1].tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 2, 2]
    assert labels[2].tolist() == [1, 1, 1, 2, 1, 1, 1, 2, 1, 1]
    assert labels[6].tolist() == [2, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    assert (labels[7] == 2).all()
    brightness = [data.train.visual[row].mean() for row in range(9)]
    np.testing.assert_allclose(brightness, [30, 30, 60, 90, 120, 120, 120, 150, 180], atol=6)
    assert data.train.visual.dtype == np.float16


@pytest.mark.slow
def test_a_killed_extraction_goes_on_where_it_was(clips: Path, tmp_path: Path) -> None:
    """Finished files are not encoded again, a half-written one is, and the result equals that of one run, bit for bit."""
    whole = tmp_path / "whole"
    extract(clips, whole, Worker())
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        extract(clips, out, Worker(kill_after=3))
    assert not (out / "manifest.csv").exists()
    broken = min((out / "seconds").glob("*.safetensors"))
    broken.write_bytes(broken.read_bytes()[:-5])
    (out / "seconds" / ".left.safetensors.tmp").write_bytes(b"half")
    again = Worker()
    extract(clips, out, again)
    assert len(again.asked) == len(SECONDS) - 2
    assert not list(out.rglob("*.tmp"))
    for name in ("audio_feature.h5", "visual_feature.h5", "right_labels.h5", "train_order.h5", "val_order.h5", "test_order.h5"):
        with h5py.File(whole / name) as one, h5py.File(out / name) as other:
            (key,) = one
            np.testing.assert_array_equal(one[key][()], other[key][()])
    assert (whole / "manifest.csv").read_text() == (out / "manifest.csv").read_text()


@pytest.mark.slow
def test_half_written_feature_files_are_made_anew(clips: Path, tmp_path: Path) -> None:
    """A damaged HDF5 file is built again from the stored features of each file, without encoding."""
    extract(clips, tmp_path, Worker())
    path = tmp_path / "visual_feature.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = Worker()
    extract(clips, tmp_path, again)
    assert again.asked == []
    assert len(open_ave(tmp_path).train) == 6


@pytest.mark.slow
def test_a_changed_table_encodes_what_is_new(clips: Path, tmp_path: Path) -> None:
    """New labels of known files and another stride need no encoding; only a new file is encoded."""
    extract(clips, tmp_path, Worker(), ROWS[:3] + ROWS[4:])
    again = Worker()
    rows = ("one.mp4,bark,1,4,train", "one.mp4,hoot,5,8,train", *ROWS[1:])
    found = extract(clips, tmp_path, again, rows, stride=4)
    assert again.asked == ["four.mp4"]
    assert found.rows["train"] == 2 + 1 + 5
    assert [entry.slug for entry in open_ave(tmp_path).classes] == ["bark", "hoot", "meow"]


def test_an_event_beyond_the_end_is_told_before_anything_is_encoded(clips: Path, tmp_path: Path) -> None:
    """An event beyond the end of its file raises an error with file and row, and no file is encoded."""
    worker = Worker()
    with pytest.raises(DataError, match=r"row 3: the event must end within two\.mp4, which lasts 4\.\d s, got offset_s 9"):
        extract(clips, tmp_path, worker, ("one.mp4,bark,1,4,train", "two.mp4,meow,0,9,train", *ROWS[2:]))
    assert worker.asked == []


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_told_with_its_row(clips: Path, tmp_path: Path) -> None:
    """The other files are encoded; the folder of features is built without the bad file only with `skip`."""
    (clips / "bad.mp4").write_bytes(b"no media")
    rows = (*ROWS, "bad.mp4,bark,0,1,train")
    found = extract(clips, tmp_path, Worker(), rows)
    assert list(found.failed) == ["bad.mp4"]
    assert found.failed["bad.mp4"].startswith("row 8: ")
    assert not (tmp_path / "manifest.csv").exists()
    again = Worker()
    assert extract(clips, tmp_path, again, rows, skip=True).rows == {"train": 6, "val": 1, "test": 2}
    assert again.asked == ["bad.mp4"]


@pytest.mark.slow
def test_features_of_another_model_are_not_mixed(clips: Path, tmp_path: Path) -> None:
    """One folder holds features of one model and one number type."""
    extract(clips, tmp_path, Worker())
    with pytest.raises(DataError, match="choose another folder"):
        extract(clips, tmp_path, Worker(), dtype="float32")
    card = ModelCard.model_validate({**CARD.model_dump(by_alias=True), "audio": CARD.audio.model_copy(update={"log_mel_offset": 0.1})})
    table = read_clip_table(write_table(clips), clips)
    with pytest.raises(DataError, match=r"encoders\.json"):
        extract_clips(table, tmp_path, Model(card, clips), Worker())


@pytest.mark.slow
def test_a_class_without_a_whole_half_second_is_told(clips: Path, tmp_path: Path) -> None:
    """A class whose events fill no half segment of a training file is refused."""
    with pytest.raises(DataError, match=r"row 2: class bark must fill at least half of one segment \(1 s\) of a training file"):
        extract(clips, tmp_path, Worker(), ("one.mp4,bark,1.8,2.2,train", *ROWS[1:]))


@pytest.mark.parametrize(
    ("seconds", "stride", "starts"),
    [(1, 10, [0]), (10, 10, [0]), (11, 10, [0, 1]), (20, 10, [0, 10]), (24, 10, [0, 10, 14]), (14, 3, [0, 3, 4]), (12, 1, [0, 1, 2])],
)
def test_rows_cover_every_second(seconds: int, stride: int, starts: list[int]) -> None:
    """Segments left at the end of a file are in a last row that overlaps the row before."""
    assert row_starts(seconds, stride) == starts
