"""`streamav study`: compares VSCG, its parts and its neighbours on one folder of features, offline and as streams.

It reads options and prints the table; `streamav.training.experiments.study` trains and judges.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["study"]


def study(
    data: Annotated[
        Path, typer.Option("--data", help="Folder of AVE-named features that tells what is heard and seen (streamav compose).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; rows that are there are not run again.")],
    rows: Annotated[str, typer.Option("--rows", help="Keys of rows by comma; all unless given.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each row.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Of every row.")] = 12,
    batch: Annotated[int, typer.Option(min=1, help="Of every row.")] = 64,
    components: Annotated[int, typer.Option(min=0, help="Principal components kept of the visual features; 0 for all of them.")] = 256,
    streams: Annotated[int, typer.Option(min=1, help="Streams of each manifest.")] = 6,
    minutes: Annotated[float, typer.Option(min=0.5, help="Length of each stream.")] = 15.0,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of torch.")] = 2,
) -> None:
    """Train every row from every seed, select on val clips, and print what test clips and test streams say."""
    import torch

    from streamav.errors import SettingsError
    from streamav.training.data.folder import AveOptions, open_ave
    from streamav.training.experiments.study import ROWS, Study, run_study, study_table
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
    # One schedule for all rows, in place of each network's own.
    train: dict[str, object] = {"epochs": epochs, "batch": batch, "learning_rate": 1e-3, "clip_norm": 0.0}
    train |= {"decay": 0.3, "decay_epochs": decay, "select_every": 2, "weight_average": 0.98}
    chosen = [row for row in ROWS if not wanted or row.key in wanted]
    plan = StreamPlan(streams=streams, minutes=minutes, seeds=(0,))
    shared = Study(data=folder, seeds=range(seeds), train=train, plan=plan)
    results = run_study(shared, chosen, out, lambda line: typer.echo(line, err=True))
    command = "streamav " + shlex.join(sys.argv[1:])
    table = study_table(results)
    (out / "study.md").write_text(f"Made by `{command}`; mean ± standard deviation over {seeds} seeds.\n\n{table}", encoding="utf-8")
    typer.echo(table, nl=False)
