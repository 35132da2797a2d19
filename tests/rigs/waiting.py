"""Waits for what another task, thread or process does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], bool], within_s: float = 10.0, *, every_s: float = 0.001) -> None:
    """Run the loop until *condition* holds.

    Raises:
        TimeoutError: when it does not hold within this time.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - there is no event for every condition
            await asyncio.sleep(every_s)
