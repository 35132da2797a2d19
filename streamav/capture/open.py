"""Builds the source that the settings describe.

It opens nothing: a source opens its devices when its items are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.capture.look import Look
from streamav.errors import MissingModalityError, SettingsError

if TYPE_CHECKING:
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
        source: what to open: a file or URL, a camera with a microphone, or the embedded scene.
        capture: timeouts and reconnecting.
        picture: height and width that the model takes, pixels.
        frames_per_second: F, instants of a second whose pictures are used.
        clock: monotonic; None for the clock of the machine.
        tap: receives the encoded packets of a file or network stream; None for nobody.

    Raises:
        SettingsError: when the settings name no source.
        MissingModalityError: when they name a camera without a microphone, or the other way round.
    """
    look = Look(picture=picture, frames_per_second=frames_per_second)
    if (delay_ms := capture.audio_delay_ms) != 0:
        from streamav.capture.delayed import DelayedSource, DelayedTap

        plain = capture.model_copy(update={"audio_delay_ms": 0})
        late = None if tap is None else DelayedTap(tap, delay_ms)
        whole = open_source(source, plain, picture=picture, frames_per_second=frames_per_second, clock=clock, tap=late)
        return DelayedSource(whole, delay_ms)
    if source.scene:
        from streamav.capture.scene import DEFAULT_SCRIPT, SceneSource, make_script

        script = DEFAULT_SCRIPT if source.duration_s is None else make_script(max(1.0, source.duration_s))
        return SceneSource(script, picture=picture, speed=source.speed, clock=clock)
    if source.uri is not None:
        from streamav.capture.media import MediaSource

        return MediaSource(source.uri, look, speed=source.speed, settings=capture, clock=clock, tap=tap)
    if source.camera is not None and source.mic is not None:
        from streamav.capture.pair import PairSource

        return PairSource(source.camera, source.mic, look, settings=capture, clock=clock, tap=tap)
    if source.camera is not None or source.mic is not None:
        given, lacking = ("camera", "mic") if source.camera is not None else ("mic", "camera")
        option = "--mic default" if lacking == "mic" else "--camera 0"
        msg = (
            f"streamav needs sound and picture together: source.{given} was given without source.{lacking}; "
            f"add {option} (streamav devices lists what there is)"
        )
        raise MissingModalityError(msg)
    msg = "a source must be named: a file or URL (--source), a camera with a microphone (--camera 0 --mic default), or --source scene"
    raise SettingsError(msg)
