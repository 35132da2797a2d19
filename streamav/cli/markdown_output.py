"""Prints Markdown: as it is into a pipe or file, with aligned columns at a terminal, where a person reads it."""

from __future__ import annotations

import sys
from itertools import groupby

import typer

__all__ = ["aligned", "print_markdown"]


def print_markdown(text: str) -> None:
    """Print Markdown on standard output, with one end of line."""
    typer.echo((aligned(text) if sys.stdout.isatty() else text).rstrip("\n"))


def aligned(text: str) -> str:
    """Return Markdown whose tables have columns of one width each; it is still the same Markdown."""
    parts = []
    for is_table, block in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        lines = list(block)
        parts += _padded([_cells(line) for line in lines]) if is_table else lines
    return "\n".join(parts)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _padded(rows: list[list[str]]) -> list[str]:
    """Return the lines of one table; a row that has other columns than the head, or an escaped |, keeps the table as it is."""
    if len({len(row) for row in rows}) > 1:
        return [f"| {' | '.join(row)} |" for row in rows]
    ruler = [set("".join(row)) <= {"-", ":"} and any(row) for row in rows]
    widths = [max(3, *(len(row[column]) for row, rule in zip(rows, ruler, strict=True) if not rule)) for column in range(len(rows[0]))]
    return [
        f"|{'|'.join(_rule(cell, width + 2) for cell, width in zip(row, widths, strict=True))}|"
        if rule
        else f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row, rule in zip(rows, ruler, strict=True)
    ]


def _rule(cell: str, width: int) -> str:
    """Return the rule below the head of a column, with the colons that align it."""
    begin, end = cell[:1].replace("-", ""), cell[-1:].replace("-", "")
    return f"{begin}{'-' * (width - len(begin) - len(end))}{end}"
