"""Tells the service manager (systemd) how the run is: started, alive, stopping, and a line of status. See sd_notify(3).

The protocol is one datagram of lines. The packages for it were not taken: systemd-python and cysystemd are built against libsystemd,
sdnotify has had no release since 2017, and systemd-watchdog would be a dependency for one function.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from streamav.errors import reason_of
from streamav.types import SourceState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import Self

__all__ = ["ServiceManager", "attended", "status_line"]

_log = logging.getLogger(__name__)

_STATUS_S: Final = 1.0
"""Time between two looks at the run, s."""
_PETS: Final = 3.0
"""Signs of life in the time that the watchdog allows: one or two may come late (sd_watchdog_enabled(3) advises two)."""
_US: Final = 1e6
_LONGEST_STATUS: Final = 200


class ServiceManager:
    """The socket of the service manager that started this process."""

    def __init__(self, address: str, watchdog_s: float | None) -> None:
        """Store the address.

        Args:
            address: path of the socket; @ at its beginning stands for the abstract name space of Linux.
            watchdog_s: after this time without a sign of life the manager restarts us, s; None for no watchdog.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._told = False
        self.watchdog_s = watchdog_s

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the manager that the environment names, or None."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        microseconds, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
        ours = microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0 and process == str(os.getpid())
        return cls(address, int(microseconds) / _US if ours else None)

    def tell(self, *lines: str) -> None:
        """Send lines such as READY=1; a manager that does not listen changes nothing for the run."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(0.0)
                connection.sendto("\n".join(lines).encode(), self._address)
        except OSError as exc:
            if not self._told:
                self._told = True
                _log.warning("the service manager cannot be told how the run is reason=%s", reason_of(exc))


@asynccontextmanager
async def attended(
    manager: ServiceManager | None, idle_s: Callable[[], float], states: Callable[[], Mapping[str, SourceState]]
) -> AsyncIterator[None]:
    """Tell the manager how the run is until the block ends: signs of life only while the loop takes turns.

    Args:
        manager: None for none.
        idle_s: returns the seconds since the loop took its last turn.
        states: returns the state of each source.
    """
    if manager is None:
        yield
        return
    task = asyncio.create_task(_attend(manager, idle_s, states), name="service-manager")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        manager.tell("STOPPING=1", "STATUS=ending the run")


async def _attend(manager: ServiceManager, idle_s: Callable[[], float], states: Callable[[], Mapping[str, SourceState]]) -> None:
    limit_s = manager.watchdog_s
    told = status_line(states())
    manager.tell("READY=1", f"STATUS={told}")
    while True:
        if limit_s is not None and idle_s() < limit_s:
            manager.tell("WATCHDOG=1")
        line = status_line(states())
        if line != told:
            told = line
            manager.tell(f"STATUS={line}")
        await asyncio.sleep(_STATUS_S if limit_s is None else min(_STATUS_S, limit_s / _PETS))


def status_line(states: Mapping[str, SourceState]) -> str:
    """Return the states of the sources in one line, such as "2 of 3 sources online, lost: gate"."""
    counts = Counter(states.values())
    parts = [f"{counts[SourceState.ONLINE]} of {len(states)} sources online"]
    parts += [
        f"{state.value.replace('_', ' ')}: {' '.join(name for name, one in states.items() if one is state)}"
        for state in SourceState
        if state is not SourceState.ONLINE and counts[state]
    ]
    return ", ".join(parts)[:_LONGEST_STATUS]
