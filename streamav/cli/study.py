"""`streamav study`: compares VSCG, its variants and other networks on one folder of features, on clips and on streams.

It reads options and prints the table; `streamav.training.experiments.study` trains and scores.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.json_output import print_json
from streamav.cli.markdown_output import print_markdown
from streamav.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.cli.progress import Update

__all__ = ["study"]


def study(
    data: Annotated[
        Path, typer.Option("--data", help="Folder of features made by streamav compose: it holds what each segment plays and shows.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; rows that exist there are not run again.")],
    rows: Annotated[str, typer.Option("--rows", help="Keys of the rows to run, separated by commas; default: all.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings (seeds) of each row.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs of each training.")] = 12,
    batch: Annotated[int, typer.Option(min=1, help="Number of clips in one training step.")] = 64,
    components: Annotated[
        int, typer.Option(min=0, help="Number of principal components of the visual features to keep; 0 keeps the features as they are.")
    ] = 256,
    streams: Annotated[int, typer.Option(min=1, help="Number of test streams, and of validation streams.")] = 6,
    minutes: Annotated[float, typer.Option(min=0.5, help="Length of each stream in minutes.")] = 15.0,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Number of threads of torch.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Train every network of the study (a row of its table) with every seed, and print the scores on test clips and test streams.

    Val clips select the weights, and val streams fix the thresholds.
    """
    import torch

    from streamav.errors import SettingsError
    from streamav.training.data.folder import AveOptions, open_ave
    from streamav.training.experiments.study import ROWS, Study, run_study, study_table, write_study
    from streamav.training.starter.components import components_of, shortened
    from streamav.training.streams.judge import StreamPlan

    wanted = [key for key in rows.split(",") if key]
    unknown = set(wanted) - {row.key for row in ROWS}
    if unknown:
        msg = f"--rows takes {', '.join(row.key for row in ROWS)}, got {', '.join(sorted(unknown))}"
        raise SettingsError(msg)
    torch.set_num_threads(threads)
    folder = open_ave(data, AveOptions(check=False))
    folder = shortened(folder, components_of(folder, components)) if components else folder
    decay = [max(1, epochs * share // 100) for share in (60, 85)]
    # All rows use this schedule instead of the one of their network.
    train: dict[str, object] = {"epochs": epochs, "batch": batch, "learning_rate": 1e-3, "clip_norm": 0.0}
    train |= {"decay": 0.3, "decay_epochs": decay, "select_every": 2, "weight_average": 0.98}
    chosen = [row for row in ROWS if not wanted or row.key in wanted]
    plan = StreamPlan(streams=streams, minutes=minutes, seeds=(0,))
    shared = Study(data=folder, seeds=range(seeds), train=train, plan=plan)
    with progress("rows") as show:
        show(0, len(chosen))
        results = run_study(shared, chosen, out, _told(show, len(chosen)))
    command = "streamav " + shlex.join(sys.argv[1:])
    table = study_table(results)
    write_study(out, results, command, seeds)
    typer.echo(f"written to {out}: study.md, study.html, study.tex, and the figures of each row", err=True)
    if as_json:
        print_json({"command": command, "rows": results})
    else:
        print_markdown(table)


def _told(show: Update, rows: int) -> Callable[[str], None]:
    """Return what prints a line of the table on standard error after each row, and moves the bar; its head comes first, in two lines."""
    done = itertools.count(-1)

    def tell(line: str) -> None:
        typer.echo(line, err=True)
        show(max(0, next(done)), rows)

    return tell
