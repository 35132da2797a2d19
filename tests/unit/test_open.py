from __future__ import annotations

import subprocess
import sys

import pytest

from streamav.capture.media import MediaSource
from streamav.capture.open import open_source
from streamav.capture.pair import PairSource
from streamav.capture.scene import DEFAULT_SCRIPT, SceneSource
from streamav.config import CaptureSettings, SourceSettings
from streamav.errors import MissingModalityError, SettingsError
from streamav.protocols import Source


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
