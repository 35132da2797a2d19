"""Runs the command line: one file per command, loaded when the command is called.

`main` turns every error of ours into one message on standard error and an exit status. Standard output holds only the
result of a command.

Exit status: 0 done, 1 bug, 2 settings, 3 source, 4 model, 5 broker, 6 engine, 7 data, 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import functools
import importlib.util
import io
import itertools
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

from streamav.cli.slips import advice_on_arguments
from streamav.errors import INTERRUPTED, SettingsError, StreamavError
from streamav.redaction import redact, show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "Command", "loaded", "main"]

_LONGEST_SHOWN: Final = 200
_MAY_NOT: Final = (
    "this user must be allowed to use {path}, but it belongs to another one: correct its rights, or name a folder of this user "
    "(HOME, state_dir)"
)
_NO_ROOM: Final = "there must be room at {path}, but the disk is full: make room, or name another folder"
_OF_PATHS: Final = {
    errno.ENAMETOOLONG: "a path must be no longer than this system allows, got {path}; check it",
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EROFS: "{path} must be writable, but its file system is read-only: name another folder",
    errno.ELOOP: "{path} must be a file or folder, but its links lead in a circle: correct them",
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: _NO_ROOM,
}
"""What is said about a path that the system refuses, wherever that happens."""
USAGE_ERROR: Final[type] = typer.BadParameter.__mro__[1]
"""Error of typer for arguments that it cannot read. Its module has different names in different versions of typer."""


_HELP: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"]}
_INSTEAD: Final = {"help": "--help", "version": "--version"}
"""Words that people try first, and the options that do it."""


class Command(NamedTuple):
    """Where the code of a command is."""

    module: str
    attribute: str
    """Name in the module of a function, or of a typer.Typer with subcommands."""
    help: str


COMMANDS: Final[dict[str, Command]] = {
    "run": Command("streamav.cli.run", "run", "Detect audio-visual events live and publish them."),
    "demo": Command("streamav.cli.demo", "demo", "Show the whole system on an embedded scene."),
    "localize": Command("streamav.cli.localize", "localize", "Find the events of recordings, offline."),
    "record": Command("streamav.cli.record", "record", "Record a run, to repeat it or to report a fault."),
    "replay": Command("streamav.cli.replay", "replay", "Repeat a recorded run, and compare its events."),
    "subscribe": Command("streamav.cli.subscribe", "subscribe", "Print the events that an MQTT broker delivers."),
    "events": Command("streamav.cli.events", "events", "Ask the journal what happened."),
    "explain": Command("streamav.cli.explain", "explain", "Say why a second did or did not become an event."),
    "changes": Command("streamav.cli.changes", "changes", "Show what commands have changed in a run, or undo it."),
    "mqtt": Command("streamav.cli.mqtt", "app", "Clear what a broker keeps; print the schema of events."),
    "devices": Command("streamav.cli.devices", "devices", "List cameras and microphones."),
    "sync-check": Command("streamav.cli.sync_check", "sync_check", "Measure how late sound is compared with the picture."),
    "doctor": Command("streamav.cli.doctor", "doctor", "Check whether a run would work, and say what to do."),
    "support-bundle": Command("streamav.cli.support_bundle", "support_bundle", "Write a file for people who help, without secrets."),
    "config": Command("streamav.cli.config", "app", "Check a configuration file; list all settings."),
    "models": Command("streamav.cli.models", "app", "List, describe, check, fetch, import and copy models."),
    "labels": Command("streamav.cli.labels", "app", "List, search and test labels by definition."),
    "engines": Command("streamav.cli.engines", "app", "Build, list, verify and clear engines."),
    "cluster": Command("streamav.cli.cluster", "app", "Show what runs on a cluster (run --cluster)."),
    "bench": Command("streamav.cli.bench", "bench", "Measure speed, latency and memory on this machine."),
    "compose": Command("streamav.cli.compose", "compose", "Make labelled clips from sounds and photos."),
    "train": Command("streamav.cli.train", "train", "Train a model on features, clips, or sounds and photos."),
    "study": Command("streamav.cli.study", "study", "Train and compare VSCG, its variants and other networks."),
    "eval": Command("streamav.cli.evaluate", "evaluate", "Compute the accuracy of a model on clips and on streams."),
    "recordings": Command("streamav.cli.recordings", "recordings", "Run a model over labelled recordings and score it."),
    "compare": Command("streamav.cli.compare", "compare_models", "Say whether one model is better than another one."),
    "figure": Command("streamav.cli.figure", "figure", "Draw where networks look in a clip, side by side."),
    "ave": Command("streamav.cli.ave", "app", "Check a copy of AVE, the data set of the paper."),
    "tune": Command("streamav.cli.tune", "tune", "Set thresholds for a limit of false alarms per hour."),
    "extract": Command("streamav.cli.extract", "extract", "Compute features from media files."),
}
"""All commands, in the order of the list in --help."""


def _add(program: typer.Typer, name: str, place: Command) -> None:
    """Add a command that loads the real one when it is called and passes all arguments on; wrong STREAMAV_* variables are refused first."""
    everything = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

    @program.command(name, help=place.help, context_settings=everything)
    def call(context: typer.Context) -> None:
        _refuse_nothing(name, context.args)
        if not {"--help", "-h"} & set(context.args):
            from streamav.config_loading import check_environment

            check_environment(os.environ)
        code = loaded(name, place).main(args=list(context.args), prog_name=f"streamav {name}", standalone_mode=False, **_HELP)
        if isinstance(code, int):
            raise typer.Exit(code)


def loaded(name: str, place: Command) -> Any:  # noqa: ANN401 - a class of typer whose name differs between versions
    """Load the code of a command and return the command as typer runs it: a single command, or a group with `commands`.

    Args:
        name: its name.
        place: where its code is.
    """
    found = getattr(importlib.import_module(place.module), place.attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(found)
        found = single
    found.rich_markup_mode = None  # plain help, the same for all commands: its text may hold brackets, which markup would swallow
    command: Any = typer.main.get_command(found)
    for one in (command, *getattr(command, "commands", {}).values()):
        for parameter in one.params:
            if shown := getattr(parameter, "display_type", None):  # older versions of typer have none, and write TEXT
                parameter.display_type = functools.partial(_plain_type, shown)
    return command


def _plain_type(shown: Callable[..., str], *arguments: object, **options: object) -> str:
    """Return the type of an option's value as help shows it: `<str>` for `<list[str]>`, `<int>` for `<int range>`."""
    return re.sub(r"list\[(.*)\]", r"\1", shown(*arguments, **options)).replace(" range>", ">").replace("<Path>", "<path>")


def _refuse_nothing(command: str, arguments: Sequence[str]) -> None:
    """Refuse an empty argument: as a path it would mean the current folder, and mostly a variable of a script is not set.

    Raises:
        SettingsError: when an argument, or the value after = of an option, is empty.
    """
    for before, one in itertools.pairwise([command, *arguments]):
        if not one or (one.startswith("--") and one.endswith("=")):
            msg = f"what follows {one or before} must not be empty; name it, or leave it out (in a script: is a variable not set?)"
            raise SettingsError(msg)


def _version(value: bool) -> None:
    if value:
        from streamav import __version__

        typer.echo(f"streamav {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: the arguments without the program's name; None for those of the process.
    """
    given = _whole(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may have bytes that are not UTF-8
    try:
        code = typer.main.get_command(_program()).main(args=given, prog_name="streamav", standalone_mode=False, **_HELP)
    except StreamavError as exc:
        _say(redact(str(exc)))
        return exc.exit_code
    except typer.Abort:
        sys.stderr.write("Aborted!\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1 if exc.code else 0
    except Exception as exc:
        if not isinstance(exc, USAGE_ERROR) and not (isinstance(exc, OSError) and exc.errno in _OF_PATHS):
            raise
        return _refuse(exc, given)
    return code if isinstance(code, int) else 0


def _whole(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as the program takes them.

    The command must see `--`, which ends the options, but the program itself takes one away. `help COMMAND` means COMMAND --help.
    """
    given = list(arguments)
    if given and given[0] in _INSTEAD:
        given = [*given[1:], _INSTEAD[given[0]]]
    place = given.index("--") if "--" in given else 0
    return [*given[:place], "--", *given[place:]] if place else given


def _say(error: str) -> None:
    """Print an error on standard error: as a line of the log where the log is JSON, else as text."""
    import logging

    from streamav.cli.logs import JsonFormatter

    if any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers):
        logging.getLogger("streamav").error("%s", error)
    else:
        from streamav.cli.folding import folded_for

        sys.stderr.write(folded_for(sys.stderr, f"streamav: {error}") + "\n")


def _refuse(error: Any, given: Sequence[str]) -> int:  # noqa: ANN401 - a class of typer whose name differs between versions
    """Print an error of an argument without secrets and return its exit status.

    Args:
        error: an error of typer, which repeats the argument and with it perhaps a password, or the system's about a path.
        given: the arguments of the program.
    """
    if isinstance(error, OSError):
        path = "the place of a file" if error.filename is None else _shortened(show_address(str(error.filename)))
        _say(_OF_PATHS[error.errno or 0].format(path=path))
        return SettingsError.exit_code
    message = redact(error.message)
    error.message = message.replace("Value error, ", "") + redact(advice_on_arguments(message, given))
    error.show()
    return int(error.exit_code)


def _shortened(path: str) -> str:
    return path if len(path) <= _LONGEST_SHOWN else f"{path[:_LONGEST_SHOWN]}..."


def _program() -> typer.Typer:
    """Build the program with the commands of this installation, without loading them."""
    program = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

    @program.callback()
    def streamav(
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ) -> None:
        """Detect audio-visual events (heard and seen at the same time) live and publish them over MQTT.

        Start with `streamav demo`. `streamav COMMAND --help` explains a command.

        Exit status: 0 done, 1 bug, 2 settings, 3 source, 4 model, 5 broker, 6 engine, 7 data, 130 Ctrl-C.
        """

    for name, place in COMMANDS.items():
        if importlib.util.find_spec(place.module) is not None:
            _add(program, name, place)
    return program
