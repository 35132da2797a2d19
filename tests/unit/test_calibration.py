"""Tests of the recorded material for int8: which segments calibrate the engine and which check it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rigs.media_clips import CARD, write_clip

from streamav.errors import CaptureError, SettingsError
from streamav.files import MEDIA_SUFFIXES
from streamav.offline import find_recordings
from streamav.training.clips.ave_media import find_media
from streamav.training.clips.calibration import MOST_SEGMENTS, _sources, recorded_material


def test_every_other_file_fits_and_the_rest_checks(tmp_path: Path) -> None:
    """No segment is in both parts, and the source's text gives the number of files and the seconds of each part."""
    for place, brightness in enumerate((20, 220, 20, 220)):
        write_clip(tmp_path / f"{place}.mp4", 6, brightness)
    (tmp_path / "notes.txt").write_text("no recording")
    material = recorded_material([str(tmp_path)], CARD)
    assert material.fit.pictures.shape == (12, 14, 14, 3)
    assert material.check.patches.shape == (12, 96, 64)
    assert material.fit.pictures.mean() < 60
    assert material.check.pictures.mean() > 180
    assert material.source == "4 recordings: 12 s to fit, 12 s to check"


def test_a_folder_means_what_it_means_for_quiet_recordings(tmp_path: Path) -> None:
    """Calibration takes the same files as `tune --quiet`: the same endings, also in subfolders."""
    below = tmp_path / "monday"
    below.mkdir()
    for place, suffix in enumerate((".m4v", ".mpg")):
        write_clip(below / "clip.mp4", 10, (20, 220)[place])
        (below / "clip.mp4").rename(below / f"{place}{suffix.upper()}")
    assert len(find_recordings([str(tmp_path)])) == 2
    material = recorded_material([str(tmp_path)], CARD)
    assert material.source == "2 recordings: 10 s to fit, 10 s to check"
    assert material.fit.pictures.mean() < 60


def test_one_file_is_cut_in_the_middle(tmp_path: Path) -> None:
    """The first half of a single file is to fit, the second half to check."""
    write_clip(tmp_path / "clip.mp4", 22, 90)
    material = recorded_material([str(tmp_path / "clip.mp4")], CARD)
    assert (len(material.fit.pictures), len(material.check.pictures)) == (11, 11)


@pytest.mark.slow
def test_what_does_not_end_is_read_for_a_while_only(tmp_path: Path) -> None:
    """For a source of any length, each part holds at most `MOST_SEGMENTS` segments."""
    write_clip(tmp_path / "long.mp4", 2 * MOST_SEGMENTS + 30, 90)
    material = recorded_material([str(tmp_path / "long.mp4")], CARD)
    assert (len(material.fit.pictures), len(material.check.pictures)) == (MOST_SEGMENTS, MOST_SEGMENTS)


def test_too_little_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    """A short clip, an empty folder, an empty value and a missing file each raise an error that names them."""
    write_clip(tmp_path / "short.mp4", 8, 90)
    with pytest.raises(SettingsError, match="at least 20 s of recordings, half for each part, got 4 and 4 s; use longer clips"):
        recorded_material([str(tmp_path / "short.mp4")], CARD)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"folder .*empty must hold recordings \(\.mp4"):
        recorded_material([str(tmp_path / "empty")], CARD)
    with pytest.raises(SettingsError, match="got an empty value"):
        recorded_material([""], CARD)  # an empty value does not mean the current folder
    with pytest.raises(CaptureError, match="missing"):
        recorded_material([str(tmp_path / "missing.mp4")], CARD)


@pytest.mark.parametrize("suffix", MEDIA_SUFFIXES)
def test_every_command_takes_the_same_endings(tmp_path: Path, suffix: str) -> None:
    """`tune --quiet`, --calibration and extraction find recordings with the same endings."""
    file = tmp_path / f"clip{suffix}"
    file.touch()
    assert find_recordings([str(tmp_path)]) == _sources(str(tmp_path)) == [str(file)]
    assert find_media(tmp_path, "clip") == file
