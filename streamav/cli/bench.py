"""`streamav bench`: times the networks of a model on every engine, or a whole run on a source.

It reads options and prints; `streamav.bench` measures.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from streamav.bench.trial import Trial, TrialRequest

__all__ = ["bench"]

_COLUMNS = {  # key of a row: heading
    "profile": "profile",
    "recipe": "engine",
    "backend": "backend",
    "batch": "batch",
    "frame_ms": "ms/frame",
    "second_ms": "ms/second",
    "window_ms": "ms/window",
    "event_p50_ms": "event p50",
    "event_p95_ms": "p95",
    "event_p99_ms": "p99 ms",
    "realtime_factor": "RTF",
    "streams": "streams",
    "memory_mb": "MB",
    "drift": "drift",
    "decisions": "decisions",
    "ratio_to_reference": "ratio",
}
MOST_STREAMS = 256
"""In one batch; their pictures alone take 0.6 GB in the paper's size."""


def bench(
    profile: Annotated[
        str, typer.Option("--profile", help="Models to time, by comma: starter, edge, paper, or folders of bundles.")
    ] = "starter",
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="Recipes to time, by comma; unless given, those of cpu-fp32, cpu-int8, cuda-fp16, tensorrt-fp16 that run here.",
        ),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Streams in one batch, by comma.")] = "1",
    frames: Annotated[int, typer.Option("--frames", min=1, max=16, help="Pictures of one second.")] = 16,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads; one for each core that may be used.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="About how long each engine is measured; at least one turn.")] = 1.5,
    weights: Annotated[Path | None, typer.Option("--weights", help="Folder with encoders that bundles do not hold.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Time a whole run on a file, or on the embedded scene: scene.")] = None,
    duration: Annotated[float, typer.Option("--duration", min=1.0, help="Seconds of media of a whole run.")] = 60.0,
    check: Annotated[bool, typer.Option("--check", help="End with exit status 6 when a figure is beyond its documented bound.")] = False,
    streams_most: Annotated[
        int | None, typer.Option("--streams", min=1, max=64, help="Find how many sources one process carries, up to so many.")
    ] = None,
    first: Annotated[int, typer.Option("--from", min=1, max=64, help="With --streams: how many sources to try first.")] = 1,
    trial: Annotated[float, typer.Option("--trial", min=1.0, help="With --streams: measured seconds of each trial.")] = 20.0,
    gather: Annotated[int, typer.Option("--gather", min=0, max=500, help="With --streams: model.gather_ms.")] = 0,
    together: Annotated[bool, typer.Option("--together", help="With --streams: all seconds end at the same moment.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Time every network of a model for one second of input, beside plain eager float32 torch in the same process.

    Where a profile's weights are absent, random ones of the true shapes are timed, and the row says so. With --source it
    times a whole run instead: real-time factor, latency and peak memory. With --streams it finds how many sources at the world's
    pace one process carries (--source FILE: each decodes that file; else they play a scene rendered beforehand).
    """
    count = threads or len(os.sched_getaffinity(0))
    if check and (streams_most is not None or source is not None):
        msg = "--check is for the table of the networks, not for --source or --streams; leave it out"
        raise SettingsError(msg)
    if streams_most is not None:
        from streamav.bench.trial import TrialRequest

        asked = TrialRequest(
            streams=streams_most,
            seconds=trial,
            model=profile,
            engine=engine or "auto",
            threads=count,
            weights_dir=str(weights) if weights else None,
            source=None if source == "scene" else source,
            gather_ms=gather,
            together=together,
        )
        _print_search(asked, first, as_json=as_json)
        return
    if source is not None:
        _print_run(_whole_run(source, profile, engine, weights, (count, duration)), as_json=as_json)
        return
    batches = [_batch(text) for text in batch.split(",")]
    named = None if engine is None else [_recipe(text.strip()) for text in engine.split(",")]
    from streamav.bench.table import TableRequest, runnable, table_rows

    wanted = TableRequest(
        models=[name.strip() for name in profile.split(",")],
        recipes=runnable() if named is None else named,
        batches=batches,
        threads=count,
        frames=frames,
        budget_s=seconds,
        weights=weights,
    )
    began = time.monotonic()
    rows = table_rows(wanted)
    took = round(time.monotonic() - began, 1)
    if as_json:
        typer.echo(json.dumps({"rows": rows, "threads": count, "machine": _machine(), "seconds": took}))
    else:
        _print_table(rows, count, frames, took)
    if check:
        from streamav.bench.bounds import check_bounds

        check_bounds(rows)


_STREAM_COLUMNS = {
    "streams": "streams",
    "load": "load",
    "realtime_factor": "of one stream",
    "latency_p50_s": "p50, s",
    "latency_p95_s": "p95, s",
    "latency_p99_s": "p99, s",
    "dropped": "dropped, s",
    "thinned": "thinned, s",
    "memory_mb": "memory, MB",
    "processor_s": "CPU-s in 1 s",
    "carried": "carried",
}


def _print_search(asked: TrialRequest, first: int, *, as_json: bool) -> None:
    """Search for the number of streams; print every trial as it ends, and the result."""
    from streamav.bench.streams import search

    shown = 0

    def told(trial: Trial) -> None:
        nonlocal shown
        if not as_json:
            if not shown:
                typer.echo(f"{_machine()}, {trial.threads} threads, model {asked.model}, engine {trial.engine}")
                typer.echo("".join(f"{title:>14}" for title in _STREAM_COLUMNS.values()))
            typer.echo("".join(f"{_cell(getattr(trial, key)):>14}" for key in _STREAM_COLUMNS))
        shown += 1

    found = search(asked, first, told)
    if as_json:
        typer.echo(json.dumps({"streams": asdict(found), "request": asdict(asked), "machine": _machine()}))
        return
    slope = found.memory_per_stream_mb
    typer.echo(
        f"carries {'at least ' if found.open_ended else ''}{found.most} streams (nothing dropped, nothing thinned, p95 under 1 s)"
        + ("" if slope is None else f"; {slope:.1f} MB for each further stream")
    )


def _print_table(rows: list[dict[str, Any]], threads: int, frames: int, took: float) -> None:
    typer.echo(f"{_machine()}, {threads} threads, {frames} pictures a second; reference: eager float32 torch, in turns with each engine")
    lines = [list(_COLUMNS.values())] + [[_cell(row[key]) for key in _COLUMNS] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    for number, line in enumerate(lines):
        note = "" if number == 0 or rows[number - 1]["weights"] == "bundle" else "  random weights"
        typer.echo("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) + note)
    typer.echo(f"{took} s; drift: largest difference of a probability; decisions: share of seconds decided alike (docs/performance.md)")


def _whole_run(source: str, model: str, recipe: str | None, weights: Path | None, sizes: tuple[int, float]) -> dict[str, Any]:
    """Run a source as fast as the machine goes, or the scene for so long, and give the summary; *sizes* are threads and seconds."""
    import asyncio

    from streamav import app
    from streamav.cli.run import settings_of
    from streamav.config_loading import load_settings
    from streamav.redaction import show_address

    threads, duration = sizes
    values: dict[str, object] = {"source.duration_s": duration, "source.speed": "max", "model.name": model, "model.threads": threads}
    if recipe is not None:
        values["model.engine"], _, values["model.precision"] = _recipe(recipe).partition("-")
    if weights is not None:
        values["model.weights_dir"] = str(weights)
    options = settings_of(source=source, camera=None, mic=None, mqtt=None, values=values)
    settings = load_settings(environment={}, options=options)  # as in every other measurement: no broker and no setting of a run
    application = app.build(settings, beside=False)
    summary = asyncio.run(app.run(application))
    return {"source": show_address(source), "engine": application.engine.name, "threads": threads, **asdict(summary)}


def _print_run(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"run": row, "machine": _machine()}))
        return
    for key, value in row.items():
        typer.echo(f"{key:>18}  {_cell(value)}")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _machine() -> str:
    """Name the processor and how many cores may be used."""
    from streamav.engines.machine import processor_name

    return f"{processor_name()}, {len(os.sched_getaffinity(0))} cores"


def _batch(text: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= MOST_STREAMS:
        msg = f"--batch takes whole numbers of 1 to {MOST_STREAMS}, by comma, got {text!r}"
        raise SettingsError(msg)
    return int(text)


def _recipe(name: str) -> str:
    """Give the name of a recipe back.

    Raises:
        EngineError: when there is none of that name, or it is wrong.
    """
    from streamav.engines.recipe import load_recipe

    return load_recipe(name).name
