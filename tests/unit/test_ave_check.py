"""Tests of `streamav ave check`: every fault of a folder of AVE's files has a finding with its remedy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from rigs.ave_folder import write_ave_folder, write_dataset
from rigs.browser_clip import write_playable

from streamav.cli import main
from streamav.training.data.ave_check import AVE_COUNTS, PUBLISHED, FileFinding, check_features, counts_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_ave_folder(tmp_path / "ave", 20)
    return tmp_path / "ave"


def findings(folder: Path, name: str, *, every_row: bool = False) -> list[FileFinding]:
    return [one for one in check_features(folder, every_row=every_row) if one.file == name]


def checked(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, object]]:
    code = main(["ave", "check", str(folder), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_small_data_set_is_usable_and_its_distance_from_ave_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole folder of another size can be used; counts and findings say how far it is from AVE, and no finding is an error."""
    code, tree = checked(folder, capsys)
    assert code == 0
    assert tree["ok"] is True
    assert tree["kind"] == "features"
    assert tree["counts"]["clips"] == {"found": 20, "ave": 4143}  # type: ignore[index]
    assert tree["counts"]["train"] == {"found": 12, "ave": 3339}  # type: ignore[index]
    (whole,) = findings(folder, "")
    assert "12 training" in whole.found
    assert "AVE has 3339, 402 and 402" in whole.found
    assert all(one.remedy for one in check_features(folder) if one.severity in {"warning", "error"})


@pytest.mark.parametrize("name", ["visual_feature.h5", "audio_feature.h5", "train_order.h5", "val_order.h5", "test_order.h5"])
def test_a_missing_file_is_an_error_with_its_source(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without which training cannot begin is an error that says where it comes from; the status is 7."""
    (folder / name).unlink()
    code, tree = checked(folder, capsys)
    assert code == 7
    assert tree["ok"] is False
    (one,) = findings(folder, name)
    assert (one.severity, one.found) == ("error", "missing")
    assert "YapengTian/AVE-ECCV18" in one.remedy


def test_a_wrong_name_is_recognised(folder: Path) -> None:
    """A download with a number in its name is named as the file that is missing."""
    (folder / "visual_feature.h5").rename(folder / "visual_feature (1).h5")
    (one,) = findings(folder, "visual_feature.h5")
    assert "rename visual_feature (1).h5 to visual_feature.h5" in one.remedy
    (other,) = findings(folder, "visual_feature (1).h5")
    assert other.severity == "warning"


def test_a_truncated_file_is_found_without_reading_all(folder: Path) -> None:
    """Features that end early are an error, although their first rows are whole."""
    path = folder / "visual_feature.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (one,) = findings(folder, path.name)
    assert one.severity == "error"
    assert "fetch it again" in one.remedy


def test_no_hdf5_is_told(folder: Path) -> None:
    """A web page saved under the name of a file is an error that names the file once."""
    (folder / "test_order.h5").write_bytes(b"<html>too many downloads</html>")
    one = findings(folder, "test_order.h5")[-1]
    assert one.severity == "error"
    assert str(folder) not in one.found


def test_wrong_shapes_and_numbers_are_errors(folder: Path) -> None:
    """A wrong number of axes is an error; NaN is found when every row is read."""
    write_dataset(folder / "audio_feature.h5", np.zeros((20, 128), np.float32))
    assert findings(folder, "audio_feature.h5")[0].severity == "error"
    with h5py.File(folder / "visual_feature.h5", "r+") as file:
        file["avadataset"][3, 0, 0, 0, 0] = np.nan
    assert findings(folder, "visual_feature.h5")[0].severity == "note"
    assert "row 3" in findings(folder, "visual_feature.h5", every_row=True)[0].found


def test_splits_that_share_a_row_are_an_error(folder: Path) -> None:
    """Order files that overlap make the folder unusable, and the finding says so."""
    with h5py.File(folder / "val_order.h5") as file:
        rows = file["order"][()]
    write_dataset(folder / "test_order.h5", rows, "order")
    (whole,) = findings(folder, "")
    assert whole.severity == "error"
    assert "must not share rows" in whole.found


def test_the_published_files_are_recognised(shared_data: Path, tmp_path: Path) -> None:
    """The files of AVE's repository have the sizes and checksums that are written down here, and AVE's counts."""
    for name in PUBLISHED:
        (tmp_path / name).symlink_to(shared_data / "ave" / name)
    for name in PUBLISHED:
        found = findings(tmp_path, name)
        assert name in {"labels_closs.h5", "labels_noisy.h5"} or "the published file (SHA-256)" in found[0].found, (name, found)
    counts = counts_of(tmp_path)
    assert counts.pop("clips")[0] is None
    assert all(found == wanted for found, wanted in counts.values()), counts
    changed = bytearray((tmp_path / "val_order.h5").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "val_order.h5").unlink()
    (tmp_path / "val_order.h5").write_bytes(changed)
    assert "another SHA-256" in findings(tmp_path, "val_order.h5")[0].found


def test_a_file_of_labels_is_compared_by_its_git_blob(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`labels.h5` is known by the name that git gives its content: the same content is the published file, any other is not."""
    (folder / "right_labels.h5").unlink(missing_ok=True)
    labels = folder / "labels.h5"
    labels.write_bytes(b"what is in it does not matter here")
    wanted = subprocess.run(["git", "hash-object", str(labels)], capture_output=True, text=True, check=True).stdout.strip()

    def told() -> str:
        return next(one.found for one in check_features(folder) if one.file == "labels.h5" and "published" in one.found)

    assert "not the published file" in told()
    monkeypatch.setattr("streamav.training.data.ave_check.LABELS_BLOB", wanted)
    assert told().endswith("the published file (git blob)")


@pytest.mark.parametrize(
    ("name", "values", "bytes_each"),
    [
        ("audio_feature_noisy.h5", 178 * 10 * 128, 8),
        ("labels_closs.h5", 4143 * 10, 4),
        ("labels_noisy.h5", 178 * 29, 4),
        ("mil_labels.h5", 4143 * 29, 4),
        ("test_order.h5", 402, 8),
        ("train_order.h5", 3339, 8),
    ],
)
def test_the_published_files_are_plain_arrays(name: str, values: int, bytes_each: int) -> None:
    """The sizes expected of the files that were not seen follow the rule of those that were: 2144 bytes, then the values."""
    assert PUBLISHED[name][0] == 2144 + values * bytes_each


def test_a_folder_of_videos_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Videos are compared with Annotations.txt beside them: missing, damaged, short and unknown files are named, with counts."""
    videos = tmp_path / "AVE"
    videos.mkdir()
    rows = [f"Bark&video_{number}&good&0&10" for number in range(4)]
    (tmp_path / "Annotations.txt").write_text("\n".join(rows))
    write_playable(videos / "video_0.mp4", 10)
    write_playable(videos / "video_1.mp4", 4)
    (videos / "video_2.mp4").write_bytes(b"nothing")
    write_playable(videos / "stranger.mp4", 2)
    code, tree = checked(videos, capsys)
    assert code == 7
    assert tree["kind"] == "videos"
    assert tree["counts"]["clips"] == {"found": 3, "ave": AVE_COUNTS["clips"]}  # type: ignore[index]
    told = {one["file"]: one for one in tree["findings"]}  # type: ignore[attr-defined]
    assert "lasts 4.0 s" in told["video_1.mp4"]["found"]
    assert told["video_2.mp4"]["severity"] == "error"
    said = " ".join(one["found"] for one in tree["findings"])  # type: ignore[attr-defined]
    assert "1 of 4 videos are missing, such as video_3" in said
    assert "stranger.mp4" in said
    (tmp_path / "Annotations.txt").unlink()
    assert checked(videos, capsys)[0] == 7


def test_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is no folder gives one sentence and status 7; an empty folder lists what is missing."""
    assert main(["ave", "check", str(tmp_path / "nope")]) == 7
    assert "docs/reproduce.md" in capsys.readouterr().err
    assert main(["ave", "check", str(tmp_path)]) == 7
    assert "visual_feature.h5: missing" in capsys.readouterr().out
