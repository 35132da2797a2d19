r"""Writes tables as LaTeX for a paper: booktabs rules, one column for each figure, special characters escaped.

A document needs \usepackage{booktabs}.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["latex_table", "latex_text"]

_SPECIAL: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
"""Source: LaTeX2e unofficial reference manual, "Reserved characters"."""

_HEAD_WIDTH: Final = 14
"""Letters in a line of a column's head: eight columns of this width fit a page of two columns."""


def latex_text(text: str) -> str:
    """Return plain text with all special characters escaped."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _head(text: str) -> str:
    """Return the head of a column; a long one stands in several lines, because a table of many columns must fit the page."""
    lines = textwrap.wrap(text, _HEAD_WIDTH, break_long_words=False, break_on_hyphens=False)
    if len(lines) < 2:  # noqa: PLR2004 - one line
        return latex_text(text)
    return r"\shortstack[r]{" + r"\\".join(map(latex_text, lines)) + "}"


def latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, label: str, rule_before: int | None = None) -> str:
    """Return a table; the first column is text, the others are aligned to the right.

    Args:
        heads: names of the columns, plain text.
        rows: plain text, one cell for each column.
        caption: plain text.
        label: for references, such as "tab:components"; letters, digits, colon and hyphen.
        rule_before: row before which a rule is drawn; None for none.
    """
    body = []
    for number, row in enumerate(rows):
        if number == rule_before:
            body.append(r"\midrule")
        body.append(" & ".join(latex_text(cell) for cell in row) + r" \\")
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(_head(head) for head in heads) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
