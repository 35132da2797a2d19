"""Says how long to wait before the next attempt to connect: exponential with full jitter.

It does not wait itself and reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

__all__ = ["Backoff"]

_MAX_DOUBLINGS = 32
"""Beyond it min_s * 2**n is above every cap that makes sense, and floats stay finite."""


class Backoff:
    """Pauses drawn evenly between nothing and min_s * 2**attempt, never above max_s.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
    """

    def __init__(self, min_s: float, max_s: float, random: Random) -> None:
        """Take the bound of the first pause, the cap, and where chance comes from."""
        self._min_s = min_s
        self._max_s = max_s
        self._random = random
        self._attempt = 0

    @property
    def cap_s(self) -> float:
        """The longest pause, seconds."""
        return self._max_s

    def next_s(self) -> float:
        """Give the next pause in seconds, 0 to max_s."""
        bound = min(self._max_s, self._min_s * 2 ** min(self._attempt, _MAX_DOUBLINGS))
        self._attempt += 1
        return self._random.uniform(0.0, bound)

    def reset(self) -> None:
        """Start again from min_s, after a connection that lasted."""
        self._attempt = 0
