from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from streamav.capture.file_pair import FilePairSource
from streamav.capture.media import MediaSource
from streamav.capture.open import open_source
from streamav.capture.pair import PairSource
from streamav.capture.scene import DEFAULT_SCRIPT, SceneSource
from streamav.clips.snapshot import jpeg
from streamav.config import CaptureSettings, SourceSettings
from streamav.errors import CaptureError, MissingModalityError, SettingsError
from streamav.protocols import Source
from streamav.types import SourceContent


def opened(**settings: object) -> Source:
    return open_source(SourceSettings.model_validate(settings), CaptureSettings(), picture=(24, 32), frames_per_second=4)


def test_settings_become_the_source_they_name() -> None:
    """Scene, URL, file and devices each give their own source, and only network streams and devices are live."""
    scene = opened(scene=True)
    assert isinstance(scene, SceneSource)
    assert scene.script is DEFAULT_SCRIPT
    short = opened(scene=True, duration_s=20)
    assert isinstance(short, SceneSource)
    assert short.script.seconds == 20
    assert isinstance(opened(uri="clip.mp4"), MediaSource)
    assert isinstance(opened(camera="0", mic="default"), PairSource)
    lives = [opened(uri=uri).live for uri in ("clip.mp4", "rtsp://x/y")] + [opened(camera="0", mic="default").live, scene.live]
    assert lives == [False, True, True, False]


def test_live_sessions_are_random_and_file_sessions_are_not() -> None:
    """Event ids of a live source never repeat; those of a filter graph do."""
    assert opened(camera="0", mic="default").session != opened(camera="0", mic="default").session
    rtsp = opened(uri="rtsp://x/y")
    assert rtsp.session == rtsp.session != opened(uri="rtsp://x/y").session
    assert opened(uri="lavfi:a").session == opened(uri="lavfi:a").session != opened(uri="lavfi:b").session


@pytest.mark.parametrize(("settings", "lacking"), [({"camera": "0"}, "source.mic"), ({"mic": "default"}, "source.camera")])
def test_half_a_source_is_refused(settings: dict[str, str], lacking: str) -> None:
    """For a camera without a microphone, or the other way round, the error names the missing one."""
    with pytest.raises(MissingModalityError, match=lacking):
        opened(**settings)


def test_no_source_is_refused() -> None:
    """The error for settings without a source lists what can be named."""
    with pytest.raises(SettingsError, match="--source scene"):
        opened()


def test_importing_capture_loads_no_media_library() -> None:
    """PyAV and sounddevice are imported when a source is opened, not before, so that --help stays fast."""
    program = "import sys, streamav.capture; print([m for m in ('av', 'sounddevice', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "content"),
    [
        ({"uri": "clip.mp4", "mic": "none"}, SourceContent(sound=False)),
        ({"uri": "rtsp://x/y", "camera": "none"}, SourceContent(picture=False)),
    ],
)
def test_half_of_an_address_may_be_left_out(settings: dict[str, str], content: SourceContent) -> None:
    """`mic = "none"` reads the pictures of an address alone, `camera = "none"` its sound."""
    source = opened(**settings)
    assert isinstance(source, MediaSource)
    assert source._medium.look.wanted == content


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"camera": "0", "mic": "none"}, PairSource),
        ({"camera": "none", "mic": "default"}, PairSource),
        ({"uri": "rtsp://x/y", "mic": "default"}, PairSource),
        ({"uri": "rtsp://x/y", "sound_uri": "rtsp://x/z"}, PairSource),
        ({"camera": "0", "sound_uri": "tcp://x:1"}, PairSource),
        ({"uri": "a.mp4", "sound_uri": "b.wav"}, FilePairSource),
    ],
)
def test_pictures_and_sound_may_come_from_different_places(settings: dict[str, str], kind: type) -> None:
    """Devices and network streams are joined with each other and are live; two files are joined and are not."""
    source = opened(**settings)
    assert isinstance(source, kind)
    assert source.live is (kind is PairSource)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"camera": "none", "mic": "none"}, "both"),
        ({"uri": "a.mp4", "camera": "none", "mic": "default"}, "comes from the address"),
        ({"uri": "a.mp4", "mic": "default"}, "joined with another file only"),
        ({"uri": "rtsp://x/y", "sound_uri": "b.wav"}, "joined with another file only"),
        ({"uri": "rtsp://x/y", "sound_uri": "rtsp://x/z", "mic": "default"}, "sound must come from one place"),
        ({"sound_uri": "b.wav"}, "needs pictures"),
        ({"scene": True, "mic": "default"}, "whole source"),
        ({"uri": "rtsp://x/y", "loop": True}, "cannot be read twice"),
        ({"uri": "-", "loop": True}, "cannot be read twice"),
        ({"scene": True, "loop": True}, "loop is for a file"),
        ({"uri": "a.mp4", "camera_size": "1280x720"}, "need a camera"),
        ({"uri": "rtsp://x/y", "password": "secret"}, "a password needs uri and user"),
        ({"uri": "a.mp4", "user": "me"}, "network address"),
        ({"uri": "rtsp://you:pass@x/y", "user": "me"}, "write the user name in one place"),
        ({"uri": "rtsp://x/y", "user": "me", "password_file": "/no/such"}, "password_file must be a readable text file"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, object], message: str) -> None:
    """Each error says what must be, and none shows the password of an address."""
    with pytest.raises((ValueError, SettingsError), match=message) as caught:
        opened(**settings)
    assert "pass@" not in str(caught.value)


def test_user_and_password_may_stand_beside_the_address(tmp_path: Path) -> None:
    """User name and password are put into the address with every character escaped, and no message shows them."""
    file = tmp_path / "password"
    file.write_text("p@ss/w?rd#\n")
    for given in ({"password": "p@ss/w?rd#"}, {"password_file": str(file)}):
        source = opened(uri="rtsp://cam.lan:8554/live", user="ad min", **given)
        assert isinstance(source, MediaSource)
        assert source._medium.uri == "rtsp://ad%20min:p%40ss%2Fw%3Frd%23@cam.lan:8554/live"
        assert "p%40ss" not in source._medium.name


def test_a_camera_is_asked_for_size_rate_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a camera become options of FFmpeg's capture device, and the error of a camera that cannot do it names them."""
    asked: list[dict[str, str]] = []

    def refuse(file: str, *, options: dict[str, str], **_: object) -> None:
        asked.append(options)
        raise av.error.ArgumentError(22, "Invalid argument", file)

    monkeypatch.setattr(av, "open", refuse)
    source = opened(camera="/dev/v4l/by-id/usb-Cam", mic="none", camera_size="1280x720", camera_rate=15, camera_format="mjpeg")
    with pytest.raises(CaptureError, match=r"with video_size=1280x720, framerate=15, input_format=mjpeg: .*what they can do"):
        list(source.items())
    assert asked == [{"video_size": "1280x720", "framerate": "15", "input_format": "mjpeg"}]


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_a_photo_is_no_recording(tmp_path: Path, name: str) -> None:
    """A single picture is refused as such; a run would end after no second, without a word."""
    plain = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
        "53de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
    (tmp_path / name).write_bytes(jpeg(np.zeros((48, 64, 3), np.uint8)) if name.endswith("jpg") else plain)
    source = opened(uri=str(tmp_path / name))
    with pytest.raises(CaptureError, match=f"{name} is a single picture, not a recording"):
        list(source.items())
