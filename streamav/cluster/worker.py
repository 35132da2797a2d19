"""A worker of a cluster: the same pipeline as `streamav run` on one machine, whose sources follow the controller's orders.

It knows no Ray: an actor passes the calls on. One thread builds the run and changes its sources, another one runs it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamav import app
from streamav.cluster.lease import Lease, boot_ns
from streamav.cluster.orders import Report, SourceReport
from streamav.errors import StreamavError
from streamav.publish import decode
from streamav.publish.state_folder import default_state_dir

if TYPE_CHECKING:
    from streamav.app import Application
    from streamav.cluster.orders import Order, Phase, SourceOrder
    from streamav.config import Settings
    from streamav.pipeline.lane import Lane

__all__ = ["ClusterWorker"]

_log = logging.getLogger(__name__)
_LOOK_S = 0.25
"""Longest time from the end of a lease to the release of cameras, s. Nothing is published in that time: the publisher asks for itself."""
_FAREWELL_S = 5.0
"""Longest time for the last messages of a released source, s."""


@dataclass(slots=True)
class _Running:
    """One source as this worker has it."""

    order: SourceOrder
    failed: str | None = None
    released_s: float | None = None
    """When its release was asked for, by the monotonic clock."""
    seen: bool = False
    """True once the pipeline has had it."""


class ClusterWorker:
    """Runs the sources that the controller orders. beat() may be called from any thread, and returns at once."""

    def __init__(self, name: str, settings: Settings) -> None:
        """Start the thread that follows orders; the run itself is built with the first order.

        Args:
            name: name of the worker: one topic level.
            settings: all settings of the cluster's run, with all its sources.
        """
        self._name = name
        folder = (settings.state_dir or default_state_dir()) / "cluster" / name
        self._settings = settings.model_copy(update={"state_dir": folder})
        self._order: Order | None = None
        self._lease = Lease(0)
        self._application: Application | None = None
        self._thread: threading.Thread | None = None
        self._running: dict[str, _Running] = {}
        self._error: str | None = None
        self._closed = self._stopping = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="orders", daemon=True)
        self._follower.start()

    def beat(self, order: Order) -> Report:
        """Take an order and return the worker's report."""
        with self._lock:
            if self._order is None or order.epoch >= self._order.epoch:
                self._order = order
            lease = self._lease
        if order.anchor_ns is not None and order.epoch == lease.epoch:
            lease.renew(order.anchor_ns, order.lease_s)
        self._wake.set()
        return self._report()

    def stop(self) -> Report:
        """End all events and the run, in order; return when it has ended."""
        self._stopping = True
        self._wake.set()
        self._follower.join()
        return self._report()

    # The thread that follows orders

    def _follow(self) -> None:
        while not self._stopping:
            self._wake.wait(_LOOK_S)
            self._wake.clear()
            try:
                self._step()
            except StreamavError as exc:
                self._error = str(exc)
            except Exception as exc:  # noqa: BLE001 - the controller must hear of it
                _log.exception("worker failed worker=%s", self._name)
                self._error = f"{type(exc).__name__}: {exc}"
        self._end()

    def _step(self) -> None:
        order = self._order
        if order is None:
            return
        if order.epoch != self._lease.epoch:
            self._end()
            with self._lock:
                self._lease, self._error = Lease(order.epoch), None
            self._closed = False
            if order.anchor_ns is not None:  # an order of a former life: the next report holds our time
                return
        if self._lease.over:
            if self._application is not None:
                _log.warning("the lease is over, this worker publishes nothing more worker=%s epoch=%d", self._name, self._lease.epoch)
                self._end()
            self._closed = True
            return
        if self._application is None:
            self._begin(order)
        if self._lease.holds():
            self._reconcile(order)

    def _begin(self, order: Order) -> None:
        """Build the run of this epoch. What an earlier epoch has not delivered must never be delivered, so its outbox goes."""
        if self._error is not None:
            return
        if self._settings.state_dir is not None:
            shutil.rmtree(self._settings.state_dir / "mqtt", ignore_errors=True)
        mqtt = self._settings.mqtt
        settings = self._settings.model_copy(
            update={"mqtt": None if mqtt is None else mqtt.model_copy(update={"client_id": order.client_id})}
        )
        member = app.Membership(worker=self._name, permit=self._lease.holds)
        application = app.build(settings, beside=False, journal=True, member=member)
        self._application = application
        self._thread = threading.Thread(target=lambda: self._run(application), name="run", daemon=True)
        self._thread.start()

    def _run(self, application: Application) -> None:
        try:
            asyncio.run(app.run(application))
        except Exception as exc:  # noqa: BLE001 - the controller must hear of it
            _log.exception("the run of this worker failed worker=%s", self._name)
            self._error = f"{type(exc).__name__}: {exc}"

    def _end(self) -> None:
        application, thread = self._application, self._thread
        if application is not None and thread is not None:
            application.pipeline.stop()
            thread.join()
        self._application = self._thread = None
        self._running.clear()

    def _reconcile(self, order: Order) -> None:
        """Start, unmute and release sources until what runs is what the order names."""
        changing = None if self._application is None else self._application.changing
        if changing is None:
            return
        there = self._there()
        for source, wanted in order.sources.items():
            known = self._running.get(source)
            if known is not None and known.failed is None:
                known.seen = known.seen or source in there
                if known.seen and source not in there:  # released, but the controller wants it back
                    del self._running[source]
                    known = None
                else:
                    known.released_s = None
            if known is None:
                self._add(source, wanted)
            elif known.order.muted and not wanted.muted and known.failed is None:
                changing.speak(source, wanted.epoch, [decode(one) for one in wanted.left_open])
                known.order = wanted
        for source in [one for one in self._running if one not in order.sources]:
            self._release(source, quiet=source in order.quiet)

    def _there(self) -> frozenset[str]:
        """Return the sources that the pipeline has now."""
        return frozenset() if self._application is None else frozenset(lane.setup.id for lane in self._application.pipeline.lanes)

    def _add(self, source: str, wanted: SourceOrder) -> None:
        changing = None if self._application is None else self._application.changing
        if changing is None:
            return
        one = self._running[source] = _Running(wanted)
        try:
            changing.add(source, wanted.begin_s, None if wanted.muted else wanted.epoch, [decode(message) for message in wanted.left_open])
        except StreamavError as exc:
            one.failed = str(exc)

    def _release(self, source: str, *, quiet: bool) -> None:
        """Ask for the release of a source; forget it when it is gone and its last messages were delivered."""
        application, one = self._application, self._running[source]
        if application is None or application.changing is None:
            return
        if one.failed is not None:
            del self._running[source]
            return
        there = source in self._there()
        if one.released_s is None or (quiet and there):
            one.released_s = time.monotonic()
            application.changing.release(source, quiet=quiet)
            return
        waits = application.mqtt is not None and application.mqtt.waits_for(source)
        if not there and (not waits or time.monotonic() - one.released_s > _FAREWELL_S):
            del self._running[source]

    # What is reported

    def _report(self) -> Report:
        application, lease = self._application, self._lease
        lanes = {} if application is None else {lane.setup.id: lane for lane in application.pipeline.lanes}
        sources = {name: _source_report(one, lanes.get(name)) for name, one in dict(self._running).items()}
        return Report(
            now_ns=boot_ns(),
            epoch=lease.epoch,
            over=lease.over and self._closed,
            processor_s=time.process_time(),
            sources=sources,
            engine="" if application is None else application.engine.name,
            error=self._error,
        )


def _source_report(one: _Running, lane: Lane | None) -> SourceReport:
    """Return the state of a source; *lane* is None before it has started and after it has gone."""
    phase: Phase = "muted" if one.order.muted else "running"
    if one.released_s is not None:
        phase = "releasing"
    report = SourceReport(phase="starting" if lane is None and one.released_s is None else phase, epoch=one.order.epoch)
    if one.failed is not None:
        return replace(report, phase="failed", error=one.failed)
    if lane is None:
        return report
    meter = lane.meter
    if lane.finished:
        report = replace(report, phase="ended" if lane.error is None else "failed", error=None if lane.error is None else str(lane.error))
    return replace(
        report,
        state=lane.stages.state.value,
        segments=meter.segments,
        events=meter.events,
        dropped=lane.feed.inbox.dropped,
        thinned=meter.thinned,
        busy_s=meter.busy_ns / 1e9,
        latency_s=meter.latencies_s[-1] if meter.latencies_s else None,
    )
