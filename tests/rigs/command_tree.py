"""Every command of `streamav` with its options, read from the code without running a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streamav.cli import COMMANDS, loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Leaf", "leaves"]


class Leaf(NamedTuple):
    """A command that does work: no group of commands."""

    name: str
    """As it is called, without `streamav`: `models pull`."""
    command: Any
    """The command of typer."""


def leaves() -> Iterator[Leaf]:
    """Yield every command and subcommand, in the order of --help."""
    for name, place in COMMANDS.items():
        top = loaded(name, place)
        for inner, command in getattr(top, "commands", {"": top}).items():
            yield Leaf(f"{name} {inner}".strip(), command)
