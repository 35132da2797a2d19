"""Tests of scripts/compose_background.py: recordings without events, from sounds and pictures made here."""

from __future__ import annotations

import runpy
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from streamav.evaluation.recordings import read_groups, read_labels, read_off_screen

SCRIPT = Path(__file__).parents[2] / "scripts" / "compose_background.py"


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """Return a folder with two sounds, one voice and one picture."""
    random = np.random.default_rng(0)
    for name in ("sounds/rain", "sounds/street", "talk/voice"):
        file = tmp_path / f"{name}.wav"
        file.parent.mkdir(exist_ok=True)
        with wave.open(str(file), "wb") as sound:
            sound.setparams((1, 2, 16_000, 0, "NONE", ""))
            sound.writeframes(random.integers(-9000, 9000, 24_000).astype("<i2").tobytes())
    (tmp_path / "rooms").mkdir()
    picture = np.kron(random.integers(0, 256, (12, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    with av.open(str(tmp_path / "rooms" / "kitchen.png"), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode())
    return tmp_path


def composed(material: Path, out: str, seed: int) -> tuple[Path, list[bytes]]:
    """Compose six recordings of 2 s; return their folder and the pictures and sounds as bytes."""
    main = runpy.run_path(str(SCRIPT))["main"]
    places = ["--sounds", str(material / "sounds"), "--talk", str(material / "talk"), "--pictures", str(material / "rooms")]
    size = ["--minutes", "0.2", "--seconds", "2", "--talking", "0.5", "--seed", str(seed)]
    assert main([*places, "--out", str(material / out), *size]) == 0
    contents = []
    for file in sorted((material / out).glob("*.mp4")):
        with av.open(str(file)) as container:
            contents.append(b"".join(frame.to_ndarray().tobytes() for frame in container.decode(video=0)))
        with av.open(str(file)) as container:
            contents.append(b"".join(frame.to_ndarray().tobytes() for frame in container.decode(audio=0)))
    return material / out, contents


def test_the_recordings_are_labelled_and_drawn_by_the_seed(material: Path) -> None:
    """Six recordings of two sounds in turn, none with an event, some with voices off screen; one seed gives the same, another others."""
    folder, first = composed(material, "first", 0)
    truth = read_labels(folder / "labels.csv")
    assert list(truth) == [f"background_{number:03}.mp4" for number in range(6)]
    assert not any(truth.values())
    assert sorted(read_groups(folder / "labels.csv").values()) == ["rain"] * 3 + ["street"] * 3
    assert 0 < len(read_off_screen(folder / "labels.csv")) < 6
    assert composed(material, "again", 0)[1] == first
    assert composed(material, "other", 1)[1] != first
    with av.open(str(folder / "background_000.mp4")) as container:
        assert float(container.duration or 0) / 1e6 == pytest.approx(2.0, abs=0.2)


def test_wrong_folders_are_refused(material: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without sounds, and a place that exists, are refused with what must be."""
    main = runpy.run_path(str(SCRIPT))["main"]
    rooms, sounds = str(material / "rooms"), str(material / "sounds")
    with pytest.raises(SystemExit, match="2"):
        main(["--sounds", rooms, "--pictures", rooms, "--out", str(material / "new")])
    assert "must hold files, got 0 sounds and 1 pictures" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--sounds", sounds, "--pictures", rooms, "--out", rooms])
    assert "must be a new folder" in capsys.readouterr().err
