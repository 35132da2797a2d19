"""Reads the settings again while a run goes on: takes over what can change, and names what needs a restart.

What each source detects (its section `detection`: thresholds, labels switched on and off, zones, schedules, cooldown, latency) can change.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from streamav.app.service_manager import ServiceManager
from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamav.config import OneOfSources, Settings
    from streamav.control import Controls

__all__ = ["Reload", "Reloaded", "has_terminal"]

_log = logging.getLogger(__name__)
_LABELS = "detection.labels"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of it."""

    changed: tuple[str, ...]
    """Ids of the sources that detect something else from now on."""
    need_restart: tuple[str, ...]
    """Names of the settings that differ from those of the run and did not take effect; never values."""


class Reload:
    """Reads the settings of a run again, one time after the other."""

    def __init__(self, read: Callable[[], Settings], settings: Settings, controls: Controls) -> None:
        """Store what the run began with.

        Args:
            read: reads the settings as at the start: file, environment, options.
            settings: those of the run.
            controls: of the run.
        """
        self._read, self._settings, self._controls = read, settings, controls
        self._lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Reload, and say in the log and to the service manager how it went; a wrong file changes nothing."""
        manager = ServiceManager.of(os.environ)
        async with self._lock:
            if manager is not None:
                manager.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
            try:
                found = await asyncio.to_thread(self.now)
            except SettingsError as exc:
                _log.error("the settings were not reloaded, the run goes on as before reason=%s", exc)
            else:
                _log.info("the settings were reloaded sources_changed=%s", ", ".join(found.changed) or "none")
                if found.need_restart:
                    _log.warning("these settings hold after a restart only: %s", ", ".join(found.need_restart))
            finally:
                if manager is not None:
                    manager.tell("READY=1")

    def now(self) -> Reloaded:
        """Read the settings and take over what can change.

        Raises:
            SettingsError: when they are wrong; then nothing changes.
        """
        newer = self._read()
        before = {one.id: one for one in self._settings.each_source()}
        now = {one.id: one for one in newer.each_source()}
        waiting = list(_differing(self._settings, newer, leave={"source", "sources", "detection", "capture"}))
        configured = {}
        for name, one in now.items():
            if name not in before:
                waiting.append(f"source {name} (new)")
                continue
            waiting += [f"source {name}: {key}" for key in _of_source(before[name], one)]
            if self._controls.configured(name).labels == one.detection.labels:
                configured[name] = one.detection
            else:
                waiting.append(f"source {name}: {_LABELS}")
        waiting += [f"source {name} (gone)" for name in before if name not in now]
        changed = self._controls.reload(configured)
        return Reloaded(tuple(plan.source for plan in changed), tuple(waiting))


def _of_source(before: OneOfSources, now: OneOfSources) -> Iterator[str]:
    """Yield the settings of a source, besides what it detects, that differ."""
    yield from _differing(before, now, leave={"id", "detection"})


def _differing(before: BaseModel, now: BaseModel, leave: set[str] | None = None, path: str = "") -> Iterator[str]:
    """Yield the names of the settings that differ."""
    for name in type(before).model_fields:
        if name in (leave or ()):
            continue
        old: Any = getattr(before, name)
        new: Any = getattr(now, name)
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            yield from _differing(old, new, path=f"{path}{name}.")
        elif old != new:
            yield f"{path}{name}"


def has_terminal() -> bool:
    """Return whether the process has a controlling terminal, whose end is told by SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
