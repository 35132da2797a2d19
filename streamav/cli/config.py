"""`streamav config`: checks a configuration without running it.

It prints the resulting settings without secrets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streamav.config import ADDRESS_SETTINGS
from streamav.config_loading import load_settings
from streamav.redaction import redact, show_address

__all__ = ["app"]

app = typer.Typer(help="Check a configuration file; list all settings.", no_args_is_help=True, add_completion=False)


@app.callback()
def _config() -> None:
    """Check a configuration file; list all settings."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="TOML file.")],
    model: Annotated[str | None, typer.Option("--model", help="Check with this model, as `streamav run --model` does.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides the file; repeatable.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing when the file is right.")] = False,
) -> None:
    """Check a configuration file and print all resulting settings.

    Labels and thresholds are checked with the model that the file names, as `streamav run` does. Cameras and the broker are not
    checked.

    Exit status: 0 the file is right, 2 it is wrong, 4 the model cannot be used.
    """
    from streamav.app import check_model

    settings = load_settings(file, overrides or (), options={} if model is None else {"model": {"name": model}})
    check_model(settings)
    if not quiet:
        typer.echo(json.dumps(_shown(settings.model_dump(mode="json")), indent=1, ensure_ascii=False))


@app.command()
def reference() -> None:
    """Print every setting with its meaning, as Markdown."""
    from streamav.cli.reference import settings_reference

    typer.echo(settings_reference(), nl=False)


def _shown(value: object, name: str = "") -> object:
    """Return a value, or a tree of values, without secrets; addresses may contain passwords."""
    if isinstance(value, dict):
        return {key: _shown(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if isinstance(value, str):
        return show_address(value) if name in ADDRESS_SETTINGS else redact(value)
    return value
