"""`streamav sync-check`: measures by how much the sound of a source is late, and writes the setting that takes it out."""

from __future__ import annotations

import re
import threading
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.console import set_up_logging
from streamav.cli.json_output import print_json
from streamav.cli.named_settings import check_named, settings_of
from streamav.cli.outputs import check_output
from streamav.config_loading import load_settings
from streamav.errors import SettingsError, reason_of
from streamav.files import write_whole

if TYPE_CHECKING:
    from rich.console import Console

    from streamav.config import OneOfSources
    from streamav.sync import Skew

__all__ = ["sync_check"]

_LIVE_S = 20.0
"""Default time to watch a live source, s (our choice)."""
_FILE_S = 120.0
"""Most time of a file that is watched, s (our choice)."""
_TABLE = re.compile(r"^\s*\[capture\]\s*(#.*)?$")
_ANY_TABLE = re.compile(r"^\s*\[")
_KEY = re.compile(r"^\s*audio_delay_ms\s*=")


def sync_check(
    source: Annotated[str | None, typer.Option("--source", help="File or address with the flashes and beeps.")] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Camera: a number, a path, or a part of its name.")] = None,
    mic: Annotated[str | None, typer.Option("--mic", help='Microphone: "default", a number, or a part of its name.')] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file that names the source.")] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=3.0, max=600.0, help="Seconds to watch. Default: 20 live, at most 120 of a file.")
    ] = None,
    make: Annotated[
        Path | None, typer.Option("--make", help="Write a clip (MP4) of flashes and beeps to play in front of the camera; measure nothing.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", help="Write capture.audio_delay_ms into this TOML file, new or with other settings.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeatable.")] = None,
) -> None:
    """Measure how late the sound of a source is compared with its picture, from flashes and beeps.

    Play the clip of --make on a telephone in front of the camera (no Bluetooth loudspeaker), or name a recording of it with --source.
    A positive result means that the sound is late. The measurement ignores a delay that is already set (capture.audio_delay_ms).

    Exit status: 0 done, 2 settings, 3 the source cannot be read, or has no flashes or no beeps.
    """
    console = set_up_logging(verbose=False)
    if make is not None:
        _make(make, console)
        return
    check_output("--write", write)
    if write is not None:
        _with_delay(_read(write), 0)  # refuse before measuring what cannot be changed
    settings = load_settings(
        config, overrides or (), options=settings_of(source=source, camera=camera, mic=mic, mqtt=None, values={"source.speed": "max"})
    )
    check_named(settings)
    if settings.sources:
        msg = f"sync-check measures one source, and {config} names {len(settings.sources)}; name one with --source, or --camera and --mic"
        raise SettingsError(msg)
    (one,) = settings.each_source()
    skew, period_ms = _measure(one, duration, console)
    if as_json:
        print_json({**asdict(skew), "picture_ms": round(period_ms, 1)}, indent=None)
    else:
        _print(skew, period_ms)
    if not skew.certain:
        console.print(
            "the result is not certain: watch longer (--duration), darken the room, bring the loudspeaker nearer", highlight=False
        )
    if write is not None:
        _write(write, skew, console)


def _make(path: Path, console: Console) -> None:
    from streamav.sync import make_clip

    if path.suffix.lower() != ".mp4":
        msg = f"--make must name an MP4 file, got {path}; name it clip.mp4"
        raise SettingsError(msg)
    check_output("--make", path)
    times = make_clip(path)
    console.print(
        f"wrote {path}: 30 s, {len(times)} flashes with beeps. Play it in full screen in front of the camera, with the loudspeaker near "
        "the microphone, and run: streamav sync-check --source ADDRESS",
        highlight=False,
        markup=False,
    )


def _measure(one: OneOfSources, duration: float | None, console: Console) -> tuple[Skew, float]:
    """Watch the source; return the skew and the usual time between two pictures, ms."""
    from streamav.capture import open_source
    from streamav.sync import Beeps, Flashes, measure_skew
    from streamav.sync.flashes import PICTURE, PICTURES_PER_SECOND
    from streamav.types import AudioBlock, VideoFrame

    capture = one.capture.model_copy(update={"audio_delay_ms": 0})
    source = open_source(one, capture, picture=PICTURE, frames_per_second=PICTURES_PER_SECOND)
    limit_s = duration or one.duration_s or (_LIVE_S if source.live else _FILE_S)
    if source.live:
        console.print(f"watching for {limit_s:g} s; play the clip of sync-check --make now", highlight=False)
    flashes, beeps = Flashes(), Beeps()
    stop = threading.Timer(2 * limit_s + 30.0, source.close)  # a source that sends only one kind, or nothing
    stop.daemon = True
    stop.start()
    try:
        for item in source.items():
            if isinstance(item, AudioBlock):
                beeps.push(item)
            elif isinstance(item, VideoFrame):
                flashes.push(item)
            if not isinstance(item, (AudioBlock, VideoFrame)):
                continue
            if item.end_ns > limit_s * 1e9:
                break
    finally:
        stop.cancel()
        source.close()
    return measure_skew(flashes.places_ns(), beeps.onsets_ns()), flashes.period_ns / 1e6


def _print(skew: Skew, period_ms: float) -> None:
    late = "sound is late" if skew.skew_ms > 0 else "sound is early" if skew.skew_ms < 0 else "in step"
    typer.echo(f"skew {skew.skew_ms:+.0f} ms ({late}), spread {skew.spread_ms:.0f} ms over {skew.pairs} pairs")
    typer.echo(
        f"{skew.flashes} flashes, {skew.beeps} beeps, a picture every {period_ms:.0f} ms, {'certain' if skew.certain else 'not certain'}"
    )


def _write(path: Path, skew: Skew, console: Console) -> None:
    """Write the delay into a TOML file.

    Raises:
        SettingsError: when the measurement is not certain, or the delay is out of range.
    """
    if not skew.certain:
        msg = "--write takes a certain measurement only, so nothing was written; measure again"
        raise SettingsError(msg)
    delay_ms = round(skew.skew_ms)
    write_whole(path, _with_delay(_read(path), delay_ms))
    console.print(
        f"capture.audio_delay_ms = {delay_ms} is in {path}; use it with: streamav run --config {path}", highlight=False, markup=False
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"--write must name a readable TOML file, got {path}: {reason_of(exc)}"
        raise SettingsError(msg) from exc


def _with_delay(text: str, delay_ms: int) -> str:
    """Return the text of a TOML file with the delay in its table [capture]; every other line stays as it is.

    Raises:
        SettingsError: when the file is no TOML, or holds [capture] in a way that is not one table.
    """
    lines, line = text.splitlines(), f"audio_delay_ms = {delay_ms}"
    first = next((number for number, one in enumerate(lines) if _TABLE.match(one)), None)
    if first is None:
        made = [*lines, *([""] if lines and lines[-1].strip() else []), "[capture]", line]
    else:
        end = next((number for number in range(first + 1, len(lines)) if _ANY_TABLE.match(lines[number])), len(lines))
        body = [one for one in lines[first + 1 : end] if not _KEY.match(one)]
        made = [*lines[: first + 1], line, *body, *lines[end:]]
    changed = "\n".join(made) + "\n"
    try:
        before, after = tomllib.loads(text), tomllib.loads(changed)
    except tomllib.TOMLDecodeError as exc:
        msg = f"--write must name a TOML file, got: {exc}; write capture.audio_delay_ms = {delay_ms} by hand"
        raise SettingsError(msg) from exc
    wanted = {**before, "capture": {**before.get("capture", {}), "audio_delay_ms": delay_ms}}
    if after != wanted:
        msg = f"--write cannot change this file without changing other settings; write capture.audio_delay_ms = {delay_ms} by hand"
        raise SettingsError(msg)
    return changed
