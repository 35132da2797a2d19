"""Decides how long to wait after a failed connection, and what to say about it: each reason once.

It waits for nothing and reads no clock: it is told the time.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamav.backoff import Backoff

__all__ = ["Failure", "Patience"]

LASTED_S = 10.0
"""A connection that stood so long was a good one: the back-off starts again (our choice)."""
TAKEOVERS = 3
TAKEOVER_SPAN_S = 60.0
"""So many takeovers within such a span are a second client with our id (contract, section 9)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no connection."""

    reason: str
    fatal: bool = False
    """Trying again soon is pointless."""
    thrown_out: bool = False
    """The broker closed an accepted connection, as it does when another client comes with the same id."""


class Patience:
    """The memory of one connection loop."""

    def __init__(self, broker: str, client_id: str, backoff: Backoff) -> None:
        """Take what to call the broker and ourselves in the log, and the pauses."""
        self._broker = broker
        self._client_id = client_id
        self._backoff = backoff
        self._thrown_out_s: deque[float] = deque(maxlen=TAKEOVERS)
        self._told: str | None = None

    def failed(self, failure: Failure, now_s: float, stood_s: float | None) -> float:
        """Take a failure, say it when it is news, and give the pause before the next attempt in seconds.

        Args:
            failure: what happened.
            now_s: clock that only goes on, seconds.
            stood_s: how long the connection had stood, seconds; None when it was never accepted.
        """
        if stood_s is not None and stood_s >= LASTED_S:
            self._backoff.reset()
            self._told = None
        if failure.thrown_out:
            self._thrown_out_s.append(now_s)
        if len(self._thrown_out_s) == TAKEOVERS and now_s - self._thrown_out_s[0] <= TAKEOVER_SPAN_S:
            reason = f"another client with the id {self._client_id} seems to throw us out: give each streamav its own mqtt.client_id"
            self._tell(logging.ERROR, "broker cannot be used", reason)
            return self._backoff.cap_s
        if failure.fatal:
            self._tell(logging.ERROR, "broker cannot be used, trying again rarely", failure.reason)
            return self._backoff.cap_s
        self._tell(logging.WARNING, "broker away, events wait" if stood_s is None else "broker lost, events wait", failure.reason)
        return self._backoff.next_s()

    def _tell(self, level: int, what: str, reason: str) -> None:
        """Log a reason when it is another than the last one told, else only for those who debug."""
        _log.log(logging.DEBUG if reason == self._told else level, "%s broker=%s reason=%s", what, self._broker, reason)
        self._told = reason
