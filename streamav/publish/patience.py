"""Decides how long to wait after a failed connection, and logs each new reason once.

It does not wait and reads no clock; the caller passes the time.
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
    taken_over: bool = False
    """The broker closed an accepted connection because another client connected with the same id (known with MQTT 5 only)."""
    closed: bool = False
    """The broker closed an accepted connection without a reason; MQTT 3.1.1 brokers also do this when another client has our id."""
    too_large: bool = False
    """The broker closed an accepted connection because a message was larger than it accepts (known with MQTT 5 only)."""
    quota: bool = False
    """The broker had no room for a message (reason code 0x97); we closed the connection."""


class Patience:
    """The failures of one connection loop: which pause follows, and which reason was logged last."""

    def __init__(self, broker: str, client_id: str, backoff: Backoff, refused_s: float) -> None:
        """Store the names of the broker and of our client for the log, the back-off, and the pause after a refusal (seconds)."""
        self._broker = broker
        self._client_id = client_id
        self._backoff = backoff
        self._refused_s = refused_s
        self._taken_over_s: deque[float] = deque(maxlen=TAKEOVERS)
        self._closed_s: deque[float] = deque(maxlen=TAKEOVERS)
        self._told: str | None = None

    def failed(self, failure: Failure, now_s: float, stood_s: float | None) -> float:
        """Take a failure, log its reason when it is new, and return the pause before the next attempt in seconds.

        Only the broker's own word makes the pause long: a refusal, or the third takeover within a minute. A connection that is closed
        again and again without a reason gets the usual pauses, because a broker that restarts looks the same.

        Args:
            failure: why there is no connection.
            now_s: time of a monotonic clock, seconds.
            stood_s: how long the connection had lasted, seconds; None when the broker never accepted it.
        """
        if stood_s is not None and stood_s >= LASTED_S:
            self._backoff.reset()
            self._told = None
        if failure.taken_over and _often(self._taken_over_s, now_s):
            reason = f"another client uses our client id {self._client_id}: set another mqtt.client_id for each streamav"
            self._tell(logging.ERROR, "broker cannot be used, next attempts follow after long pauses", reason)
            return self._refused_s
        if failure.fatal:
            self._tell(logging.ERROR, "broker cannot be used, next attempts follow after long pauses", failure.reason)
            return self._refused_s
        reason = failure.reason
        if failure.closed and not failure.too_large and stood_s is not None and _often(self._closed_s, now_s):
            reason += f" again; if another client uses our client id {self._client_id}, set another mqtt.client_id for each streamav"
        what = "broker not reached, events wait" if stood_s is None else "broker connection lost, events wait"
        self._tell(logging.WARNING, what, reason)
        return self._backoff.next_s()

    def _tell(self, level: int, what: str, reason: str) -> None:
        """Log a reason; at DEBUG level when it is the same as the last one."""
        _log.log(logging.DEBUG if reason == self._told else level, "%s broker=%s reason=%s", what, self._broker, reason)
        self._told = reason


def _often(times_s: deque[float], now_s: float) -> bool:
    """Add a time; return whether the last three lie within a minute."""
    times_s.append(now_s)
    return len(times_s) == TAKEOVERS and now_s - times_s[0] <= TAKEOVER_SPAN_S
