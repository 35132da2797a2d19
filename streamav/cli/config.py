"""`streamav config`: checks a configuration without running it.

It prints the resulting settings without secrets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamav.capture.address import redact
from streamav.config_loading import load_settings

__all__ = ["app"]

app = typer.Typer(help="Check a configuration file.", no_args_is_help=True)


@app.callback()
def _config() -> None:
    """Check a configuration file."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="TOML file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides the file; repeatable.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing when the file is right.")] = False,
) -> None:
    """Check a configuration file and print all resulting settings.

    Exit status: 0 the file is right, 2 it is wrong.
    """
    settings = load_settings(file, overrides or ())
    if not quiet:
        typer.echo(redact(settings.model_dump_json(indent=1)))  # addresses may contain passwords
