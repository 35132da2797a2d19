"""Decides how long to wait after a failed connection, and logs each new reason once.

It does not wait and reads no clock; the caller gives the time.
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
"""After a connection that lasted this long the back-off starts again from its shortest pause (our choice)."""
TAKEOVERS = 3
TAKEOVER_SPAN_S = 60.0
"""This many takeovers within this span (seconds) mean that a second client uses our id (contract, section 9)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no connection."""

    reason: str
    fatal: bool = False
    """A new attempt soon would fail in the same way."""
    thrown_out: bool = False
    """The broker closed an accepted connection, as it does when another client connects with the same id."""


class Patience:
    """The failures of one connection loop: which pause follows, and which reason was logged last."""

    def __init__(self, broker: str, client_id: str, backoff: Backoff) -> None:
        """Store the names of the broker and of our client for the log, and the back-off."""
        self._broker = broker
        self._client_id = client_id
        self._backoff = backoff
        self._thrown_out_s: deque[float] = deque(maxlen=TAKEOVERS)
        self._told: str | None = None

    def failed(self, failure: Failure, now_s: float, stood_s: float | None) -> float:
        """Take a failure, log its reason when it is new, and return the pause before the next attempt in seconds.

        Args:
            failure: why there is no connection.
            now_s: time of a monotonic clock, seconds.
            stood_s: how long the connection had lasted, seconds; None when the broker never accepted it.
        """
        if stood_s is not None and stood_s >= LASTED_S:
            self._backoff.reset()
            self._told = None
        if failure.thrown_out:
            self._thrown_out_s.append(now_s)
        if len(self._thrown_out_s) == TAKEOVERS and now_s - self._thrown_out_s[0] <= TAKEOVER_SPAN_S:
            reason = f"another client seems to use our client id {self._client_id}: give each streamav its own mqtt.client_id"
            self._tell(logging.ERROR, "broker cannot be used", reason)
            return self._backoff.cap_s
        if failure.fatal:
            self._tell(logging.ERROR, "broker cannot be used, next attempts follow after long pauses", failure.reason)
            return self._backoff.cap_s
        self._tell(
            logging.WARNING, "broker not reached, events wait" if stood_s is None else "broker connection lost, events wait", failure.reason
        )
        return self._backoff.next_s()

    def _tell(self, level: int, what: str, reason: str) -> None:
        """Log a reason; at DEBUG level when it is the same as the last one."""
        _log.log(logging.DEBUG if reason == self._told else level, "%s broker=%s reason=%s", what, self._broker, reason)
        self._told = reason
