"""`streamav replay`: repeats a run that `streamav record` stored, through the same stages, and compares the events."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav import __version__
from streamav.cli.console import ConsoleSink, say, set_up_logging
from streamav.cli.model_options import WeightsOption
from streamav.cli.named_settings import settings_of
from streamav.cli.run_summary import tell
from streamav.config_loading import load_settings
from streamav.errors import INTERRUPTED, CaptureError, DataError, SettingsError, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from streamav.config import Settings
    from streamav.protocols import Sink
    from streamav.session import SessionCard

__all__ = ["replay"]


def replay(
    folder: Annotated[Path, typer.Argument(help="Folder that streamav record wrote.", show_default=False)],
    jsonl: Annotated[
        str | None, typer.Option("--jsonl", help='File for events, one JSON object per line; "-" for standard output.')
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the events with those of the recorded run, byte for byte; exit 7 when they differ.")
    ] = False,
    speed: Annotated[str, typer.Option("--speed", help="max is as fast as possible, 1 as it was recorded, 4 four times as fast.")] = "max",
    mqtt: Annotated[str | None, typer.Option("--mqtt", help="MQTT broker, as in streamav run.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Another model than the recorded one.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Other labels than the recorded ones.")] = None,
    weights: WeightsOption = None,
    latency: Annotated[int | None, typer.Option("--latency", min=1, max=10, help="Another latency than the recorded one.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings over the recorded ones.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides everything else; repeatable.")] = None,
    view: Annotated[bool, typer.Option("--view", help="Serve a live page for a browser on this machine; best with --speed 1.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print more log lines, and updates of events.")] = False,
) -> None:
    """Repeat a recorded run through the same stages: the same events, with the times of the recorded run, at any speed.

    A recording that was cut off is replayed up to the cut. Other options may lead to other events; the latency in the events is
    always the recorded one.

    Exit status: 0 done, 2 settings, 4 model, 5 broker, 6 engine, 7 no recording, a damaged one, or other events (--check),
    130 Ctrl-C.
    """
    from streamav.session import read_card

    console = set_up_logging(verbose=verbose)
    card = read_card(folder)
    options = settings_of(
        source=None,
        camera=None,
        mic=None,
        mqtt=mqtt,
        values={
            "jsonl": jsonl,
            "model.name": model,
            "model.weights_dir": None if weights is None else str(weights),
            "detection.latency_segments": latency,
            "detection.labels": labels,
            "view.enabled": True if view else None,
        },
    )
    settings = load_settings(config, overrides or (), options=options, defaults=card.settings)
    raise typer.Exit(_replay(settings, folder, card, _speed(speed), console, check=check, verbose=verbose))


def _replay(
    settings: Settings, folder: Path, card: SessionCard, speed: float | None, console: Console, *, check: bool, verbose: bool
) -> int:
    from streamav import app
    from streamav.app.sessions import build_replay
    from streamav.session import Transcript, read_turns

    sinks: list[Sink] = [ConsoleSink(console, updates=verbose)] if verbose or settings.jsonl != "-" else []
    transcript = Transcript(len(read_turns(folder)))
    application, sources = build_replay(settings, folder, card, speed=speed, sinks=[*sinks, transcript], book=transcript)
    transcript.model = lambda: application.model_entry
    _tell_what(card, application.model_entry.model_dump(), console)
    if application.page is not None:
        console.print(f"view: {application.page.address}", highlight=False, markup=False)
    asked: list[int] = []
    failure: CaptureError | None = None
    try:
        asyncio.run(app.run(application, on_interrupt=asked.append))
    except CaptureError as exc:
        failure = exc
    summary = application.pipeline.summary
    if summary is not None:
        tell(console, summary, application.engine.name)
    if failure is not None:
        say(console, f"the recorded run failed here: {failure}")
    cut = any(one.cut for one in sources.values())
    if cut:
        say(console, "the recording was cut off; it is replayed up to the cut")
    if application.shortfall is not None:
        say(console, f"{application.shortfall}; exit status 5")
    if asked:
        return INTERRUPTED if signal.SIGINT in asked else 0
    if check:
        _compare(folder, transcript.content(cut=cut), console, cut=cut)
    return 0 if application.shortfall is None else 5


def _tell_what(card: SessionCard, model: Mapping[str, str], console: Console) -> None:
    shown = ", ".join(f"{one.id} ({one.shown})" for one in card.sources)
    say(console, f"recorded {card.created} by streamav {card.version}: {shown}")
    if card.masks:
        say(console, f"removed before it was recorded: {', '.join(card.masks)}")
    if card.version != __version__:
        say(console, f"this is streamav {__version__}, so its events may differ")
    for key in ("name", "version", "sha256", "backend"):
        if card.model.get(key) != model[key]:
            console.print(
                f"the {key if key == 'backend' else 'model'} is another one than in the recorded run "
                f"({card.model.get(key, '')[:40]}, now {model[key][:40]}), so scores differ",
                highlight=False,
                markup=False,
            )
            break


def _compare(folder: Path, replayed: bytes, console: Console, *, cut: bool) -> None:
    """Compare with the recorded events.

    Raises:
        DataError: when they differ.
    """
    from streamav.session import compare_events
    from streamav.session.folder import EVENTS

    try:
        recorded = (folder / EVENTS).read_bytes()
    except OSError as exc:
        msg = f"{folder / EVENTS} must hold the events of the recorded run, got: {reason_of(exc)}; copy the session again"
        raise DataError(msg) from exc
    same, difference = compare_events(recorded, replayed, cut=cut)
    if difference is not None:
        msg = f"the replay must have the events of the recorded run, but {difference} ({same} messages before it are the same)"
        raise DataError(msg)
    say(console, f"check: {same} messages, the same as in the recorded run, byte for byte")


def _speed(text: str) -> float | None:
    """Read a speed: None for max.

    Raises:
        SettingsError: when it is neither max nor a number from 0.01 to 1000.
    """
    if text == "max":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 1000.0:  # noqa: PLR2004 - the bounds of the message
        msg = f"--speed must be max, or a number from 0.01 to 1000, got {text!r}"
        raise SettingsError(msg)
    return value
