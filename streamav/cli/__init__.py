"""The command line: one file per command, loaded when the command is called.

`main` turns every error of ours into one message on standard error and its exit status; nothing is printed to standard
output but what a command was asked for.

Exit status: 0 done, 1 bug, 2 settings, 3 source, 4 model, 5 broker, 6 engine, 7 data, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

from streamav.errors import StreamavError
from streamav.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Command", "main"]

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""
USAGE_ERROR: Final[type] = typer.BadParameter.__mro__[1]
"""Error of typer for arguments that it cannot read; its module has another name in every few versions."""


class Command(NamedTuple):
    """Where a command is."""

    module: str
    attribute: str
    """A typer.Typer with commands of its own, or a function."""
    help: str


COMMANDS: Final[dict[str, Command]] = {
    "run": Command("streamav.cli.run", "run", "Watch and listen to a source, and publish what is heard and seen at once."),
    "demo": Command("streamav.cli.demo", "demo", "Show everything at work on the embedded scene, with a private broker."),
    "subscribe": Command("streamav.cli.subscribe", "subscribe", "Show the events that a broker delivers."),
    "devices": Command("streamav.cli.devices", "devices", "List cameras and microphones."),
    "config": Command("streamav.cli.config", "app", "Check a configuration file."),
    "models": Command("streamav.cli.models", "app", "List, describe, check, fetch, import and copy models."),
    "engines": Command("streamav.cli.engines", "app", "Build, list, verify and clear engines."),
    "bench": Command("streamav.cli.bench", "bench", "Time the networks, or a whole run."),
    "compose": Command("streamav.cli.compose", "compose", "Make labelled clips of sounds and photos, and their features."),
    "train": Command("streamav.cli.train", "train", "Train a model on features, on your own clips, or on sounds and photos."),
    "study": Command("streamav.cli.study", "study", "Compare VSCG, its parts and its neighbours, offline and as streams."),
    "eval": Command("streamav.cli.evaluate", "evaluate", "Evaluate a model."),
    "recordings": Command("streamav.cli.recordings", "recordings", "Run a model over labelled recordings and print a table."),
    "tune": Command("streamav.cli.tune", "tune", "Find the detection settings that suit a model."),
    "extract": Command("streamav.cli.extract", "extract", "Extract features from media files."),
}
"""All commands, in the order in which they are listed."""


def _add(program: typer.Typer, name: str, place: Command) -> None:
    """Add a command that loads the real one when it is called, and hands it all arguments; mistaken variables are refused before."""
    everything = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

    @program.command(name, help=place.help, context_settings=everything)
    def call(context: typer.Context) -> None:
        if "--help" not in context.args:
            from streamav.config_loading import check_environment

            check_environment(os.environ)
        found = getattr(importlib.import_module(place.module), place.attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode=None)  # help may hold brackets
            single.command(name)(found)
            found = single
        code = typer.main.get_command(found).main(args=list(context.args), prog_name=f"streamav {name}", standalone_mode=False)
        if isinstance(code, int):
            raise typer.Exit(code)


def _version(value: bool) -> None:
    if value:
        from streamav import __version__

        typer.echo(f"streamav {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    given = None if arguments is None else list(arguments)
    try:
        code = typer.main.get_command(_program()).main(args=given, prog_name="streamav", standalone_mode=False)
    except StreamavError as exc:
        sys.stderr.write(f"streamav: {redact(str(exc))}\n")
        return exc.exit_code
    except typer.Abort:
        sys.stderr.write("Aborted!\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1 if exc.code else 0
    except Exception as exc:
        if not isinstance(exc, USAGE_ERROR):
            raise
        return _refuse(exc)
    return code if isinstance(code, int) else 0


def _refuse(error: Any) -> int:  # noqa: ANN401 - typer's own class, without a name that stays
    """Print an error of typer and return its exit status; it repeats an argument, which may be an address with its password."""
    error.message = redact(error.message)
    error.show()
    return int(error.exit_code)


def _program() -> typer.Typer:
    """Make the program with the commands that this installation has; none of them is loaded yet."""
    program = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

    @program.callback()
    def streamav(
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    ) -> None:
        """Tell, live, what is heard and seen at once, with events over MQTT.

        Exit status: 0 done, 1 bug, 2 settings, 3 source, 4 model, 5 broker, 6 engine, 7 data, 130 Ctrl-C.
        """

    for name, place in COMMANDS.items():
        if importlib.util.find_spec(place.module) is not None:
            _add(program, name, place)
    return program
