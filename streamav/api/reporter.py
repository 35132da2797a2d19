"""Says how a run is doing: whether it is alive, whether events arrive, and its figures. The thread of the API asks it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from streamav import __version__
from streamav.api.metrics import Metrics
from streamav.api.status import Status

if TYPE_CHECKING:
    from streamav.api.facts import Facts

__all__ = ["STALLED_S", "Reporter"]

STALLED_S: Final = 60.0
"""The loop takes a turn at least five times a second; after this long without one the run hangs (our choice)."""


class Reporter:
    """What is known of the run now."""

    def __init__(self, facts: Facts) -> None:
        """Begin with sources that have just started."""
        self._facts = facts
        self._began_s = time.monotonic()
        self.status = Status(facts.sources)
        labels = {one.id: tuple(one.thresholds()) for one in facts.sources}
        lost = None if facts.journal is None else facts.journal_lost
        self.metrics = Metrics(labels, facts.model, facts.mqtt, lost, facts.gpu_memory)

    @property
    def alive(self) -> bool:
        """True while the loop takes turns."""
        return self._facts.idle_s() < STALLED_S

    def readiness(self) -> dict[str, Any]:
        """Return whether events arrive, and what that depends on; None for a part that this run does not have."""
        broker = None if self._facts.mqtt is None else self._facts.mqtt.connected
        checks = {"loop": self.alive, "sources": self.status.delivering, "broker": broker}
        return {"ready": all(value is not False for value in checks.values()), "checks": checks}

    def stats(self) -> dict[str, Any]:
        """Return the figures of the run as JSON values."""
        facts, model = self._facts, self._facts.model()
        return {
            "version": __version__,
            "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
            "backend": model.backend,
            "uptime_s": round(time.monotonic() - self._began_s, 1),
            "sources": {name: state.value for name, state in self.status.states.items()},
            "open_events": self.status.open_events,
            "confirmed_events": self.status.counts(),
            "retracted_events": self.status.retracted,
            "mqtt": None if facts.mqtt is None else asdict(facts.mqtt),
            "journal": None if facts.journal is None else {"lost_entries": facts.journal_lost()},
            "gpu_memory_bytes": facts.gpu_memory(),
        }
