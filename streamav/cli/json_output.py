"""Prints results as JSON for scripts: valid JSON, on standard output, and nothing else there."""

from __future__ import annotations

import json
import math
from typing import Any

import typer

__all__ = ["finite", "print_json"]


def print_json(tree: object, *, indent: int | None = 1) -> None:
    """Print a tree as JSON, with None for numbers that JSON does not have.

    Args:
        tree: objects, lists, tuples, strings, numbers, booleans and None.
        indent: spaces of each level; None for one line.
    """
    typer.echo(json.dumps(finite(tree), indent=indent, allow_nan=False))


def finite(tree: object) -> Any:  # noqa: ANN401 - any JSON value
    """Return a tree in which NaN and infinity are None: JSON has no such numbers (RFC 8259, section 6)."""
    if isinstance(tree, dict):
        return {key: finite(one) for key, one in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite(one) for one in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
