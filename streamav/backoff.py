"""Computes the wait before the next attempt to connect or to open a source: exponential with jitter.

It does not wait itself and reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

__all__ = ["Backoff", "doubled_s"]

_MAX_DOUBLINGS = 32
"""Above this, min_s * 2**n is larger than every useful upper bound. The limit keeps floats finite."""


def doubled_s(min_s: float, max_s: float, attempt: int) -> float:
    """Return the pause that doubles with each attempt, s: min_s for attempt 0, never above max_s, whatever the number of attempts."""
    return min(max_s, min_s * 2.0 ** min(attempt, _MAX_DOUBLINGS))


class Backoff:
    """Draws pauses evenly between least_s and min_s * 2**attempt, never above max_s.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter", where least_s is 0).
    """

    def __init__(self, min_s: float, max_s: float, random: Random, *, least_s: float = 0.0) -> None:
        """Start with the first pause.

        Args:
            min_s: upper bound of the first pause, s; it doubles with each attempt.
            max_s: the upper bound never exceeds this, s; a value below min_s counts as min_s.
            random: draws the pauses.
            least_s: lower bound of every pause, s, at most min_s. A device needs some time before it can be opened again.
        """
        self._min_s = min_s
        self._max_s = max(min_s, max_s)
        self._least_s = least_s
        self._random = random
        self._attempt = 0

    def next_s(self) -> float:
        """Return the next pause in seconds, least_s to max_s."""
        bound = doubled_s(self._min_s, self._max_s, self._attempt)
        self._attempt += 1
        return self._random.uniform(self._least_s, bound)

    def reset(self) -> None:
        """Start again from min_s, after a connection that lasted or a source that gave data."""
        self._attempt = 0
