"""`streamav run`: detects events in one source or several and publishes them.

It turns options into settings and prints; `streamav.app` does everything else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.capture.address import is_live
from streamav.cli.console import ConsoleSink, say, set_up_logging
from streamav.cli.logs import LogSink
from streamav.cli.model_options import WeightsOption
from streamav.cli.named_settings import check_named, settings_of
from streamav.cli.outputs import check_output, write_output
from streamav.cli.run_summary import tell
from streamav.config import EngineChoice, PrecisionChoice
from streamav.config_loading import load_settings
from streamav.errors import INTERRUPTED, BrokerError
from streamav.output_settings import LogForm
from streamav.publish.state_folder import default_state_dir
from streamav.redaction import has_secret
from streamav.support.kept_log import KeptLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from streamav.config import Settings
    from streamav.protocols import Engine, Sink

__all__ = ["run"]

_PAGE_ENDED = (
    "the live page ended with the file; `streamav localize FILE --html report.html` writes one that stays, "
    "and --loop plays the file again and again"
)
_log = logging.getLogger(__name__)


def run(
    source: Annotated[
        str | None,
        typer.Option("--source", help="File, address (rtsp://, http://, udp://, srt:// ...), - (standard input), or scene (embedded)."),
    ] = None,
    camera: Annotated[
        str | None, typer.Option("--camera", help="Camera: a number, a path, a part of its name (see streamav devices), or none.")
    ] = None,
    mic: Annotated[
        str | None,
        typer.Option("--mic", help='Microphone: "default", a number, a part of its name, or none. With --source: its sound.'),
    ] = None,
    sound_source: Annotated[
        str | None,
        typer.Option("--sound-source", help="Address or file whose sound is taken, with the pictures of --source or --camera."),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Play a file again and again.")] = False,
    camera_size: Annotated[str | None, typer.Option("--camera-size", help="Width and height that the camera sends: 1280x720.")] = None,
    camera_rate: Annotated[float | None, typer.Option("--camera-rate", help="Pictures a second that the camera sends.")] = None,
    camera_format: Annotated[
        str | None, typer.Option("--camera-format", help="How the camera sends pictures: mjpeg, yuyv422, h264 (see streamav devices).")
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(
            "--mqtt", help="MQTT broker: mqtt://[user@]host[:port][/base], or mqtts:// for TLS; parts left out are taken from the settings."
        ),
    ] = None,
    jsonl: Annotated[
        str | None, typer.Option("--jsonl", help='File for events, one JSON object per line; "-" for standard output.')
    ] = None,
    name: Annotated[str | None, typer.Option("--id", help="Id of the source: its name in the MQTT topics.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Name of a model (auto, starter, edge, paper), or the folder of a bundle.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Presets (home, ave28, all24, model) and single labels, separated by commas (see streamav labels)."),
    ] = None,
    weights: WeightsOption = None,
    engine: Annotated[
        EngineChoice | None, typer.Option("--engine", help="Engine that runs the networks; auto is the fastest that works here.")
    ] = None,
    precision: Annotated[
        PrecisionChoice | None, typer.Option("--precision", help="Precision of the networks' numbers; auto is the engine's default.")
    ] = None,
    latency: Annotated[
        int | None, typer.Option("--latency", min=1, max=10, help="Seconds until a score is final: 1 is fastest, 10 is most certain.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=0.1, help="Stop after this many seconds of media (whole segments).")
    ] = None,
    speed: Annotated[
        Literal["1", "max"] | None, typer.Option("--speed", help="For a file: 1 is its own pace, max is as fast as possible.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings; options override it.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides everything else; repeatable.")] = None,
    report: Annotated[
        Path | None, typer.Option("--summary", help="Write counts, latencies and speed of the run to this JSON file at the end.")
    ] = None,
    view: Annotated[
        bool, typer.Option("--view", help="Serve a live page for a browser on this machine, and print its address (docs/view.md).")
    ] = False,
    view_port: Annotated[
        int | None,
        typer.Option("--view-port", min=0, max=65535, help="Port of the live page; 0 takes a free one. Without it: 8734, or a free one."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Spread the sources over a running Ray cluster: auto, or HOST:PORT (docs/scale.md)."),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            "--http", help="Serve the HTTP API and metrics at ADDRESS:PORT, such as 127.0.0.1:8735, or a port alone (docs/operations.md)."
        ),
    ] = None,
    log_format: Annotated[
        LogForm | None,
        typer.Option(
            "--log-format", help="auto: journal under systemd, else text. json: one object a line. journal: text with priorities."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print more log lines, and updates of events.")] = False,
) -> None:
    """Detect events that are heard and seen at the same time in a source, and publish them.

    Name a source with --source, or with --camera and --mic. The sound may come from another place (--mic or --sound-source beside
    --source). A source without picture finds only labels of kind sound; a source without sound finds no event.

    A configuration file may name several sources ([[sources]]); options for one source are then refused.

    The broker's password comes from STREAMAV_MQTT_PASSWORD or from a file (mqtt.password_file). Ctrl-C or SIGTERM ends the open
    events, then the run; a second one ends the run at once. With --config and without a terminal, SIGHUP reads the file again
    (docs/operations.md). Exit status: 0 done, 2 settings, 3 source, 4 model, 5 broker (also when messages were not delivered or a
    file lacks events at the end), 6 engine, 130 Ctrl-C.
    """
    began_s = time.monotonic()
    console = set_up_logging(verbose=verbose, form=log_format or "auto")
    check_output("--summary", report)
    check_output("--jsonl", None if jsonl in {None, "-"} else Path(str(jsonl)))
    options = settings_of(
        source=source,
        camera=camera,
        mic=mic,
        sound_source=sound_source,
        mqtt=mqtt,
        values={
            "jsonl": jsonl,
            "source.id": name,
            "source.speed": speed,
            "source.loop": loop or None,
            "source.camera_size": camera_size,
            "source.camera_rate": camera_rate,
            "source.camera_format": camera_format,
            "source.duration_s": duration,
            "model.name": model,
            "model.weights_dir": None if weights is None else str(weights),
            "model.engine": engine,
            "model.precision": precision,
            "detection.latency_segments": latency,
            "detection.labels": labels,
            "view.enabled": True if view or view_port is not None else None,
            "view.port": view_port,
            "http.listen": http,
            "log.format": log_format,
        },
    )
    settings = load_settings(config, overrides or (), options=options)
    if settings.log.format != (log_format or "auto"):
        console = set_up_logging(verbose=verbose, form=settings.log.format)
    if any(has_secret(text) for text in (source or "", sound_source or "", *(overrides or ()))):
        _log.warning(
            "an address on the command line contains a password, and other users of the machine can read it in the list of processes: "
            "put the address into STREAMAV_SOURCE_URI, or into the file of --config"
        )
    if cluster is not None:
        from streamav.cli.cluster import run_on

        check_named(settings)
        raise typer.Exit(run_on(cluster, settings, console, report))
    with KeptLog(settings.state_dir or default_state_dir()) if settings.log.keep else nullcontext():

        def read() -> Settings:
            found = load_settings(config, overrides or (), options=options)
            check_named(found)
            return found

        from streamav import app

        reload = read if config is not None and not app.has_terminal() else None
        hung_up = (lambda: False) if reload is None else app.hold_hangups()
        code = _run(settings, console, report, reload, hung_up, verbose=verbose, began_s=began_s)
    raise typer.Exit(code)


def _run(
    settings: Settings,
    console: Console,
    report: Path | None,
    read: Callable[[], Settings] | None,
    hung_up: Callable[[], bool],
    *,
    verbose: bool,
    began_s: float,
) -> int:
    """Build the run, run it, and print its summary; return the exit status.

    *read* reads a file of settings again at SIGHUP, None where SIGHUP ends the run; *hung_up* returns whether one came meanwhile.
    """
    from streamav import app

    told: Sink = LogSink(updates=verbose) if settings.log.format == "json" else ConsoleSink(console, updates=verbose)
    sinks = [told] if verbose or settings.jsonl != "-" else []
    check_named(settings)
    application = app.build(settings, sinks, journal=True)
    if settings.mqtt is None:
        say(console, "no broker is named (--mqtt), so events go to " + ("the terminal" if settings.jsonl is None else settings.jsonl))
    for sentence in application.notes:
        say(console, sentence)
    card = application.bundle.card
    say(
        console,
        f"ready after {time.monotonic() - began_s:.1f} s: {_named(list(application.sources))}, model {card.name} {card.version} "
        f"({len(card.classes)} classes), engine {_engine_words(application.engine)}; scores come after 2 s, provisional ones until 10 s",
    )
    if application.page is not None:
        console.print(f"view: {application.page.address}", highlight=False, markup=False)
    if application.api is not None:
        console.print(f"http: {application.api.address}", highlight=False, markup=False)
    asked: list[int] = []

    def note(number: int) -> None:
        asked.append(number)
        console.print("ending the run; a second signal ends it at once")

    try:
        reload = (
            None if read is None or application.exchange is None else app.Reload(read, settings, application.controls, application.exchange)
        )
        asyncio.run(app.run(application, on_interrupt=note, reload=reload, hung_up=hung_up))
    finally:  # a failed source ends the run with its error; the summary is printed all the same
        summary = application.pipeline.summary
        if summary is not None:
            tell(console, summary, application.engine.name)
        played = summary is not None and summary.media_s > 0.0
        if played and application.page is not None and not asked and settings.source.uri is not None and not is_live(settings.source.uri):
            say(console, _PAGE_ENDED)
        if summary is not None and report is not None:
            write_output(report, json.dumps({**asdict(summary), "engine": application.engine.name}, indent=1) + "\n")
    if application.shortfall is not None:
        say(console, f"{application.shortfall}; exit status {BrokerError.exit_code}")
    return INTERRUPTED if signal.SIGINT in asked else 0 if application.shortfall is None else BrokerError.exit_code


def _named(ids: Sequence[str]) -> str:
    return f"source {ids[0]}" if len(ids) == 1 else f"{len(ids)} sources ({', '.join(ids)})"


def _engine_words(engine: Engine) -> str:
    from streamav.engines import SwapEngine

    return f"{engine.name} until {engine.coming} is built" if isinstance(engine, SwapEngine) else engine.name
