"""Runs one trial of `streamav bench --streams`: a number of paced sources in one process for a while, and measures the result.

Run as a program it reads a request as JSON from standard input and prints the trial as JSON. The sources play a scene that was
rendered before, so that drawing is not measured, or each decodes a file. Their segments end at different moments, as with cameras.
"""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from streamav.errors import CaptureError
from streamav.memory import resident_mb
from streamav.types import WINDOW_SEGMENTS, AudioBlock, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamav.app import Application
    from streamav.bundle import ModelCard
    from streamav.config import Settings
    from streamav.protocols import Sink, Source

__all__ = ["CameraLike", "Trial", "TrialRequest", "application_of", "run_trial"]

RENDERED_S = 14.0
"""Length of the rendered scene, which is repeated, s: one round of its script."""
GOLDEN = 0.618034
"""Multiples of this number modulo 1 are spread evenly, whatever their count: they are the phases of the sources, s."""
LATENCY_LIMIT_S = 1.0
"""Above this latency the next segment is complete before the events of this one are out."""
_SAMPLE_S = 0.5
"""Time between two samples of the memory, s (our choice)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """What to try."""

    streams: int
    seconds: float
    """Measured time of each source, s, after the ten seconds of warm-up."""
    model: str
    engine: str = "auto"
    """As `model.engine`, or the name of a recipe, such as cpu-int8."""
    threads: int = 1
    weights_dir: str | None = None
    source: str | None = None
    """File that every source decodes; None for the rendered scene."""
    gather_ms: int = 0
    early: bool | Literal["auto"] = "auto"
    """As `model.early`."""
    cache: str | None = None
    """Folder of built engines; None for the user's own."""
    replay: bool = False
    """True: each source plays its file as fast as the machine can, once; nothing is dropped or thinned, whatever else runs."""
    full: bool = False
    """True: each source plays from memory or its file as a file at its own pace that is late all the time: it waits for the networks, which
    always have work. Nothing is dropped or thinned, so the pictures a second are what the machine can do. False: live sources."""
    together: bool = False
    """True: the segments of all sources end at the same moment; False: at moments spread over one second, as with cameras."""

    @property
    def media_s(self) -> float:
        """Return the length of the media of each source, s."""
        return WINDOW_SEGMENTS + self.seconds

    def with_streams(self, streams: int) -> TrialRequest:
        """Return the same request with another number of sources."""
        return replace(self, streams=streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The result of a trial."""

    streams: int
    engine: str
    threads: int
    load: float
    """Seconds that the one inference worker works in one second of real time."""
    realtime_factor: float
    """The same for one stream."""
    latency_p50_s: float | None
    """From the end of a segment to its events."""
    latency_p95_s: float | None
    latency_p99_s: float | None
    dropped: int
    thinned: int
    memory_mb: float
    """Resident memory during the trial, median of the later half, 10^6 bytes."""
    processor_s: float
    """Processor seconds of the whole process, capture included, in one second of real time."""
    looked_s: float
    """Pictures that the networks processed in one second of real time, all sources together."""
    carried: bool
    """True when no segment was dropped or thinned and the 95th percentile of the latency is below one second."""


class CameraLike:
    """Repeats items in real time as a live source: a segment that comes too late for the networks is dropped, not waited for."""

    def __init__(self, play: Callable[[], Iterable[AudioBlock | VideoFrame]], *, name: str, phase_s: float, late: bool = False) -> None:
        """Keep the arguments.

        Args:
            play: returns the items of one round, in the order in which they are complete.
            name: name from which event ids are derived.
            phase_s: delay from the start of the source to its first item, seconds.
            late: True for a file that is late all the time: it never waits for the time of an item, and loses nothing.
        """
        self._play = play
        self._phase_s = phase_s
        self._late = late
        self._closed = threading.Event()
        self.session = name

    @property
    def live(self) -> bool:
        """Return True for a source like a camera."""
        return not self._late

    @property
    def skew_ms(self) -> int | None:
        """Return None: no skew is measured."""
        return None

    def items(self) -> Iterator[AudioBlock | VideoFrame]:
        """Yield items until close().

        Raises:
            CaptureError: when a round is empty.
        """
        from streamav.capture.pacing import Pacer
        from streamav.clock import SystemClock

        self._closed.wait(self._phase_s)
        pacer = Pacer(SystemClock(), self._closed)
        shift_ns = 0
        while not self._closed.is_set():
            end_ns = 0
            for item in self._play():
                moved = replace(item, start_ns=item.start_ns + shift_ns)
                if not self._late:
                    pacer.wait_until(moved.end_ns)
                if self._closed.is_set():
                    return
                end_ns = max(end_ns, moved.end_ns)
                yield moved
            if end_ns <= shift_ns:
                msg = "a source of a trial must have sound or pictures, got nothing; name another file with --source"
                raise CaptureError(msg)
            shift_ns = end_ns

    def close(self) -> None:
        """Stop items() soon."""
        self._closed.set()


class _Once:
    """Plays items once, without waiting, as a file does with speed "max"."""

    live = False
    skew_ms: int | None = None

    def __init__(self, play: Callable[[], Iterable[AudioBlock | VideoFrame]], name: str) -> None:
        self._play, self.session = play, name
        self._closed = threading.Event()

    def items(self) -> Iterator[AudioBlock | VideoFrame]:
        for item in self._play():
            if self._closed.is_set():
                return
            yield item

    def close(self) -> None:
        self._closed.set()


class _Memory(threading.Thread):
    """Samples the resident memory of this process every `_SAMPLE_S` seconds."""

    def __init__(self) -> None:
        super().__init__(name="memory", daemon=True)
        self._over = threading.Event()
        self._samples_mb: list[float] = []

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_S) and (now_mb := resident_mb("VmRSS")) is not None:
            self._samples_mb.append(now_mb)

    def end(self) -> float | None:
        """Stop sampling and return the median of the later half, 10^6 bytes; None when the system does not report the memory."""
        self._over.set()
        self.join()
        return median(self._samples_mb[len(self._samples_mb) // 2 :]) if self._samples_mb else None


def run_trial(request: TrialRequest) -> Trial:
    """Run the sources of a trial and measure.

    Raises:
        StreamavError: when the model, the engine or the file cannot be used.
    """
    from streamav import app

    application = application_of(request)
    memory = _Memory()
    memory.start()
    began_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    summary = asyncio.run(app.run(application))
    after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began_s
    memory_mb = memory.end()
    factor = summary.realtime_factor or 0.0
    p95 = summary.latency_p95_s
    return Trial(
        streams=request.streams,
        engine=application.engine.name,
        threads=request.threads,
        load=factor * request.streams,
        realtime_factor=factor,
        latency_p50_s=summary.latency_p50_s,
        latency_p95_s=p95,
        latency_p99_s=summary.latency_p99_s,
        dropped=summary.dropped_segments,
        thinned=summary.thinned_segments,
        memory_mb=summary.peak_memory_mb if memory_mb is None else memory_mb,
        processor_s=(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / wall_s,
        looked_s=sum(one.media_s * (one.looked_frames_per_second or 0.0) for one in summary.sources) / summary.wall_s,
        carried=not summary.dropped_segments and not summary.thinned_segments and p95 is not None and p95 < LATENCY_LIMIT_S,
    )


def application_of(request: TrialRequest, sinks: Sequence[Sink] = ()) -> Application:
    """Build the run of a trial; *sinks* take its events."""
    from streamav import app
    from streamav.bundle import choose_bundle

    settings = _settings(request)
    bundle = choose_bundle(request.model, Path(request.weights_dir) if request.weights_dir else None).bundle
    play = _player(request, bundle.card)
    sources: dict[str, Source] = {
        one.id: _Once(play, one.id)
        if request.replay
        else CameraLike(play, name=one.id, phase_s=0.0 if request.together else number * GOLDEN % 1.0, late=request.full)
        for number, one in enumerate(settings.each_source())
    }
    if request.cache is None:
        return app.build(settings, sinks, sources=sources, beside=False)
    from streamav.engines import open_engine
    from streamav.engines.cache import EngineCache

    engine = open_engine(bundle, settings.model, EngineCache(Path(request.cache)))
    return app.build(settings, sinks, sources=sources, beside=False, engine=engine)


def _settings(request: TrialRequest) -> Settings:
    from pydantic import ValidationError

    from streamav.config import Settings
    from streamav.errors import SettingsError

    engine, _, precision = request.engine.partition("-")
    speed = "max" if request.replay else "1"
    sources = [{"id": f"s{number}", "scene": True, "duration_s": request.media_s, "speed": speed} for number in range(request.streams)]
    model = {
        "name": request.model,
        "engine": engine,
        "precision": precision or "auto",
        "threads": request.threads,
        "weights_dir": request.weights_dir,
        "gather_ms": request.gather_ms,
        "early": request.early,
    }
    try:
        return Settings.model_validate({"sources": sources, "model": model})
    except ValidationError as exc:
        msg = f"--engine must be auto or one recipe, such as cpu-int8, with --streams, got {request.engine!r}"
        raise SettingsError(msg) from exc


def _player(request: TrialRequest, card: ModelCard) -> Callable[[], Iterable[AudioBlock | VideoFrame]]:
    """Return the function that plays one round: the rendered scene from memory, shared by all sources, or a file decoded by each."""
    from streamav.capture import open_source
    from streamav.config import CaptureSettings, SourceSettings

    chosen = (
        SourceSettings(uri=request.source, speed="max")
        if request.source
        else SourceSettings(scene=True, speed="max", duration_s=RENDERED_S)
    )

    def play() -> Iterator[AudioBlock | VideoFrame]:
        source = open_source(chosen, CaptureSettings(), picture=card.visual.picture, frames_per_second=card.visual.frames_per_second)
        return (item for item in source.items() if isinstance(item, AudioBlock | VideoFrame))

    if request.source is not None:
        return play
    rendered = list(play())
    return lambda: rendered


if __name__ == "__main__":
    from streamav.bench.process import give

    give(lambda asked: asdict(run_trial(TrialRequest(**asked))))
