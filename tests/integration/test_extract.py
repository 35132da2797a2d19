"""Promises of `streamav extract`, with real media files and an encoder that is a formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from streamav.bundle import AudioCard, Bundle, ClassEntry, DetectionCard, LocalizerCard, ModelCard, VisualCard
from streamav.config import ModelSettings
from streamav.errors import DataError
from streamav.training import extract
from streamav.training.export import encoders_of

Array = NDArray[np.generic]
CARD = ModelCard(
    name="formula",
    version="1",
    profile="custom",
    classes=(ClassEntry(slug="bark", name="Bark"),),
    audio=AudioCard(network="compact_audio", log_mel_offset=0.01, size=3),
    visual=VisualCard(network="compact_visual", picture=(14, 14), frames_per_second=2, size=4, grid=7),
    localizer=LocalizerCard(options={}),
    detection=DetectionCard(on=0.6, off=0.4),
    licence_note="none",
)


@dataclass
class Formula:
    """An engine whose encoders give the mean brightness and the mean loudness."""

    name: str = "formula"
    pictures: int = 0

    def network(self, name: str) -> Callable[..., tuple[NDArray[np.float32]]]:
        return self.visual if name == "visual" else self.audio

    def visual(self, frames: Array) -> tuple[NDArray[np.float32]]:
        self.pictures += len(frames)
        return (np.repeat(frames.reshape(len(frames), 7, 2, 7, 2, 3).mean(axis=(2, 4, 5))[..., None], 4, axis=3).astype(np.float32),)

    def audio(self, mel: Array) -> tuple[NDArray[np.float32]]:
        return (np.repeat(mel.mean(axis=(1, 2))[:, None], 3, axis=1).astype(np.float32),)


def write_clip(path: Path, seconds: int, brightness: int) -> None:
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("mpeg4", rate=10), file.add_stream("aac", rate=16000, layout="mono")
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for _ in range(10 * seconds):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), brightness, dtype=np.uint8), format="rgb24")))
        file.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000 * seconds), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        file.mux(audio.encode(sound))
        file.mux(audio.encode())


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
    """A clip that is missing is named and the others are extracted; once it is there a second call computes it alone."""
    out = media.parent / "out"
    engine = Formula()
    first = run(media, engine, monkeypatch)
    assert (first.done, list(first.failed)) == (2, [1])
    assert engine.pictures == 2 * 20
    write_clip(media / "two.mp4", 10, 120)
    again = Formula()
    assert run(media, again, monkeypatch) == extract.Extraction(3, {})
    assert again.pictures == 20
    with h5py.File(out / "visual_feature.h5") as file:
        brightness = file["avadataset"][()].mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(brightness, [40, 120, 200], atol=4)
    assert encoders_of(out, 3, 4) == (CARD.audio, CARD.visual)


def test_a_short_or_broken_clip_is_named(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip under ten seconds and a file that is no media are failures with a reason, not features."""
    write_clip(media / "one.mp4", 4, 40)
    (media / "two.mp4").write_bytes(b"no media")
    result = run(media, Formula(), monkeypatch)
    assert result.done == 1
    assert "10 seconds" in result.failed[0]
    assert "two.mp4" in result.failed[1]


def test_a_folder_of_other_clips_is_refused(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of two lists of clips are never mixed in one folder."""
    run(media, Formula(), monkeypatch)
    (media.parent / "Annotations.txt").write_text("Bark&one&good&0&4\n", encoding="utf-8")
    with pytest.raises(DataError, match="another"):
        run(media, Formula(), monkeypatch)
