"""Prints what `streamav bench` measures: tables while the measurements go on, or JSON at the end."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

from streamav.cli.json_output import print_json
from streamav.cli.outputs import check_output
from streamav.cli.progress import progress

if TYPE_CHECKING:
    from pathlib import Path

    from streamav.bench.trial import Trial, TrialRequest

__all__ = ["print_early", "print_run", "print_search", "print_stages", "print_table"]

_COLUMNS: Final = {
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
"""Key of a row of the networks -> heading."""
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
_STAGE_COLUMNS = {
    "streams": "streams",
    "decode": "decode",
    "features": "features",
    "window": "window",
    "tracker": "tracker",
    "publish": "publish",
}


def print_search(asked: TrialRequest, first: int, *, as_json: bool) -> None:
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


def print_stages(
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


def print_early(models: list[str], recipe: str | None, sizes: tuple[int, float], weights: Path | None, *, as_json: bool) -> None:
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


def print_table(rows: list[dict[str, Any]], threads: int, frames: int, took: float, *, as_json: bool) -> None:
    """Print the rows of the networks on every engine.

    Args:
        rows: as `streamav.bench.table.table_rows` returns them.
        threads: of each engine.
        frames: pictures of a segment.
        took: time of all measurements, s.
        as_json: print JSON instead of a table.
    """
    if as_json:
        print_json({"rows": rows, "threads": threads, "machine": _machine(), "seconds": took}, indent=None)
        return
    typer.echo(
        f"{_machine()}, {threads} threads, {frames} pictures per segment; reference: eager float32 torch, run in turns with each engine"
    )
    lines = [list(_COLUMNS.values())] + [[_cell(row[key]) for key in _COLUMNS] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    for number, line in enumerate(lines):
        note = "" if number == 0 or rows[number - 1]["weights"] == "bundle" else "  random weights"
        typer.echo("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) + note)
    typer.echo(f"{took} s; drift: largest difference of a probability; decisions: share of equal decisions (docs/performance.md)")


def print_run(row: dict[str, Any], *, as_json: bool) -> None:
    """Print the figures of a whole run, one a line."""
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
