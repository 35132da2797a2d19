"""`streamav record`: runs like `streamav run` and stores what it saw and heard, so that `streamav replay` can repeat it."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streamav.cli.console import ConsoleSink, say, set_up_logging
from streamav.cli.model_options import WeightsOption
from streamav.cli.named_settings import check_named, settings_of
from streamav.cli.run_summary import failed_at_once, tell
from streamav.config_loading import load_settings
from streamav.errors import INTERRUPTED, DataError, SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from streamav.app.sessions import MaskName, Recording
    from streamav.config import Settings
    from streamav.protocols import Sink
    from streamav.session import SessionCard

__all__ = ["record"]

_UNITS = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def record(
    out: Annotated[Path, typer.Option("--out", help="Folder of the recording, new or empty.", show_default=False)],
    source: Annotated[
        str | None, typer.Option("--source", help="File or address, as in streamav run; or an earlier recording, to copy it.")
    ] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Camera: a number, a path, or a part of its name.")] = None,
    mic: Annotated[str | None, typer.Option("--mic", help='Microphone: "default", a number, or a part of its name.')] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Hide faces, and remove sound above the telephone band. Speech can still be understood.")
    ] = False,
    mute_speech: Annotated[
        bool, typer.Option("--mute-speech", help="Silence the seconds in which a voice may be heard; may be combined with --redact.")
    ] = False,
    max_bytes: Annotated[
        str, typer.Option("--max-bytes", help="End when the recording has this size: a number, or one with K, M or G.")
    ] = "2G",
    duration: Annotated[float | None, typer.Option("--duration", min=0.1, help="Stop after this many seconds of media.")] = None,
    name: Annotated[str | None, typer.Option("--id", help="Id of the source.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of a model, or the folder of a bundle.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Presets and single labels, separated by commas.")] = None,
    weights: WeightsOption = None,
    latency: Annotated[int | None, typer.Option("--latency", min=1, max=10, help="Seconds until a score is final.")] = None,
    speed: Annotated[
        Literal["1", "max"] | None, typer.Option("--speed", help="For a file: 1 is its own pace, max (the default) as fast as possible.")
    ] = None,
    jsonl: Annotated[
        str | None, typer.Option("--jsonl", help='Also write the events to this file, one JSON object per line; "-" for standard output.')
    ] = None,
    mqtt: Annotated[str | None, typer.Option("--mqtt", help="MQTT broker, as in streamav run.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings; options override it.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides everything else; repeatable.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print more log lines, and updates of events.")] = False,
) -> None:
    """Record a run: its pictures and sound without loss at the model's size, the times of their arrival, and its events.

    `streamav replay DIR` repeats the run with the same events. Use it for bug reports. Ctrl-C ends the recording in order; a
    recording that was killed is complete up to the kill. A recording holds pictures and sound of your place: read docs/record.md
    before you share it. To share an earlier recording without faces: streamav record --source DIR --redact --out COPY

    Exit status: 0 done, 2 settings, 3 source, 4 model, 6 engine, 7 the recording cannot be written, 130 Ctrl-C.
    """
    from streamav.session import is_session, read_card

    console = set_up_logging(verbose=verbose)
    earlier = Path(source) if source is not None and is_session(source) else None
    options = settings_of(
        source=None if earlier is not None else source,
        camera=camera,
        mic=mic,
        mqtt=mqtt,
        values={
            "jsonl": jsonl,
            "source.id": name if earlier is None else None,
            "source.speed": speed,
            "source.duration_s": duration,
            "model.name": model,
            "model.weights_dir": None if weights is None else str(weights),
            "detection.latency_segments": latency,
            "detection.labels": labels,
        },
    )
    session = None if earlier is None else (earlier, read_card(earlier))
    defaults: dict[str, Any] = {} if session is None else dict(session[1].settings)
    if session is None and source is not None:
        defaults = {"source": {"speed": "max"}}  # nobody watches a file pass by while it is recorded
    settings = load_settings(config, overrides or (), options=options, defaults=defaults)
    if session is None:
        check_named(settings)
    masks: list[MaskName] = [*(("faces", "band") if redact else ()), *(("speech",) if mute_speech else ())]
    raise typer.Exit(_record(settings, out, _bytes(max_bytes), masks, session, console, verbose=verbose))


def _record(
    settings: Settings,
    out: Path,
    most_bytes: int,
    masks: list[MaskName],
    session: tuple[Path, SessionCard] | None,
    console: Console,
    *,
    verbose: bool,
) -> int:
    from streamav import app
    from streamav.app.sessions import build_recording

    sinks: list[Sink] = [ConsoleSink(console, updates=verbose)] if verbose or settings.jsonl != "-" else []
    made = build_recording(settings, out, most_bytes=most_bytes, masks=masks, sinks=sinks, session=session)
    for sentence in made.application.notes:
        say(console, sentence)
    removed = {"faces": "faces are hidden", "band": "sound above 3.4 kHz is removed", "speech": "speech is muted"}
    if masks:
        say(console, f"what is recorded is changed: {', '.join(removed[one] for one in masks)}")
    say(console, f"recording to {out}, at most {most_bytes / 1e6:.0f} MB; Ctrl-C ends it")
    asked: list[int] = []
    try:
        asyncio.run(app.run(made.application, on_interrupt=asked.append))
    finally:
        made.recorder.close()
        _say(made, out, console)
    if made.recorder.failed:
        from streamav.session import is_session

        rest = "free space or choose another folder. What is recorded can be replayed" if is_session(out) else "record again"
        msg = f"the recording ends early: {made.recorder.ended}; {rest}"
        raise DataError(msg)
    return INTERRUPTED if signal.SIGINT in asked else 0


def _say(made: Recording, out: Path, console: Console) -> None:
    summary = made.application.pipeline.summary
    if summary is not None:
        tell(console, summary, made.application.engine.name)
    ended = made.recorder.ended
    if ended is not None and not made.recorder.failed:
        say(console, f"the recording ended before its source: {ended}")
    if made.recorder.failed:  # what to do about it follows
        return
    if summary is not None and failed_at_once(summary):  # there is nothing to repeat, and the error follows
        return
    say(console, f"recorded {made.recorder.size / 1e6:.1f} MB; repeat it with: streamav replay {out}")


def _bytes(text: str) -> int:
    """Read a size such as 500M.

    Raises:
        SettingsError: when it is none, or below 1 MB.
    """
    found = re.fullmatch(r"(\d{1,15})\s*([KMG]?)B?", text.strip().upper())
    size = 0 if found is None else int(found[1]) * _UNITS[found[2]]
    if size < _UNITS["M"]:
        msg = f"--max-bytes must be a size of at least 1M, such as 500M or 2G, got {text!r}"
        raise SettingsError(msg)
    return size
