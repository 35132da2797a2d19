"""Tests that sentences and log lines hold the reason of a system's error, not its number."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = {"OSError", "FileNotFoundError", "PermissionError", "IsADirectoryError", "NotADirectoryError", "FileExistsError", "FFmpegError"}
"""Errors whose text begins with a number: [Errno 2] No such file or directory: 'a.npz'."""


def _names(node: ast.expr | None) -> set[str]:
    return (
        {one.id if isinstance(one, ast.Name) else one.attr for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute)}
        if node
        else set()
    )


def _shown(handler: ast.ExceptHandler) -> Iterator[int]:
    """Yield the lines on which a handler turns its error into text by itself."""

    def is_error(node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id == handler.name

    for node in (one for part in handler.body for one in ast.walk(part)):
        if isinstance(node, ast.FormattedValue) and is_error(node.value):
            yield handler.lineno
        if isinstance(node, ast.Attribute) and node.attr == "strerror" and is_error(node.value):
            yield node.lineno
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            if name in {"str", "debug", "info", "warning", "error"} and any(map(is_error, node.args)):
                yield node.lineno


def test_reasons_are_words() -> None:
    """Where an error of the system is caught and told, its reason is that of errors.reason_of: words without number and path."""
    found = []
    for path in sorted((ROOT / "streamav").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if any(name in text for name in SYSTEM) else ():
            if isinstance(node, ast.ExceptHandler) and node.name and _names(node.type) & SYSTEM:
                found += [f"{path.relative_to(ROOT)}:{line}" for line in _shown(node)]
    assert not found, "use streamav.errors.reason_of"
