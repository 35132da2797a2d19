"""`streamav bench`: times the networks of a model on every engine, or a whole run on a source.

It starts one process for each row (`streamav.bench.row`), so that memory and threads are each engine's own, and prints.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from streamav.bench.process import ask
from streamav.errors import EngineError, ModelError, SettingsError

if TYPE_CHECKING:
    from streamav.bench.row import RowRequest

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
ROW_TIMEOUT_S = 300
MOST_STREAMS = 256
"""In one batch; their pictures alone take 0.6 GB in the paper's size."""
_RECIPES = ("cpu-fp32", "cpu-int8", "cuda-fp16", "tensorrt-fp16")
"""What is timed unless said otherwise, where the machine can run it."""


def bench(
    profile: Annotated[
        str, typer.Option("--profile", help="Models to time, by comma: starter, edge, paper, or folders of bundles.")
    ] = "starter",
    engine: Annotated[
        str | None,
        typer.Option("--engine", help=f"Recipes to time, by comma; of {', '.join(_RECIPES)} what this machine can run unless given."),
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
        from streamav.bench.streams import bench_streams
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
        bench_streams(asked, first=first, machine=_machine(), as_json=as_json)
        return
    if source is not None:
        _print_run(_whole_run(source, profile, engine, weights, (count, duration)), as_json=as_json)
        return
    batches = [_batch(text) for text in batch.split(",")]
    recipes = _runnable() if engine is None else [_recipe(text.strip()) for text in engine.split(",")]
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="streamav-bench-") as scratch:
        for name in profile.split(","):
            model = _model(name.strip(), Path(scratch), weights)
            for streams in batches:
                made = [_request(model, recipe, weights, (count, frames, streams), seconds) for recipe in recipes]
                rows += [{"profile": name.strip(), "weights": model.note} | row for row in _profile_rows(made)]
    took = round(time.monotonic() - began, 1)
    if as_json:
        typer.echo(json.dumps({"rows": rows, "threads": count, "machine": _machine(), "seconds": took}))
    else:
        _print_table(rows, count, frames, took)
    if check:
        _check(rows)


class _Model(NamedTuple):
    """What is timed."""

    folder: Path
    cache: Path | None
    """For its engines; None for the user's own."""
    note: str
    """bundle, or random: weights that are not at hand."""


def _runnable() -> list[str]:
    """Return the recipes of the table that this machine can run."""
    from streamav.engines.recipe import find_recipe, recipe_names
    from streamav.engines.selection import maker_of

    there = filter(None, (find_recipe(name) for name in _RECIPES if name in recipe_names()))
    return [recipe.name for recipe in there if maker_of(recipe).problem(recipe) is None]


def _print_table(rows: list[dict[str, Any]], threads: int, frames: int, took: float) -> None:
    typer.echo(f"{_machine()}, {threads} threads, {frames} pictures a second; reference: eager float32 torch, in turns with each engine")
    lines = [list(_COLUMNS.values())] + [[_cell(row[key]) for key in _COLUMNS] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    for number, line in enumerate(lines):
        note = "" if number == 0 or rows[number - 1]["weights"] == "bundle" else "  random weights"
        typer.echo("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) + note)
    typer.echo(f"{took} s; drift: largest difference of a probability; decisions: share of seconds decided alike (docs/performance.md)")


def _check(rows: list[dict[str, Any]]) -> None:
    """Compare rows with the bounds of docs/performance.md: those of each profile, in what runs it unless something else is asked for.

    Raises:
        EngineError: when one is beyond its bound.
        SettingsError: when none of the rows has a bound.
    """
    cpu = [row for row in rows if row["engine"] == "cpu"]
    bounds = [
        ("starter, one second of one stream in float32, ms", 60.0, _least(cpu, "second_ms", profile="starter", batch=1, precision="fp32")),
        (
            "paper in int8, real-time factor of the networks",
            0.8,
            _least(cpu, "realtime_factor", profile="paper", batch=1, precision="int8"),
        ),
    ]
    for profile in dict.fromkeys(row["profile"] for row in cpu):
        window = f"localize_window of {profile}"
        bounds.append((f"{window}, one stream, ms", 2.0, _least(cpu, "window_ms", profile=profile, batch=1)))
        bounds.append((f"{window}, 16 streams, ms a stream", 0.5, _least(cpu, "window_ms", profile=profile, batch=16, share=16)))
    checked = [(what, most, got) for what, most, got in bounds if got is not None]
    if not checked:
        msg = "--check needs rows that have a bound (docs/performance.md): a cpu engine, and a batch of 1 or 16; there was none"
        raise SettingsError(msg)
    beyond = [f"{what}: at most {most}, got {got:.3g}" for what, most, got in checked if got > most]
    if beyond:
        raise EngineError("\n".join(beyond))


def _least(rows: list[dict[str, Any]], key: str, share: int = 1, **wanted: object) -> float | None:
    """Give the least value of *key* over the rows that are as wanted, for each of *share* streams; None without such rows."""
    found = [float(row[key]) / share for row in rows if all(row[name] == value for name, value in wanted.items())]
    return min(found, default=None)


def _model(name: str, scratch: Path, weights: Path | None) -> _Model:
    """Find a model; where its weights are absent, make one of the same shapes with random ones."""
    from streamav.bundle import find_bundle
    from streamav.bundle.catalogue import encoder_file

    try:
        bundle = find_bundle(name)
        for part in (bundle.card.audio, bundle.card.visual):
            if part.external:
                encoder_file(part.network, weights)
    except ModelError:
        from streamav.bench.random_models import PROFILES, write_random_bundle

        if name not in PROFILES:
            raise
        return _Model(write_random_bundle(name, scratch / name).path, scratch / "engines", "random")
    return _Model(bundle.path, None, "bundle")


def _request(model: _Model, recipe: str, weights: Path | None, sizes: tuple[int, int, int], seconds: float) -> RowRequest:
    from streamav.bench.row import RowRequest

    return RowRequest(
        bundle=str(model.folder),
        recipe=recipe,
        threads=sizes[0],
        frames=sizes[1],
        streams=sizes[2],
        budget_s=seconds,
        cache=None if model.cache is None else str(model.cache),
        weights_dir=None if weights is None else str(weights),
    )


def _profile_rows(requests: list[RowRequest]) -> list[dict[str, Any]]:
    """Time engines one after another; the reference, measured beside each of them, has one row: that of the first."""
    rows: list[dict[str, Any]] = []
    for request in requests:
        found = _rows(request)
        known = [row for row in rows if row["engine"] == "torch"]
        rows += [row for row in found if row["engine"] != "torch" or not known]
    return rows


def _rows(request: RowRequest) -> list[dict[str, Any]]:
    """Time one engine in a process of its own, with its threads pinned, after making it here when it has to be made."""
    from streamav.bench.row import facts_of

    if request.recipe.startswith("cpu"):
        facts_of(request)  # so that the memory of its process is that of running, not of making; a GPU's would stay taken here
    rows: list[dict[str, Any]] = ask(
        "streamav.bench.row", asdict(request), what=f"timing {request.recipe}", threads=request.threads, limit_s=ROW_TIMEOUT_S
    )
    for row in rows:
        row["recipe"] = f"{row['engine']}-{row['precision']}"
    return rows


def _whole_run(source: str, model: str, recipe: str | None, weights: Path | None, sizes: tuple[int, float]) -> dict[str, Any]:
    """Run a source as fast as the machine goes, or the scene for so long, and give the summary; *sizes* are threads and seconds."""
    import asyncio

    from streamav import app
    from streamav.cli.run import settings_of
    from streamav.config import load_settings

    threads, duration = sizes
    values: dict[str, object] = {"source.duration_s": duration, "source.speed": "max", "model.name": model, "model.threads": threads}
    if recipe is not None:
        values["model.engine"], _, values["model.precision"] = _recipe(recipe).partition("-")
    if weights is not None:
        values["model.weights_dir"] = str(weights)
    settings = load_settings(base=settings_of(source=source, camera=None, mic=None, mqtt=None, values=values))
    application = app.build(settings, beside=False)
    summary = asyncio.run(app.run(application))
    return {"source": source, "engine": application.engine.name, "threads": threads, **asdict(summary)}


def _print_run(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"run": row, "machine": _machine()}))
        return
    for key, value in row.items():
        typer.echo(f"{key:>18}  {_cell(value)}")


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


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _machine() -> str:
    """Name the processor and how many cores may be used."""
    from streamav.engines.machine import processor_name

    return f"{processor_name()}, {len(os.sched_getaffinity(0))} cores"
