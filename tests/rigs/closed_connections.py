"""A fixture for tests that open SQLite files: it fails a test that leaves a connection open, as Python 3.13 does with a warning."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial

import pytest

__all__ = ["connections_are_closed"]


@pytest.fixture(autouse=True)
def connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Count the connections that a test opens and closes."""
    opened: set[int] = set()

    class Counted(sqlite3.Connection):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[arg-type] # passed on as they are
            self.number = len(opened) + 1
            while self.number in opened:
                self.number += 1
            opened.add(self.number)

        def close(self) -> None:
            super().close()
            opened.discard(self.number)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Counted))
    yield
    assert not opened, f"{len(opened)} connections were not closed"
