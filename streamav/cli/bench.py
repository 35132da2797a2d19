"""`streamav bench`: times the networks of a model on every engine, or a whole run on a source.

It starts one process for each row (`streamav.engines.timing`), so that memory and threads are each engine's own, and prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamav.errors import EngineError, ModelError, SettingsError

if TYPE_CHECKING:
    from streamav.engines.timing import Request

__all__ = ["bench"]

_COLUMNS = (
    "profile",
    "engine",
    "batch",
    "second_ms",
    "second_p95_ms",
    "window_ms",
    "realtime_factor",
    "ratio_to_reference",
    "drift",
    "memory_mb",
    "streams",
)
ROW_TIMEOUT_S = 300


def bench(
    profile: Annotated[
        str, typer.Option("--profile", help="Models to time, by comma: starter, edge, paper, or folders of bundles.")
    ] = "starter",
    engine: Annotated[
        str, typer.Option("--engine", help="Recipes to time, by comma, such as cpu-fp32; the reference is always there.")
    ] = "cpu-fp32",
    batch: Annotated[str, typer.Option("--batch", help="Streams in one batch, by comma.")] = "1",
    frames: Annotated[int, typer.Option("--frames", min=1, max=16, help="Pictures of one second.")] = 16,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Threads; one for each core that may be used.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="About how long each engine is measured; at least two runs.")] = 2.0,
    weights: Annotated[Path | None, typer.Option("--weights", help="Folder with encoders that bundles do not hold.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Time a whole run on a file, or on the embedded scene: scene.")] = None,
    duration: Annotated[float, typer.Option("--duration", min=1.0, help="Seconds of media of a whole run.")] = 60.0,
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
    if streams_most is not None:
        from streamav.cli.bench_streams import bench_streams
        from streamav.cli.stream_trial import TrialRequest

        asked = TrialRequest(
            streams=streams_most,
            seconds=trial,
            model=profile,
            engine=engine,
            threads=count,
            weights_dir=str(weights) if weights else None,
            source=None if source == "scene" else source,
            gather_ms=gather,
            together=together,
        )
        bench_streams(asked, first=first, machine=_machine(), as_json=as_json)
        return
    if source is not None:
        _print_run(_whole_run(source, profile, count, duration), as_json=as_json)
        return
    batches = [_whole_number(text) for text in batch.split(",")]
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="streamav-bench-") as scratch:
        for name in profile.split(","):
            folder, cache, note = _model(name.strip(), Path(scratch), weights)
            for recipe in engine.split(","):
                for streams in batches:
                    made = _request(folder, recipe.strip(), cache, weights, (count, frames, streams), seconds)
                    rows += [{"profile": name.strip(), "weights": note} | row for row in _rows(made)]
    took = round(time.monotonic() - began, 1)
    if as_json:
        typer.echo(json.dumps({"rows": rows, "threads": count, "machine": _machine(), "seconds": took}))
        return
    typer.echo(f"{_machine()}, {count} threads, {frames} pictures a second; reference: eager float32 torch, in turns with each engine")
    typer.echo("  ".join(f"{column:>18}" for column in _COLUMNS))
    for row in rows:
        typer.echo(
            "  ".join(f"{_cell(row[column]):>18}" for column in _COLUMNS) + ("" if row["weights"] == "bundle" else "  random weights")
        )
    typer.echo(f"{took} s")


def _model(name: str, scratch: Path, weights: Path | None) -> tuple[Path, Path | None, str]:
    """Give the folder of a model, the cache for its engines (None: the user's), and whether its weights are real."""
    from streamav.bundle import find_bundle
    from streamav.bundle.catalogue import encoder_file

    try:
        bundle = find_bundle(name)
        for part in (bundle.card.audio, bundle.card.visual):
            if part.external:
                encoder_file(part.network, weights)
    except ModelError:
        from streamav.engines.random_models import PROFILES, write_random_bundle

        if name not in PROFILES:
            raise
        return write_random_bundle(name, scratch / name).path, scratch / "engines", "random"
    return bundle.path, None, "bundle"


def _request(folder: Path, recipe: str, cache: Path | None, weights: Path | None, sizes: tuple[int, int, int], seconds: float) -> Request:
    from streamav.engines.timing import Request

    return Request(
        bundle=str(folder),
        recipe=recipe,
        threads=sizes[0],
        frames=sizes[1],
        streams=sizes[2],
        budget_s=seconds,
        cache=None if cache is None else str(cache),
        weights_dir=None if weights is None else str(weights),
    )


def _rows(request: Request) -> list[dict[str, Any]]:
    """Time one engine in a process of its own, with its threads pinned, after building it here when it has to be built."""
    if not request.recipe.startswith("torch"):
        from streamav.engines.timing import open_requested

        open_requested(request)
    environment = {**os.environ, "OMP_NUM_THREADS": str(request.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "streamav.engines.timing"]
    asked = json.dumps(asdict(request))
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=asked, capture_output=True, text=True, env=environment, timeout=ROW_TIMEOUT_S, check=True
        )
    except subprocess.TimeoutExpired as exc:
        msg = f"{request.recipe} took more than {ROW_TIMEOUT_S} s on {request.bundle}; is the machine busy?"
        raise EngineError(msg) from exc
    except subprocess.CalledProcessError as exc:
        lines = exc.stderr.strip().splitlines() or ["it died without a word"]
        msg = f"{request.recipe} could not be timed on {request.bundle}: {lines[-1]}"
        raise EngineError(msg) from exc
    rows: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


def _whole_run(source: str, model: str, threads: int, duration: float) -> dict[str, Any]:
    """Run a source as fast as the machine goes, or the scene for *duration*, and give the summary."""
    import asyncio

    from streamav import app
    from streamav.cli.run import settings_of
    from streamav.config import load_settings

    values: dict[str, object] = {"source.duration_s": duration, "source.speed": "max", "model.name": model, "model.threads": threads}
    settings = load_settings(base=settings_of(source=source, camera=None, mic=None, mqtt=None, values=values))
    application = app.build(settings)
    summary = asyncio.run(app.run(application))
    return {"source": source, "engine": application.engine.name, "threads": threads, **asdict(summary)}


def _print_run(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"run": row, "machine": _machine()}))
        return
    for key, value in row.items():
        typer.echo(f"{key:>18}  {_cell(value)}")


def _whole_number(text: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        msg = f"--batch takes whole numbers of at least 1, by comma, got {text!r}"
        raise SettingsError(msg)
    return int(text)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _machine() -> str:
    """Name the processor and how many cores may be used."""
    name = "processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
