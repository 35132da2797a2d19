"""Times the networks of a model on one engine, beside plain eager float32 torch, in a process of its own.

Run as a program it takes one request as JSON and gives one row as JSON: memory is then that of this engine alone. The
reference is measured in turns with the engine, so that other load on the machine touches both alike.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamav.bundle import load_bundle
from streamav.config import ModelSettings
from streamav.engines.cache import EngineCache
from streamav.engines.parity import answer, compare
from streamav.engines.recipe import load_recipe
from streamav.engines.samples import make_samples
from streamav.engines.selection import open_engine
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from streamav.bundle import Bundle, ModelCard
    from streamav.engines.recipe import Recipe
    from streamav.protocols import Engine

__all__ = ["Request", "measure", "open_requested"]

Kind = TypeVar("Kind", bound=np.generic)
Result = TypeVar("Result")
MOST_RUNS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to time."""

    bundle: str
    """Folder of the bundle."""
    recipe: str
    """Engine and precision, such as cpu-fp32."""
    threads: int
    frames: int
    """Pictures of one second, 1 to 16."""
    streams: int
    """Sources whose seconds form one batch."""
    budget_s: float
    """About how long the repetitions may take; two of the engine and one of the reference are made in any case."""
    cache: str | None = None
    """Folder of built engines; None for the user's."""
    weights_dir: str | None = None


class _Second:
    """The inputs of one second of so many streams, and what it costs."""

    def __init__(self, card: ModelCard, frames: int, streams: int) -> None:
        samples = make_samples(card.visual.picture, card.audio.log_mel_offset)
        self._pictures = _repeat(samples.pictures, frames * streams)
        self._patches = _repeat(samples.patches, streams)
        self._streams = streams

    def run(self, engine: Engine) -> tuple[float, float]:
        """Run all four networks once; give the seconds it took, and those of the window network alone."""
        began = time.perf_counter()
        (grids,) = engine.network("visual")(self._pictures)
        visual = grids.reshape(self._streams, -1, *grids.shape[1:]).mean(axis=1)
        (audio,) = engine.network("audio")(self._patches)
        heard, seen = engine.network("encode_segment")(audio, visual)[:2]
        windows = (np.repeat(array[:, None], WINDOW_SEGMENTS, axis=1) for array in (heard, seen))
        middle = time.perf_counter()
        engine.network("localize_window")(*windows)
        end = time.perf_counter()
        return end - began, end - middle


def measure(request: Request) -> list[dict[str, JsonValue]]:
    """Time one engine; give its row of the bench's table and that of the reference it was measured in turns with.

    Raises:
        EngineError: when the engine cannot run the model.
        ModelError: when the bundle cannot be used.
    """
    began = time.perf_counter()
    bundle, recipe, engine = open_requested(request)
    ready_s = time.perf_counter() - began
    second, first = _Second(bundle.card, request.frames, request.streams), _Second(bundle.card, 1, 1)
    first.run(engine)
    alone = [second.run(engine)]
    memory_mb = _peak_memory_mb()
    if recipe.engine == "torch":
        times = alone + _repeat_until(lambda: second.run(engine), request.budget_s)
        return [_row(request, engine.name, times, times) | _facts(memory_mb, ready_s, 0.0)]
    reference = _reference(bundle, request)
    first.run(reference)
    turns = _repeat_until(lambda: (second.run(engine), second.run(reference)), request.budget_s)
    times, plain = alone + [mine for mine, _ in turns], [other for _, other in turns]
    drift = _drift(engine, reference, bundle.card, recipe)
    row = _row(request, engine.name, times, plain) | _facts(memory_mb, ready_s, drift)
    return [row, _row(request, reference.name, plain, plain) | _facts(None, None, 0.0)]


def _drift(engine: Engine, reference: Engine, card: ModelCard, recipe: Recipe) -> float:
    """Give the largest difference of a probability from the reference's, over one window of ten single pictures and sounds."""
    samples = make_samples(card.visual.picture, card.audio.log_mel_offset, segments=WINDOW_SEGMENTS)
    return compare(engine, answer(reference, samples), recipe.tolerance).probability


def _peak_memory_mb() -> float | None:
    """Give the greatest resident memory of this process, 10^6 bytes; None where the system does not tell.

    Not `getrusage`: its figure is inherited from the process that started this one.
    """
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in text.splitlines() if line.startswith("VmHWM:")), None)


def _facts(memory_mb: float | None, ready_s: float | None, drift: float) -> dict[str, JsonValue]:
    return {
        "drift": drift,
        "memory_mb": None if memory_mb is None else round(memory_mb, 1),
        "ready_s": None if ready_s is None else round(ready_s, 3),
    }


def open_requested(request: Request) -> tuple[Bundle, Recipe, Engine]:
    """Open what a request names, building the engine when it is not in the cache.

    Raises:
        EngineError: when the engine cannot run the model.
        ModelError: when the bundle cannot be used.
    """
    bundle, recipe = load_bundle(request.bundle), load_recipe(request.recipe)
    cache = EngineCache(None if request.cache is None else Path(request.cache))
    return bundle, recipe, open_engine(bundle, _settings(request, recipe), cache)


def _settings(request: Request, recipe: Recipe) -> ModelSettings:
    folder = None if request.weights_dir is None else Path(request.weights_dir)
    return ModelSettings(engine=recipe.engine, precision=recipe.precision, threads=request.threads, weights_dir=folder)


def _reference(bundle: Bundle, request: Request) -> Engine:
    return open_engine(bundle, _settings(request, load_recipe("torch-fp32")))


def _repeat_until(run: Callable[[], Result], budget_s: float) -> list[Result]:
    """Run at least once, and again until the time is spent."""
    results: list[Result] = []
    end = time.perf_counter() + budget_s
    while not results or (time.perf_counter() < end and len(results) < MOST_RUNS):
        results.append(run())
    return results


def _row(request: Request, name: str, times: list[tuple[float, float]], plain: list[tuple[float, float]]) -> dict[str, JsonValue]:
    whole, window = np.array(times).T * 1e3
    reference = np.array(plain)[:, 0] * 1e3
    middle = float(np.median(whole))
    row: dict[str, JsonValue] = {
        "engine": name,
        "precision": name.rpartition("-")[2],
        "threads": request.threads,
        "batch": request.streams,
        "frames_per_second": request.frames,
        "runs": len(times),
        "second_ms": round(middle, 3),
        **_spread("second", whole),
        "window_ms": round(float(np.median(window)), 3),
        **_spread("window", window),
        "reference_second_ms": round(float(np.median(reference)), 3),
        # Of each turn, then the middle one: load that came and went touched both runs of a turn.
        "ratio_to_reference": round(float(np.median(whole[-len(reference) :] / reference)), 4),
        "realtime_factor": round(middle / 1e3 / request.streams, 5),
        "streams": int(1e3 * request.streams / middle),
    }
    return row


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, JsonValue]:
    return {f"{name}_p{percent}_ms": round(float(np.percentile(values, percent)), 3) for percent in (50, 95, 99)}


def _repeat(values: NDArray[Kind], count: int) -> NDArray[Kind]:
    return values[np.arange(count) % len(values)]


def _main() -> None:
    request = Request(**json.loads(sys.stdin.read()))
    sys.stdout.write(json.dumps(measure(request)) + "\n")


if __name__ == "__main__":
    _main()
