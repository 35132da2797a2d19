"""Says what a person may have meant by arguments that the command line cannot read.

It changes no argument; it writes the second half of an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["advice_on_arguments"]

_LONG_DASH: Final = re.compile(r"[\u2010-\u2015\u2212]+-?[A-Za-z]")
_NO_COMMAND: Final = re.compile(r"No such command '(.+)'")
_EXTRA: Final = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.+)\)")
_LIKE_A_FILE: Final = re.compile(r".*(\.\w{2,4}|/.*|://.*)")
_WITH_SOURCE: Final = frozenset({"run", "doctor", "record"})
"""Commands that take what they read with --source."""


def advice_on_arguments(error: str, given: Sequence[str]) -> str:
    """Return what to do, beginning with a space; "" where the error itself suffices.

    Args:
        error: what typer says, without secrets, such as "No such command 'clip.mp4'.".
        given: the arguments of the program, the name of the command first.
    """
    if long := next((one for one in given if _LONG_DASH.match(one)), None):
        option = long.partition("=")[0]  # its value may be a secret
        name = option.lstrip("\u2010\u2011\u2012\u2013\u2014\u2015\u2212-")
        return f" {option} begins with a long dash, as web pages write it; write {'--' if len(name) > 1 else '-'}{name}"
    if (found := _NO_COMMAND.search(error)) and _LIKE_A_FILE.fullmatch(found[1]):
        return f" For the events of a file write: streamav run --source {found[1]}"
    if (found := _EXTRA.search(error)) and given[0] in _WITH_SOURCE and "--source" not in given:
        return f". What is read is named with --source: streamav {given[0]} --source {found[1]}"
    return ""
