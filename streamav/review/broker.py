"""Says in words how the connection to the broker is, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamav.publish.pending import MqttCounters

__all__ = ["broker_state"]


def broker_state(counters: MqttCounters) -> dict[str, Any]:
    """Return the state of the broker as the page shows it: state, reason, remedy, and the messages that wait."""
    waiting = f"{counters.queue_depth} message{'' if counters.queue_depth == 1 else 's'} about events wait"
    if counters.connected and counters.refused:
        reason = f"the broker refused {counters.refused} messages"
        return _state("degraded", reason, "Check its access rules and its limit of the size of messages; the log says more.", counters)
    if counters.connected:
        return _state("online", "connected", "", counters)
    if not counters.connects and counters.attempts < 2:  # noqa: PLR2004 - the first attempt may still go on
        return _state("warming_up", "connecting", "", counters)
    reason = "the connection was lost" if counters.connects else "the broker was never reached"
    remedy = f"Check that it runs, its address and its login (streamav doctor tests them). {waiting} and will be delivered."
    return _state("lost", reason, remedy, counters)


def _state(state: str, reason: str, remedy: str, counters: MqttCounters) -> dict[str, Any]:
    return {"state": state, "reason": reason, "remedy": remedy, "waiting": counters.queue_depth, "dropped": counters.dropped}
