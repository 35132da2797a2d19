"""`streamav ave`: checks copies of AVE, the data set of the paper.

It prints; `streamav.training` checks. It downloads nothing: docs/reproduce.md says where the files come from.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamav.training.data.ave_check import FileFinding

__all__ = ["app"]

app = typer.Typer(help="Check a copy of AVE, the data set of the paper.", no_args_is_help=True, add_completion=False)

_SIGNS = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "error": "ERROR  "}


@app.callback()
def _ave() -> None:
    """Check a copy of AVE, the data set of the paper."""


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(help="Folder of AVE's feature files, or of its videos with Annotations.txt in it or beside it.")
    ],
    every_row: Annotated[bool, typer.Option("--every-row", help="Also read all features for NaN and infinity; minutes for 8 GB.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check AVE's files, and say what to do.

    Checks names, sizes, types, shapes and splits, and compares them with AVE's known counts.

    A folder of features is also opened as `streamav train` opens it. Checksums are compared where they are known.
    Exit status: 0 it can be used, 7 it cannot.
    """
    if not folder.is_dir():
        msg = f"{folder} must be a folder with AVE's files, and is none; docs/reproduce.md says where they come from"
        raise DataError(msg)
    kind, findings, counts = _look(folder, every_row=every_row)
    seen: list[FileFinding] = []
    for one in findings:
        seen.append(one)
        if not as_json:
            typer.echo(f"{_SIGNS[one.severity]}  {one.file + ': ' if one.file else ''}{one.found}")
            if one.remedy:
                typer.echo(f"         -> {one.remedy}")
    usable = not any(one.severity == "error" for one in seen)
    if as_json:
        told = {name: {"found": found, "ave": wanted} for name, (found, wanted) in counts.items()}
        typer.echo(
            json.dumps(
                {"folder": str(folder), "kind": kind, "ok": usable, "counts": told, "findings": [asdict(one) for one in seen]}, indent=1
            )
        )
    else:
        shown = ", ".join(f"{name} {'?' if found is None else found} of {wanted}" for name, (found, wanted) in counts.items())
        typer.echo(f"counts: {shown}")
        typer.echo(
            "the folder can be used" if usable else f"the folder cannot be used: {sum(one.severity == 'error' for one in seen)} errors"
        )
    if not usable:
        raise typer.Exit(DataError.exit_code)


def _look(folder: Path, *, every_row: bool) -> tuple[str, Iterator[FileFinding], dict[str, tuple[int | None, int]]]:
    """Return which kind of folder it is, its findings and its counts.

    Raises:
        DataError: when it holds neither features nor videos.
    """
    from streamav.training.clips.ave_videos import annotations_of, check_videos, has_videos, video_counts
    from streamav.training.data.ave_check import check_features, counts_of

    if not any(folder.glob("*.h5")) and has_videos(folder):
        annotations = annotations_of(folder)
        return "videos", check_videos(folder, annotations), video_counts(folder, annotations)
    return "features", check_features(folder, every_row=every_row), counts_of(folder)
