"""Calls the function of a command as the command line does, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

__all__ = ["invoke"]


def invoke(command: Callable[..., None], *arguments: object) -> Result:
    """Run a command with arguments, and return its output and status; an error stays an exception in the result."""
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
