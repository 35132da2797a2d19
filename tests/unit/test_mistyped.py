"""Tests of what a person is told about a path or an address that leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamav.cli import main
from streamav.mistyped import advice_on_path, advice_on_source


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Dog in the garden.mp4").touch()
    (tmp_path / "clip_0117.mov").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.mp4").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dog in the garden.MP4", "did you mean Dog in the garden.mp4?"),
        ("clip_0117", "did you mean clip_0117.mov?"),
        ("clip_0171.mov", "did you mean clip_0117.mov?"),
        ("sub\\a.mp4", "write sub/a.mp4"),
        ("sub/b.mp4", "did you mean sub/a.mp4?"),
        ("\u201cclip_0117.mov\u201d", "write 'clip_0117.mov'"),
        ("\u2018clip_0117.mov\u2019", "write 'clip_0117.mov'"),
        ("C:\\Users\\me\\dog.mp4", "/mnt/c/Users/me/dog.mp4"),
        ("nothing/like/it.mp4", "check the path"),
        ("quite another name.mkv", "check the path"),
    ],
)
def test_a_path_that_does_not_exist_is_told_with_what_was_meant(folder: Path, text: str, says: str) -> None:
    """Case, suffix, letters, slashes, quotation marks and drives are the usual slips; each has its own advice."""
    assert says in advice_on_path(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0", "--camera 0 --mic default"),
        ("webcam", "--camera 0 --mic default"),
        ("192.168.1.20", "rtsp://192.168.1.20"),
        ("192.168.1.20:554/stream", "rtsp://192.168.1.20:554/stream"),
        ("camera.local:8554/garden", "rtsp://camera.local:8554/garden"),
        ("rtsp:/192.0.2.1/stream", "two slashes"),
        ("www.youtube.com/watch?v=abc", "save the video as a file"),
        ("youtu.be/abc", "save the video as a file"),
        ("clip_0117", "did you mean clip_0117.mov?"),
    ],
)
def test_a_source_that_is_no_file_is_told_how_it_is_named(folder: Path, text: str, says: str) -> None:
    """A camera, an address without its protocol and one with a slash too few are told apart from files."""
    assert says in advice_on_source(text)


def test_the_run_says_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`streamav run` with a name in the wrong case names the file that is there, before a model is loaded."""
    assert main(["run", "--source", "CLIP_0117.mov"]) == 3
    assert "CLIP_0117.mov: there is no such file; did you mean clip_0117.mov?" in capsys.readouterr().err
    assert main(["run", "--source", "scene", "--config", "porc.toml"]) == 2
    assert "porc.toml cannot be read: No such file or directory; check the path" in capsys.readouterr().err


def test_a_wrong_model_is_told_with_the_near_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in the name of a model, or of the folder of one's own model, names what there is."""
    (folder / "my-model").mkdir()
    for given, near in (("startr", "starter"), ("Edge", "edge"), ("mymodel", "my-model")):
        assert main(["models", "info", given]) == 4
        assert f"got {given!r}; did you mean {near}?" in " ".join(capsys.readouterr().err.split())
