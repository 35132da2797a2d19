"""Limits how many requests run in threads and how many wait, so that many viewers cost the run only a few threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from streamav.errors import StreamavError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BusyError", "Questions"]

_AT_ONCE: Final = 4
"""Most questions at the same time; further ones wait."""
_WAITING: Final = 16
"""Most questions that wait; further ones are refused."""

_T = TypeVar("_T")


class BusyError(StreamavError):
    """Too many questions wait."""


class Questions:
    """Runs questions in threads; all its methods belong to one loop."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._asking = 0

    async def work(self, work: Callable[[], _T]) -> _T:
        """Return what *work* returns; it runs in a thread.

        Raises:
            BusyError: when too many questions wait already.
        """
        if self._asking >= _AT_ONCE + _WAITING:
            msg = "too many questions at the same time; ask again in a second"
            raise BusyError(msg)
        self._asking += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._asking -= 1
