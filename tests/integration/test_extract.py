"""Tests of `streamav extract`, with real media files and an encoder that is a formula."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from rigs.media_clips import CARD, Formula, write_clip

from streamav.bundle import Bundle
from streamav.config import ModelSettings
from streamav.errors import DataError
from streamav.training.clips import ave_media as extract
from streamav.training.experiments.export import encoders_of


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for name, brightness in (("one", 40), ("three", 200)):
        write_clip(folder / f"{name}.mp4", 11, brightness)
    (tmp_path / "Annotations.txt").write_text("Bark&one&good&0&4\nCat&two&good&1&9\nBark&three&good&0&10\n", encoding="utf-8")
    return folder


def run(media: Path, engine: Formula, monkeypatch: pytest.MonkeyPatch) -> extract.Extraction:
    monkeypatch.setattr(extract, "open_engine", lambda *_: engine)
    return extract.extract_folder(media, media.parent / "Annotations.txt", media.parent / "out", Bundle(CARD, media), ModelSettings())


def test_features_of_real_files_are_resumed_clip_by_clip(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing clip is named and the others are extracted; when it exists, a second call encodes only this clip."""
    out = media.parent / "out"
    engine = Formula()
    first = run(media, engine, monkeypatch)
    assert (first.done, list(first.failed)) == (2, [1])
    assert engine.seconds == 2 * 10
    write_clip(media / "two.mp4", 10, 120)
    again = Formula()
    assert run(media, again, monkeypatch) == extract.Extraction(3, {})
    assert again.seconds == 10
    with h5py.File(out / "visual_feature.h5") as file:
        brightness = file["avadataset"][()].mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(brightness, [40, 120, 200], atol=4)
    assert encoders_of(out, 3, 4) == (CARD.audio, CARD.visual)


def test_a_short_or_broken_clip_is_named(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip under ten seconds and a file that is no media give a reason and no features."""
    write_clip(media / "one.mp4", 4, 40)
    (media / "two.mp4").write_bytes(b"no media")
    result = run(media, Formula(), monkeypatch)
    assert result.done == 1
    assert "10 seconds" in result.failed[0]
    assert "two.mp4" in result.failed[1]


def test_a_folder_of_other_clips_is_refused(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder never holds rows of two lists of clips."""
    run(media, Formula(), monkeypatch)
    (media.parent / "Annotations.txt").write_text("Bark&one&good&0&4\n", encoding="utf-8")
    with pytest.raises(DataError, match="another"):
        run(media, Formula(), monkeypatch)


def test_a_half_written_file_is_found_and_made_anew(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a feature file is cut off, all rows are extracted again into complete files."""
    write_clip(media / "two.mp4", 10, 120)
    run(media, Formula(), monkeypatch)
    path = media.parent / "out" / "visual_feature.h5"
    path.write_bytes(path.read_bytes()[:-4000])
    again = Formula()
    assert run(media, again, monkeypatch) == extract.Extraction(3, {})
    assert again.seconds == 30
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["avadataset"][()].mean(axis=(1, 2, 3, 4)), [40, 120, 200], atol=4)
