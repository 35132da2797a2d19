"""Times one engine for `streamav bench` beside plain eager float32 torch, in a separate process.

Run as a program it reads one request as JSON and writes rows as JSON: the memory is then that of this engine alone. Every
measured segment goes the whole way from pictures and sound to events; the networks are timed inside it. The reference is
measured in turns with the engine, so that other load on the machine affects both equally.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from streamav.app import label_options, localizer_head
from streamav.bundle import load_bundle
from streamav.config import DetectionSettings, ModelSettings
from streamav.engines.cache import EngineCache
from streamav.engines.maker import EngineRequest
from streamav.engines.making import made
from streamav.engines.recipe import load_recipe
from streamav.engines.samples import make_samples
from streamav.engines.selection import maker_of, open_engine
from streamav.evidence import evidence_of
from streamav.features import SegmentExtractor
from streamav.localizer import VscgLocalizer
from streamav.memory import resident_mb
from streamav.pipeline.stages import SourceStages
from streamav.tracker import TrackerOptions
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS, WINDOW_SEGMENTS, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from streamav.bundle import Bundle
    from streamav.protocols import Engine, Network

__all__ = ["RowRequest", "facts_of", "measure"]

Result = TypeVar("Result")
MOST_RUNS = 200
"""Most runs of a network in one row, so that a fast network does not run for the whole time (our choice)."""
_FEW = 4
"""Pictures at once that the memory bounds allow VGG-19; with this many, its memory reaches its final size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRequest:
    """What to time."""

    bundle: str
    """Folder of the bundle."""
    recipe: str
    """Engine and precision, such as cpu-fp32."""
    threads: int
    frames: int
    """Pictures of one segment, 1 to 16."""
    streams: int
    """Sources whose segments form one batch."""
    budget_s: float
    """About how long the repetitions may take, s; at least one run of the engine and one of the reference are measured."""
    cache: str | None = None
    """Folder of built engines; None for the user's."""
    weights_dir: str | None = None


class _Time(NamedTuple):
    """How long one segment of all streams took, in seconds."""

    event: float
    """From complete segments to their events: features, windows, networks, aggregation, tracking."""
    networks: float
    visual: float
    window: float


class _Stopwatch:
    """Wraps an engine and adds up how long each network ran, in seconds."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.seconds: dict[str, float] = {}
        self._engine = engine

    def network(self, name: str) -> Network:
        network = self._engine.network(name)

        def timed(*inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
            began = time.perf_counter()
            outputs = network(*inputs)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            return outputs

        return timed


class _Rig:
    """Runs a number of streams in their steady state: each has a full window and gets one segment after another."""

    def __init__(self, engine: Engine, bundle: Bundle, frames: int, streams: int) -> None:
        card = bundle.card
        self.name = engine.name
        self._watch = _Stopwatch(engine)
        self._extractor = SegmentExtractor(self._watch, card)
        self._localizer = VscgLocalizer(self._watch, localizer_head(card), evidence_of(bundle))
        labels = label_options(card, DetectionSettings())
        options = TrackerOptions(source="bench", session="bench", labels=labels, media_ids=True)
        self._stages = [SourceStages(options, card.detection.latency_segments, lambda: 0) for _ in range(streams)]
        pictures = make_samples(card.visual.picture, card.audio.log_mel_offset).pictures
        sound = np.random.default_rng(0).normal(0, 0.1, SAMPLES_PER_SEGMENT).astype(np.float32)
        self._segment = Segment(index=0, start_ns=0, audio=sound, frames=pictures[np.arange(frames) % len(pictures)])
        few = replace(self._segment, frames=self._segment.frames[:_FEW])
        began = time.perf_counter()
        first = self._extractor.extract([few])[0]
        self.first_s = time.perf_counter() - began
        """How long the features of the first segment took, with `_FEW` pictures, in seconds."""
        self._index = WINDOW_SEGMENTS - 1
        for stages in self._stages:
            for index in range(self._index):
                stages.push(replace(first, index=index, start_ns=index * SEGMENT_NS))

    def second(self) -> _Time:
        """Run one more segment of every stream and return the times."""
        self._watch.seconds.clear()
        segment = replace(self._segment, index=self._index, start_ns=self._index * SEGMENT_NS)
        self._index += 1
        began = time.perf_counter()
        features = self._extractor.extract([segment] * len(self._stages))
        windows = [stages.push(one)[0] for stages, one in zip(self._stages, features, strict=True)]
        scores = self._localizer.localize([window for window in windows if window is not None])
        for stages, found in zip(self._stages, scores, strict=True):
            stages.score(found)
        took, networks = time.perf_counter() - began, self._watch.seconds
        return _Time(took, sum(networks.values()), networks["visual"], networks["localize_window"])


def facts_of(request: RowRequest) -> dict[str, JsonValue]:
    """Make the engine of a request when it is not in the cache, without loading it, and return its facts.

    Raises:
        EngineError: when the engine cannot run the model.
        ModelError: when the bundle cannot be used.
    """
    recipe = load_recipe(request.recipe)
    if recipe.engine == "torch":
        return {}
    wanted = EngineRequest(bundle=load_bundle(request.bundle), settings=_settings(request), recipe=recipe)
    return dict(made(maker_of(recipe), wanted, _cache(request)).facts)


def measure(request: RowRequest) -> list[dict[str, Any]]:
    """Time one engine; return its row of the bench's table and the row of the reference that was measured in turns with it.

    Raises:
        EngineError: when the engine cannot run the model.
        ModelError: when the bundle cannot be used.
    """
    bundle = load_bundle(request.bundle)
    began = time.perf_counter()
    engine = open_engine(bundle, _settings(request), _cache(request))
    ready_s = time.perf_counter() - began
    rig = _Rig(engine, bundle, request.frames, request.streams)
    if request.streams > 1 or rig.first_s * request.frames < _FEW * request.budget_s:
        rig.second()  # warms up buffers and graphs of this batch size; skipped for one stream of a slow engine, where it matters little
    resident = resident_mb("VmHWM")  # not getrusage: its value is inherited from the parent process
    memory = {
        "memory_mb": None if resident is None else round(resident, 1),
        "gpu_memory_mb": _gpu_memory_mb(request),
        "ready_s": round(ready_s, 3),
    }
    if request.recipe == "torch-fp32":
        times = _repeat_until(rig.second, request.budget_s)
        return [_row(request, rig.name, times, times) | memory | _drift({})]
    reference = _Rig(_reference(request, bundle), bundle, request.frames, request.streams)
    turns = _repeat_until(lambda: (rig.second(), reference.second()), request.budget_s)
    times, plain = [mine for mine, _ in turns], [other for _, other in turns]
    plain_request = replace(request, recipe="torch-fp32")
    nothing: dict[str, Any] = dict.fromkeys(memory)
    rows = [_row(request, rig.name, times, plain) | memory, _row(plain_request, reference.name, plain, plain) | nothing]
    return [row | _drift(facts) for row, facts in zip(rows, (facts_of(request), {}), strict=True)]


def _reference(request: RowRequest, bundle: Bundle) -> Engine:
    """Open plain eager float32 torch on the same device as the engine."""
    settings = ModelSettings(engine="torch", threads=request.threads, weights_dir=_weights_dir(request))
    if _on_gpu(request):
        from streamav.engines.cuda_engine import open_eager_cuda

        return open_eager_cuda(bundle, settings)
    return open_engine(bundle, settings)


def _on_gpu(request: RowRequest) -> bool:
    return load_recipe(request.recipe).engine in {"cuda", "tensorrt"}


def _gpu_memory_mb(request: RowRequest) -> float | None:
    """Return the most memory that torch reserved on the GPU, 10^6 bytes; None on a CPU."""
    if not _on_gpu(request):
        return None
    import torch

    return round(torch.cuda.max_memory_reserved() / 1e6, 1)


def _drift(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return how far the engine was from the reference when it was made; for the reference itself, without facts, no difference."""
    parity = facts.get("parity", {})
    return {
        "drift": parity.get("probability", 0.0),
        "drift_l2": parity.get("l2", {}),
        "decisions": parity.get("decisions", 1.0),
    }


def _settings(request: RowRequest) -> ModelSettings:
    recipe = load_recipe(request.recipe)
    return ModelSettings(engine=recipe.engine, precision=recipe.precision, threads=request.threads, weights_dir=_weights_dir(request))


def _weights_dir(request: RowRequest) -> Path | None:
    return None if request.weights_dir is None else Path(request.weights_dir)


def _cache(request: RowRequest) -> EngineCache:
    return EngineCache(None if request.cache is None else Path(request.cache))


def _repeat_until(run: Callable[[], Result], budget_s: float) -> list[Result]:
    """Run at least once, and again until the time is over or `MOST_RUNS` is reached."""
    results: list[Result] = []
    end = time.perf_counter() + budget_s
    while not results or (time.perf_counter() < end and len(results) < MOST_RUNS):
        results.append(run())
    return results


def _row(request: RowRequest, backend: str, times: list[_Time], plain: list[_Time]) -> dict[str, Any]:
    event, networks, visual, window = np.array(times).T * 1e3
    reference = np.array([one.networks for one in plain]) * 1e3
    middle = float(np.median(networks))
    engine, _, precision = request.recipe.partition("-")
    return {
        "engine": engine,
        "precision": precision,
        "backend": backend,
        "threads": request.threads,
        "batch": request.streams,
        "frames_per_second": request.frames,
        "runs": len(times),
        "frame_ms": round(float(np.median(visual)) / request.frames / request.streams, 4),
        "second_ms": round(middle, 3),
        **_spread("second", networks),
        "window_ms": round(float(np.median(window)), 3),
        **_spread("window", window),
        **_spread("event", event),
        "reference_second_ms": round(float(np.median(reference)), 3),
        # The median of the ratios of single turns, since a short load affects both runs of a turn.
        "ratio_to_reference": round(float(np.median(networks[-len(reference) :] / reference)), 4),
        "realtime_factor": round(middle / 1e3 / request.streams, 5),
        "streams": int(1e3 * request.streams / middle),
    }


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    return {f"{name}_p{percent}_ms": round(float(np.percentile(values, percent)), 3) for percent in (50, 95, 99)}


if __name__ == "__main__":
    from streamav.bench.process import give

    give(lambda asked: measure(RowRequest(**asked)))
