"""Reads the settings again while a run goes on: takes over what can change, and names what needs a restart.

Which sources there are can change, and what each source detects (its section `detection`). A source with another address, other settings
of capture or another choice of labels starts again; all others lose nothing.
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
from streamav.app.setups import check_count
from streamav.errors import StreamavError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from streamav.app.exchange import SourceExchange
    from streamav.config import OneOfSources, Settings
    from streamav.control import Controls

__all__ = ["Reload", "Reloaded", "has_terminal"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What came of it."""

    changed: tuple[str, ...] = ()
    """Ids of the sources that detect something else from now on."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    """Ids of the sources that start again."""
    need_restart: tuple[str, ...] = ()
    """Names of the settings that differ from those of the run and did not take effect; never values."""
    exchange: Future[None] | None = None
    """Done once the sources have come and gone; None where none does."""


class Reload:
    """Reads the settings of a run again, one time after the other."""

    def __init__(self, read: Callable[[], Settings], settings: Settings, controls: Controls, exchange: SourceExchange) -> None:
        """Store what the run began with.

        Args:
            read: reads the settings as at the start: file, environment, options.
            settings: those of the run.
            controls: of the run.
            exchange: of the run.
        """
        self._read, self._settings, self._controls, self._exchange = read, settings, controls, exchange
        self._sources = {one.id: one for one in settings.each_source()}
        self._lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Reload, and say in the log and to the service manager how it went; a wrong file changes nothing."""
        manager = ServiceManager.of(os.environ)
        async with self._lock:
            if manager is not None:
                manager.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
            await self._once()
            if manager is not None:  # not when the run ends meanwhile, which the manager was told already
                manager.tell("READY=1")

    async def _once(self) -> None:
        try:
            found = await asyncio.to_thread(self.now)
            if found.exchange is not None:
                await asyncio.wrap_future(found.exchange)
        except StreamavError as exc:
            _log.error("the settings were not reloaded, the run goes on as before reason=%s", exc)
        except Exception:  # noqa: BLE001 - an error of ours must not end the run, and the manager must hear of the end of the reload
            _log.exception("the settings were not reloaded because of an error in streamav, the run goes on")
        else:
            _say(found)

    def now(self) -> Reloaded:
        """Read the settings and take over what can change.

        Raises:
            StreamavError: when they are wrong, or a file of a source cannot be read; then nothing changes.
        """
        newer = self._read()
        check_count(newer)
        before, now = self._sources, {one.id: one for one in newer.each_source()}
        gone = tuple(name for name in before if name not in now)
        restarted = tuple(name for name, one in now.items() if name in before and _restarts(before[name], one))
        added = tuple(name for name in now if name not in before)
        prepared = self._exchange.prepare(newer, [now[name] for name in (*restarted, *added)])
        stay = {name: one.detection for name, one in now.items() if name in before and name not in restarted}
        changed = self._controls.reload(stay)
        self._sources = now
        return Reloaded(
            changed=tuple(plan.source for plan in changed),
            added=added,
            removed=gone,
            restarted=restarted,
            need_restart=tuple(_differing(self._settings, newer, leave={"source", "sources", "detection", "capture"})),
            exchange=self._exchange.apply(prepared, gone) if prepared or gone else None,
        )


def _say(found: Reloaded) -> None:
    lists = (", ".join(ids) or "none" for ids in (found.changed, found.added, found.removed, found.restarted))
    _log.info("the settings were reloaded sources_changed=%s sources_added=%s sources_removed=%s sources_restarted=%s", *lists)
    if found.need_restart:
        _log.warning("these settings hold after a restart only: %s", ", ".join(found.need_restart))


def _restarts(before: OneOfSources, now: OneOfSources) -> bool:
    """Return whether a source must be opened again: for all but what it detects, and for another choice of labels."""
    leave = {"id", "detection", "node"}  # the node matters in a cluster only
    return before.detection.labels != now.detection.labels or any(True for _ in _differing(before, now, leave=leave))


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
