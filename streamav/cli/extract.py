"""`streamav extract`: turns annotated media files into AVE-named HDF5 features with a model's encoders.

It reads options and shows progress; `streamav.training.extract` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamav.errors import DataError

__all__ = ["extract"]


def extract(
    media: Annotated[Path, typer.Option("--media", help="Folder with one file for each video id.")],
    annotations: Annotated[Path, typer.Option("--annotations", help="Annotations.txt: category&video id&quality&start&end.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the features; a second call goes on where the first stopped.")],
    model: Annotated[str, typer.Option("--model", help="Model whose encoders are used.")] = "starter",
    weights: Annotated[Path | None, typer.Option("--weights", help="Folder with the encoders that a bundle does not hold.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="Threads of the CPU engine.")] = None,
    skip: Annotated[bool, typer.Option("--skip", help="End well although some clips cannot be read.")] = False,
) -> None:
    """Extract features from media files; ends with 7 when a clip cannot be read, after all the others."""
    from rich.console import Console
    from rich.progress import Progress

    from streamav.bundle import find_bundle
    from streamav.config import ModelSettings
    from streamav.training.extract import extract_folder

    settings = ModelSettings(name=model, weights_dir=weights, threads=threads)
    with Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task("clips", total=None)

        def show(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        result = extract_folder(media, annotations, out, find_bundle(model), settings, show)
    for row, reason in sorted(result.failed.items()):
        typer.echo(f"row {row}: {reason}", err=True)
    typer.echo(f"{result.done} clips in {out}, {len(result.failed)} could not be read")
    if result.failed and not skip:
        msg = f"{len(result.failed)} clips could not be read; run the command again when they are there, or add --skip"
        raise DataError(msg)
