"""Writes numbers with their nouns."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Return "1 event" or "2 events": a number with a regular noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
