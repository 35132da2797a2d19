"""`streamav bench`: measures the networks of a model on every engine, a whole run, or the number of sources that one process carries.

It reads options; `streamav.bench` measures, and `bench_output` prints.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from streamav.cli.bench_output import print_early, print_run, print_search, print_stages, print_table
from streamav.cli.progress import progress
from streamav.errors import SettingsError

__all__ = ["bench"]

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
        print_early([name.strip() for name in profile.split(",")], engine, (count, trial), weights, as_json=as_json)
        return
    if stages is not None:
        sizes = (count, trial)
        print_stages(profile, engine, sizes, weights, (None if source == "scene" else source, stages), as_json=as_json)
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
        print_search(asked, first, as_json=as_json)
        return
    if source is not None:
        with progress(f"up to {duration:.0f} s of media"):
            measured = _whole_run(source, profile, engine, weights, (count, duration))
        print_run(measured, as_json=as_json)
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
    print_table(rows, count, frames, took, as_json=as_json)
    if check:
        from streamav.bench.bounds import check_bounds

        check_bounds(rows)


def _whole_run(source: str, model: str, recipe: str | None, weights: Path | None, sizes: tuple[int, float]) -> dict[str, Any]:
    """Run a file or the scene as fast as possible and return the summary; *sizes* are the threads and the seconds of media."""
    import asyncio

    from streamav import app
    from streamav.cli.named_settings import settings_of
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
