"""Counts what a run does, for Prometheus. The names are a contract: docs/operations.md lists them, and a test keeps both equal.

The loop adds to the counters; the thread of the API reads them. The number of series is bounded: labels are ids of sources, slugs of
labels and fixed words, never texts from outside.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.process_collector import ProcessCollector

from streamav import __version__
from streamav.types import WINDOW_SEGMENTS, EventPhase, SourceState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamav.publish.message import ModelEntry
    from streamav.publish.pending import MqttCounters
    from streamav.types import Event, Observation, Telemetry

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram, s: from a fast GPU to a machine that has fallen behind (our choice)."""
disable_created_metrics()  # the time at which a counter began doubles the series and helps nobody
_STAGES: Final = ("capture", "wait", "features", "model", "publish")


class Metrics:
    """The metrics of one run, in a registry of its own."""

    def __init__(
        self,
        sources: Mapping[str, tuple[str, ...]],
        model: Callable[[], ModelEntry],
        mqtt: MqttCounters | None,
        journal_lost: Callable[[], int] | None,
        gpu_memory: Callable[[], int | None],
    ) -> None:
        """Register all metrics.

        Args:
            sources: id -> slugs of its labels.
            model: returns which model and backend compute now.
            mqtt: counters of the broker's client; None without a broker.
            journal_lost: returns how many entries the journal lacks; None without a journal.
            gpu_memory: returns the bytes of GPU memory in use, None without a GPU.
        """
        self.registry = CollectorRegistry()
        self._model, self._mqtt, self._lost, self._gpu_memory = model, mqtt, journal_lost, gpu_memory
        self._sources: dict[str, tuple[str, ...]] = {}
        self._dropped: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._factors: dict[str, float] = {}
        self._states: dict[str, SourceState] = {}
        self._open: set[str] = set()
        self._confirmed: set[str] = set()
        self._backends: set[str] = set()
        self._of_sources(sources)
        self._of_the_run()
        if mqtt is not None:
            self._of_the_broker()
        ProcessCollector(registry=self.registry)

    def _of_sources(self, sources: Mapping[str, tuple[str, ...]]) -> None:
        registry = self.registry
        self.state = Gauge("streamav_source_state", "1 for the state that the source is in", ("source", "state"), registry=registry)
        self.fps = Gauge("streamav_source_fps", "Pictures per second that arrive", ("source",), registry=registry)
        self.reconnects = Counter("streamav_source_reconnects", "Returns of a source that was lost", ("source",), registry=registry)
        self.level = Gauge("streamav_audio_rms_dbfs", "Level of the sound; -Inf in digital silence", ("source",), registry=registry)
        self.samples = Counter(
            "streamav_audio_dropped_samples", "Samples of sound that did not arrive, at 16 kHz", ("source",), registry=registry
        )
        self.fill = Gauge("streamav_buffer_fill_ratio", "Share of the ten-second window that is filled", ("source",), registry=registry)
        self.skew = Gauge("streamav_av_skew_seconds", "Measured delay of sound against picture", ("source",), registry=registry)
        self.events = Counter("streamav_events", "Confirmed events", ("source", "label"), registry=registry)
        for source, labels in sources.items():
            self.add_source(source, labels)

    def _of_the_run(self) -> None:
        registry = self.registry
        self.latency = Histogram(
            "streamav_window_latency_seconds",
            "From the end of a second of input to the hand-over of its events, by stage",
            ("stage",),
            buckets=_BUCKETS,
            registry=registry,
        )
        for stage in _STAGES:
            self.latency.labels(stage)
        self.skipped = Counter("streamav_windows_skipped", "Windows that were not computed", ("reason",), registry=registry)
        self.skipped.labels("machine_behind")
        self.factor = Gauge("streamav_realtime_factor", "Processing time over media time, all sources together", registry=registry)
        self.active = Gauge("streamav_event_active", "Events open now", registry=registry)
        self.backend = Gauge("streamav_engine_backend", "1 for the engine that computes now", ("backend",), registry=registry)
        self.gpu = Gauge("streamav_gpu_memory_bytes", "GPU memory that this process uses", registry=registry)
        self.gpu.set_function(lambda: float(self._gpu_memory() or 0))
        Gauge("streamav_build_info", "Version of streamav", ("version",), registry=registry).labels(__version__).set(1.0)
        if self._lost is not None:
            lost = self._lost
            gauge = Gauge("streamav_journal_lost_entries", "Events and scores that could not be written", registry=registry)
            gauge.set_function(lambda: float(lost()))

    def _of_the_broker(self) -> None:
        registry = self.registry
        self.connected = Gauge("streamav_mqtt_connected", "1 while the broker is connected", registry=registry)
        self.queue = Gauge("streamav_mqtt_queue_depth", "Messages in the outbox", registry=registry)
        self.published = Counter("streamav_mqtt_published", "Messages about events, by result", ("result",), registry=registry)
        self.dropped = Counter("streamav_mqtt_dropped", "Messages that the full outbox dropped", registry=registry)
        self._told = {"acknowledged": 0, "failed": 0, "refused": 0, "dropped": 0}
        for result in ("acknowledged", "failed", "refused"):
            self.published.labels(result)

    # Called on the loop

    def add_source(self, source: str, labels: tuple[str, ...]) -> None:
        """Begin the series of a source; the counters of a source that starts again continue."""
        self._sources[source] = tuple(dict.fromkeys([*self._sources.get(source, ()), *labels]))
        self._dropped[source] = self._known[source] = 0
        self._states.pop(source, None)  # its first state is no return
        self._mark(source, SourceState.WARMING_UP)
        self.reconnects.labels(source)
        self.samples.labels(source)
        self.fill.labels(source)
        for label in labels:
            self.events.labels(source, label)

    def drop_source(self, source: str) -> None:
        """End the series of a source that is gone."""
        for series in (self.fps, self.level, self.skew, self.reconnects, self.samples, self.fill):
            _end(series, source)
        for state in SourceState:
            _end(self.state, source, state.value)
        for label in self._sources.get(source, ()):
            _end(self.events, source, label)
        self._sources.pop(source, None)
        self._factors.pop(source, None)
        self.factor.set(sum(self._factors.values()))

    def event(self, event: Event) -> None:
        """Count one message about an event."""
        if event.confirmed and event.id not in self._confirmed:
            self.events.labels(event.source, event.label).inc()
            self._confirmed.add(event.id)
        if event.phase is EventPhase.END:
            self._open.discard(event.id)
            self._confirmed.discard(event.id)
        else:
            self._open.add(event.id)
        self.active.set(len(self._open))

    def source_state(self, source: str, state: SourceState) -> None:
        """Note the state of a source."""
        if self._states.get(source) is SourceState.LOST and state is SourceState.WARMING_UP:
            self.reconnects.labels(source).inc()
        if state in {SourceState.LOST, SourceState.WARMING_UP}:
            self._known[source] = 0
            self.fill.labels(source).set(0.0)
        self._states[source] = state
        self._mark(source, state)

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Note the figures of the last ten seconds."""
        self.fps.labels(source).set(telemetry.frames_per_second)
        self.level.labels(source).set(telemetry.level_dbfs if telemetry.level_dbfs is not None else float("-inf"))
        self._factors[source] = telemetry.realtime_factor
        self.factor.set(sum(self._factors.values()))

    def observe(self, source: str, observation: Observation) -> None:
        """Note what a turn did for a source."""
        if observation.segment is not None:
            self._known[source] = min(self._known[source] + 1, WINDOW_SEGMENTS)
            self.fill.labels(source).set(self._known[source] / WINDOW_SEGMENTS)
            self.samples.labels(source).inc(observation.segment.quality.missing_samples)
        if observation.times is not None:
            times = observation.times
            for stage in _STAGES:
                self.latency.labels(stage).observe(max(0.0, getattr(times, f"{stage}_s")))
        if observation.skew_ms is not None:
            self.skew.labels(source).set(observation.skew_ms / 1e3)
        more = observation.dropped_segments - self._dropped[source]
        if more > 0:
            self._dropped[source] = observation.dropped_segments
            self.skipped.labels("machine_behind").inc(more)

    def _mark(self, source: str, state: SourceState) -> None:
        for one in SourceState:
            self.state.labels(source, one.value).set(one is state)

    # Called in the thread of the API

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        backend = self._model().backend
        for one in self._backends - {backend}:
            self.backend.labels(one).set(0.0)
        self._backends.add(backend)
        self.backend.labels(backend).set(1.0)
        if self._mqtt is not None:
            self._follow(self._mqtt)
        return bytes(generate_latest(self.registry))

    def _follow(self, counters: MqttCounters) -> None:
        """Bring the metrics of the broker to the state of its counters."""
        self.connected.set(counters.connected)
        self.queue.set(counters.queue_depth)
        now = {
            "acknowledged": counters.published,
            "failed": counters.failed,
            "refused": counters.refused,
            "dropped": counters.dropped,
        }
        for name, count in now.items():
            series = self.dropped if name == "dropped" else self.published.labels(name)
            series.inc(max(0, count - self._told[name]))
        self._told = now


def _end(series: Gauge | Counter, *labels: str) -> None:
    """Remove one series, which may not have begun."""
    with suppress(KeyError):
        series.remove(*labels)
