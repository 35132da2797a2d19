"""Breaks a long line for a terminal between words, where the terminal itself would cut a word. Commands stay whole, to be copied."""

from __future__ import annotations

import re
import shutil
import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["fold", "folded_for"]

_WHOLE: Final = re.compile(r"`[^`]*`|\d (?:s|ms|MB|GB|h)\b|(?<= run: ).*?(?=;|   |$)")
"""What must not be broken: a command in backticks, one after "run:", and a number and its unit."""
_LEAST: Final = 40
"""On a narrower terminal nothing is folded, columns."""


def fold(line: str, width: int, indent: str = "  ") -> list[str]:
    """Return a line as lines of at most *width* columns, if no word or command is longer.

    Args:
        line: text without line breaks.
        width: columns.
        indent: what begins every line but the first.
    """
    if len(line) <= width or width < _LEAST:
        return [line]
    kept = _WHOLE.sub(lambda found: found[0].replace(" ", "\0"), line)
    wrapped = textwrap.wrap(kept, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [one.replace("\0", " ") for one in wrapped]


def folded_for(stream: TextIO, text: str, indent: str = "  ") -> str:
    """Return a text as it is printed to a stream: each line is folded to the width of a terminal; a file or a pipe gets it unchanged."""
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(part for line in text.split("\n") for part in fold(line, width, indent))
