"""`streamav bench`: measures the networks of a model on every engine, a whole run, or the number of sources that one process carries.

It reads options and prints; `streamav.bench` measures.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamav.cli.json_output import print_json
from streamav.cli.outputs import check_output
from streamav.cli.progress import progress
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
    "second_ms": "ms/segment",
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
"""Most streams in one batch; in the size of the paper's networks their pictures alone take 0.6 GB."""


def bench(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            help="Models to measure, separated by commas: starter, edge, paper, folders of bundles, or auto as in streamav run. The "
            "default is not auto, so that figures of several machines are of one model.",
        ),
    ] = "starter",
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            help="Engine recipes to measure, separated by commas; default: cpu-fp32, cpu-int8, cuda-fp16, tensorrt-fp16, if they run here.",
        ),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Number of streams in one batch; several numbers separated by commas.")] = "1",
    frames: Annotated[int, typer.Option("--frames", min=1, max=16, help="Pictures per segment.")] = 16,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=256, help="Number of threads; default: one for each usable core.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, help="About how many seconds each engine is measured; at least one pass.")
    ] = 1.5,
    weights: Annotated[Path | None, typer.Option("--weights", help="Folder with the encoders that the models do not contain.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Measure a whole run on this file; the word scene means the embedded scene.")
    ] = None,
    duration: Annotated[float, typer.Option("--duration", min=1.0, help="With --source: seconds of media to run.")] = 60.0,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with status 6 when a figure exceeds its bound in docs/performance.md.")
    ] = False,
    streams_most: Annotated[
        int | None, typer.Option("--streams", min=1, max=64, help="Find how many sources one process carries, up to this number.")
    ] = None,
    first: Annotated[int, typer.Option("--from", min=1, max=64, help="With --streams: number of sources in the first trial.")] = 1,
    trial: Annotated[float, typer.Option("--trial", min=1.0, help="With --streams: seconds that each trial is measured.")] = 20.0,
    gather: Annotated[int, typer.Option("--gather", min=0, max=500, help="With --streams: value of model.gather_ms (ms).")] = 0,
    together: Annotated[bool, typer.Option("--together", help="With --streams: the segments of all sources end at the same time.")] = False,
    early: Annotated[
        bool, typer.Option("--early", help="Measure what early pictures change (model.early): latency at 1 and 8 streams, and throughput.")
    ] = False,
    stages: Annotated[
        Path | None,
        typer.Option("--stages", help="Measure each stage with 1, 4, 16 and 64 streams, and draw the costs to this SVG file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure every network of a model for one segment of input, next to plain eager float32 torch in the same process.

    If the weights of a model are missing, random weights of the same shapes are measured, and the row is marked "random weights".

    With --source it measures a whole run instead: real-time factor, latency and peak memory.

    With --streams it finds how many real-time sources one process carries. With --source FILE each source decodes that file;
    otherwise all play a scene that was rendered before.
    """
    count = threads or len(os.sched_getaffinity(0))
    if check and (streams_most is not None or source is not None):
        msg = "--check works with the table of the networks only, got --source or --streams as well; leave out --check"
        raise SettingsError(msg)
    if early:
        _print_early([name.strip() for name in profile.split(",")], engine, (count, trial), weights, as_json=as_json)
        return
    if stages is not None:
        sizes = (count, trial)
        _print_stages(profile, engine, sizes, weights, (None if source == "scene" else source, stages), as_json=as_json)
        return
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
        with progress(f"up to {duration:.0f} s of media"):
            measured = _whole_run(source, profile, engine, weights, (count, duration))
        _print_run(measured, as_json=as_json)
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
    with progress("measurements") as show:
        rows = table_rows(wanted, show)
    took = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"rows": rows, "threads": count, "machine": _machine(), "seconds": took}, indent=None)
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
    """Search for the number of streams; print at once what is measured, then every trial when it ends, and the result."""
    from streamav.bench.streams import search

    if not as_json:
        typer.echo(
            f"{_machine()}, {asked.threads} threads, model {asked.model}; each trial takes {asked.media_s:.0f} s and some for its start"
        )
        typer.echo("".join(f"{title:>14}" for title in _STREAM_COLUMNS.values()))

    def told(trial: Trial) -> None:
        if not as_json:
            typer.echo("".join(f"{_cell(getattr(trial, key)):>14}" for key in _STREAM_COLUMNS))

    with progress("trials") as show:
        found = search(asked, first, told, lambda streams: show(0, None, f"{streams} streams for {asked.media_s:.0f} s"))
    if as_json:
        print_json({"streams": asdict(found), "request": asdict(asked), "machine": _machine()}, indent=None)
        return
    slope = found.memory_per_stream_mb
    typer.echo(
        f"carries {'at least ' if found.open_ended else ''}{found.most} streams on {found.trials[-1].engine} "
        "(no segment dropped, none thinned, "
        "p95 under 1 s)" + ("" if slope is None else f"; {slope:.1f} MB for each additional stream")
    )


_STAGE_COLUMNS = {
    "streams": "streams",
    "decode": "decode",
    "features": "features",
    "window": "window",
    "tracker": "tracker",
    "publish": "publish",
}


def _print_stages(
    model: str, recipe: str | None, sizes: tuple[int, float], weights: Path | None, files: tuple[str | None, Path], *, as_json: bool
) -> None:
    """Measure the stages; *sizes* are threads and seconds of a trial, *files* the source (or None) and the SVG to write."""
    from streamav.bench.growth import draw, measure_growth
    from streamav.bench.stages import StageCosts
    from streamav.bench.trial import TrialRequest

    check_output("--stages", files[1])
    asked = TrialRequest(
        streams=1, seconds=sizes[1], model=model, engine=recipe or "auto", weights_dir=str(weights) if weights else None, source=files[0]
    )
    if not as_json:
        typer.echo(f"{_machine()}, model {model}; processor seconds for one second of all streams")
        typer.echo("".join(f"{title:>12}" for title in _STAGE_COLUMNS.values()))

    def told(row: StageCosts) -> None:
        if not as_json:
            typer.echo("".join(f"{_cell(getattr(row, key)):>12}" for key in _STAGE_COLUMNS))

    found = measure_growth(asked, told)
    draw(found, files[1], f"{_machine()}, model {model}, {found.costs[0].engine}")
    if as_json:
        print_json({"stages": asdict(found), "machine": _machine()}, indent=None)
        return
    typer.echo(f"full first: {found.first}; the machine carries about {found.streams:.0f} streams; drawn in {files[1]}")


def _print_early(models: list[str], recipe: str | None, sizes: tuple[int, float], weights: Path | None, *, as_json: bool) -> None:
    """Measure early pictures for each model, paper in int8; *sizes* are the threads and the seconds of a trial."""
    from streamav.bench.early import EarlyRow, measure_early
    from streamav.bench.trial import TrialRequest

    threads, seconds = sizes
    rows: list[EarlyRow] = []

    def told(row: EarlyRow) -> None:
        if not as_json and not rows:
            typer.echo(f"{_machine()}, {threads} threads; late and early pictures; a full machine: medians of several pairs of trials")
        rows.append(row)
        if not as_json:
            typer.echo(row.words)

    for model in models:
        engine = recipe or ("cpu-int8" if model == "paper" else "auto")
        asked = TrialRequest(
            streams=1, seconds=seconds, model=model, engine=engine, threads=threads, weights_dir=None if weights is None else str(weights)
        )
        measure_early(asked, told)
    if as_json:
        print_json({"rows": [asdict(row) for row in rows], "threads": threads, "machine": _machine()}, indent=None)


def _print_table(rows: list[dict[str, Any]], threads: int, frames: int, took: float) -> None:
    typer.echo(
        f"{_machine()}, {threads} threads, {frames} pictures per segment; reference: eager float32 torch, run in turns with each engine"
    )
    lines = [list(_COLUMNS.values())] + [[_cell(row[key]) for key in _COLUMNS] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    for number, line in enumerate(lines):
        note = "" if number == 0 or rows[number - 1]["weights"] == "bundle" else "  random weights"
        typer.echo("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) + note)
    typer.echo(f"{took} s; drift: largest difference of a probability; decisions: share of equal decisions (docs/performance.md)")


def _whole_run(source: str, model: str, recipe: str | None, weights: Path | None, sizes: tuple[int, float]) -> dict[str, Any]:
    """Run a file or the scene as fast as possible and return the summary; *sizes* are the threads and the seconds of media."""
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
    settings = load_settings(environment={}, options=options)  # no broker and no settings from the environment, as in every measurement
    application = app.build(settings, beside=False)
    summary = asyncio.run(app.run(application))
    return {"source": show_address(source), "engine": application.engine.name, "threads": threads, **asdict(summary)}


def _print_run(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"run": row, "machine": _machine()}, indent=None)
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
    """Return the processor's name and the number of usable cores."""
    from streamav.engines.machine import processor_name

    return f"{processor_name()}, {len(os.sched_getaffinity(0))} cores"


def _batch(text: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= MOST_STREAMS:
        msg = f"--batch takes whole numbers from 1 to {MOST_STREAMS}, separated by commas, got {text!r}"
        raise SettingsError(msg)
    return int(text)


def _recipe(name: str) -> str:
    """Return the name of a recipe after loading it.

    Raises:
        EngineError: when no recipe has that name, or it is wrong.
    """
    from streamav.engines.recipe import load_recipe

    return load_recipe(name).name
