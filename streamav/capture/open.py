"""Builds the source that the settings describe.

It opens nothing: a source opens its devices when its items are read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamav.capture.address import STDIN, is_live
from streamav.capture.credentials import with_password
from streamav.capture.look import Look
from streamav.errors import MissingModalityError, SettingsError
from streamav.types import SourceContent

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.capture.inlets import PictureInlet, SoundInlet
    from streamav.capture.session import Medium
    from streamav.capture.tap import PacketTap
    from streamav.clock import Clock
    from streamav.config import CaptureSettings, SourceSettings
    from streamav.protocols import Source

__all__ = ["open_source"]


def open_source(
    source: SourceSettings,
    capture: CaptureSettings,
    *,
    picture: tuple[int, int],
    frames_per_second: int,
    clock: Clock | None = None,
    tap: PacketTap | None = None,
) -> Source:
    """Build the source of a run.

    Args:
        source: what to open: a file or URL, devices, or the embedded scene.
        capture: timeouts and reconnecting.
        picture: height and width that the model takes, pixels.
        frames_per_second: F, instants of a second whose pictures are used.
        clock: monotonic; None for the clock of the machine.
        tap: receives the encoded packets of the source, whatever it is, but the embedded scene; None for nobody.

    Raises:
        SettingsError: when the settings name no source, or what cannot be joined.
        MissingModalityError: when they name a camera and say nothing of a microphone, or the other way round.
    """
    sound, seen = source.sound_track, source.picture_track
    look = Look(picture=picture, frames_per_second=frames_per_second, sound_track=sound, picture_track=seen)
    if (delay_ms := capture.audio_delay_ms) != 0:
        from streamav.capture.delayed import DelayedSource, DelayedTap

        plain = capture.model_copy(update={"audio_delay_ms": 0})
        late = None if tap is None else DelayedTap(tap, delay_ms)
        whole = open_source(source, plain, picture=picture, frames_per_second=frames_per_second, clock=clock, tap=late)
        return DelayedSource(whole, delay_ms)
    if source.scene:
        from streamav.capture.scene import DEFAULT_SCRIPT, SceneSource, make_script

        script = DEFAULT_SCRIPT if source.duration_s is None else make_script(max(1.0, source.begin_s + source.duration_s))
        return SceneSource(script, picture=picture, speed=source.speed, clock=clock, begin_s=source.begin_s)
    if source.uri is not None and source.sound_uri is None and source.mic_device is None:
        from streamav.capture.media import MediaSource

        _check_loop(source)
        wanted = SourceContent(sound=source.mic is None, picture=source.camera is None)
        look = replace(look, wanted=wanted)
        uri = with_password(source)
        begin_s = source.begin_s
        return MediaSource(uri, look, speed=source.speed, settings=capture, clock=clock, tap=tap, loop=source.loop, begin_s=begin_s)
    return _joined(source, capture, look, clock, tap)


def _check_loop(source: SourceSettings) -> None:
    uri = source.uri or ""
    if source.loop and (is_live(uri) or uri == STDIN):
        msg = "source.loop is for a file: a network stream or standard input cannot be read twice; leave loop out"
        raise SettingsError(msg)
    if source.loop and source.begin_s:
        msg = f"source.loop plays a whole file again and again; leave loop or begin_s out, got begin_s {source.begin_s}"
        raise SettingsError(msg)


def _joined(source: SourceSettings, capture: CaptureSettings, look: Look, clock: Clock | None, tap: PacketTap | None) -> Source:
    """Build a source of devices, or of pictures and sound from different places."""
    from streamav.clock import SystemClock

    if source.camera is None and source.mic is None and source.uri is None:
        msg = "a source must be named: a file or URL (--source), a camera with a microphone (--camera 0 --mic default), or --source scene"
        raise SettingsError(msg)
    if source.uri is not None and source.sound_uri is not None and not (is_live(source.uri) or is_live(source.sound_uri)):
        from streamav.capture.file_pair import FilePairSource

        return FilePairSource(with_password(source), source.sound_uri, look, speed=source.speed, settings=capture, clock=clock, tap=tap)
    for uri in (source.uri, source.sound_uri):
        if uri is not None and not is_live(uri):
            msg = "a file can be joined with another file only, because it has no time of day: name two files, or two live sources"
            raise SettingsError(msg)
    if source.sound_uri is None and (source.camera is None or source.mic is None) and source.uri is None:
        given, lacking, option = ("camera", "mic", "--mic default") if source.mic is None else ("mic", "camera", "--camera 0")
        msg = (
            f"source.{given} was given without source.{lacking}; add {option} (streamav devices lists what there is), "
            f"or --{lacking} none to run without it"
        )
        raise MissingModalityError(msg)
    from streamav.capture.pair import PairSource

    clock = clock or SystemClock()
    pictures, sound = _pictures(source, capture, look, clock), _sound(source, capture, look, clock)
    return PairSource(pictures, sound, look, settings=capture, clock=clock, tap=tap)


def _pictures(source: SourceSettings, capture: CaptureSettings, look: Look, clock: Clock) -> Callable[[], PictureInlet] | None:
    """Return what makes the pictures of a session; None when there are none."""
    from streamav.capture.camera import Camera, CameraMode
    from streamav.capture.inlets import StreamPictures

    camera = source.camera_device
    if camera is not None:
        mode = CameraMode(size=source.camera_size, rate=source.camera_rate, pixels=source.camera_format)
        return lambda: Camera(camera, clock, timeout_s=capture.timeout_s, mode=mode)
    if source.uri is None:
        return None
    medium = _medium(with_password(source), capture, look)
    return lambda: StreamPictures(medium, clock)


def _sound(source: SourceSettings, capture: CaptureSettings, look: Look, clock: Clock) -> Callable[[], SoundInlet] | None:
    """Return what makes the sound of a session; None when there is none."""
    from streamav.capture.inlets import StreamSound
    from streamav.capture.microphone import Microphone

    mic = source.mic_device
    if mic is not None:
        return lambda: Microphone(mic, clock, timeout_s=capture.timeout_s)
    if source.sound_uri is None:
        return None
    medium = _medium(source.sound_uri, capture, look)
    return lambda: StreamSound(medium, clock)


def _medium(uri: str, capture: CaptureSettings, look: Look) -> Medium:
    from streamav.capture.session import Medium

    return Medium.of(uri, look, capture)
