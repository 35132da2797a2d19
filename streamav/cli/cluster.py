"""`streamav run --cluster` and `streamav cluster status`: prints what runs on a Ray cluster.

It reads options and prints; `streamav.cluster` does everything else.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamav.cli.outputs import write_output
from streamav.errors import INTERRUPTED, SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from streamav.config import Settings

__all__ = ["app", "run_on"]


app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

_WORKER_COLUMNS = {
    "worker": "worker",
    "node": "node",
    "state": "state",
    "sources": "sources",
    "load": "load",
    "cores_used": "cores used",
    "cores": "of",
    "engine": "engine",
}
_SOURCE_COLUMNS = {
    "source": "source",
    "worker": "worker",
    "state": "state",
    "events": "events",
    "dropped": "dropped, s",
    "thinned": "thinned, s",
    "restarts": "restarts",
    "moves": "moves",
    "latency_s": "latency, s",
}


@app.callback()
def cluster() -> None:
    """Show what runs on a cluster (run --cluster)."""


@app.command()
def status(
    address: Annotated[str, typer.Option("--cluster", help="The Ray cluster: auto, or HOST:PORT.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show the workers of a cluster and their sources.

    Shows load, dropped segments and restarts. A load of 1 is the most that a worker can carry.
    """
    from streamav.cluster.ray_fleet import read_boards

    runs = [one for one in map(json.loads, read_boards(address)) if one]
    if as_json:
        typer.echo(json.dumps({"runs": runs}))
        return
    if not runs:
        msg = "no run with --cluster uses this Ray; start one with: streamav run --config FILE --mqtt mqtt://HOST --cluster auto"
        raise SettingsError(msg)
    for run in runs:
        _print_run(run)


def run_on(address: str, settings: Settings, console: Console, report: Path | None) -> int:
    """Run the sources of settings on a cluster, print the end result, and return the exit status."""
    from streamav.cluster.run import run_cluster

    asked: list[int] = []

    def note(number: int) -> None:
        asked.append(number)
        console.print("ending the run; a second signal ends it at once")

    with redirect_stdout(sys.stderr):  # Ray prints what its processes say
        last = run_cluster(settings, address, note)
    if report is not None:
        write_output(report, json.dumps(last, indent=1) + "\n")
    for line in _table(last.get("sources", ()), _SOURCE_COLUMNS):
        console.print(line, highlight=False, markup=False)
    return INTERRUPTED if signal.SIGINT in asked else 0


def _print_run(run: dict[str, Any]) -> None:
    typer.echo(f"{run['base']}: {len(run['sources'])} sources on {len(run['workers'])} workers")
    for line in _table(run["workers"], _WORKER_COLUMNS):
        typer.echo(line)
    typer.echo("")
    for line in _table(run["sources"], _SOURCE_COLUMNS):
        typer.echo(line)
    for one in [*run["workers"], *run["sources"]]:
        if one["error"]:
            typer.echo(f"{one.get('source') or one['worker']}: {one['error']}")


def _table(rows: Any, columns: dict[str, str]) -> list[str]:  # noqa: ANN401 - rows of JSON
    """Return lines of text: a heading and one line for each row, in columns."""
    lines = [list(columns.values())] + [[_cell(row[key]) for key in columns] for row in rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
