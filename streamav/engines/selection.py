"""Chooses and opens the engine of a run: the fastest engine that is present and passed its comparison with the reference.

An engine's module is imported only when the engine is needed.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from streamav.engines.cache import EngineCache
from streamav.engines.keys import engine_key
from streamav.engines.machine import has_nvidia_driver
from streamav.engines.maker import EngineRequest
from streamav.engines.making import has_passed, is_made, is_slow, made, open_made
from streamav.engines.recipe import find_recipe, load_recipe, recipe_names
from streamav.engines.swap import Coming, SwapEngine
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.bundle import Bundle
    from streamav.config import ModelSettings
    from streamav.engines.maker import Maker
    from streamav.engines.recipe import Recipe
    from streamav.engines.samples import Calibration
    from streamav.protocols import Engine

__all__ = ["DEFAULT_PRECISION", "engine_candidates", "maker_of", "open_engine", "problem_of", "ranked", "rebuild"]

_log = logging.getLogger(__name__)

DEFAULT_PRECISION = {
    "tensorrt": "fp16",  # twice the operations of tf32 (NVIDIA data sheets) with the same ten bits of mantissa; bf16 has seven
    "cuda": "fp16",  # as for tensorrt
    "cpu": "fp32",  # accurate on every model; int8 needs calibration on real frames, and bf16 is faster on few processors
    "torch": "fp32",  # the reference
}
"""The precision that `--precision auto` means for each engine; the engines are in the order in which `--engine auto` prefers them."""
_DEVICES = (("tensorrt", "cuda"), ("cpu",), ("torch",))
"""Engines that share a device, best device first. Between engines of one device the measured times decide, where there are any."""


def engine_candidates(settings: ModelSettings) -> tuple[str, ...]:
    """Return the names of the recipes that may be built for these settings, best first, whatever hardware this machine has.

    Raises:
        EngineError: when there is no recipe for the engine and precision that the settings name.
    """
    engines = DEFAULT_PRECISION if settings.engine == "auto" else (settings.engine,)
    wanted = (f"{engine}-{DEFAULT_PRECISION[engine] if settings.precision == 'auto' else settings.precision}" for engine in engines)
    return tuple(name for name in wanted if name in recipe_names()) or _refuse(settings.engine, settings.precision)


def open_engine(
    bundle: Bundle,
    settings: ModelSettings,
    cache: EngineCache | None = None,
    *,
    beside: bool = False,
) -> Engine:
    """Open the engine of a model.

    Args:
        bundle: the model.
        settings: engine, precision, threads and the folder of external encoders.
        cache: cache of built engines; None for the user's cache.
        beside: True returns a SwapEngine when the wanted engine must be made and that is slow; it begins on the best engine that is ready
            or quick to make. False waits for the wanted engine.

    Raises:
        EngineError: when no engine can run the model as asked.
        ModelError: when weights are missing or do not fit the networks.
    """
    cache = EngineCache() if cache is None else cache
    recipes = ranked(bundle, settings, cache)
    if beside:
        coming = _coming(recipes[0], bundle, settings, cache)
        stand_ins = [] if coming is None else _stand_ins(recipes, bundle, settings, cache)
        if coming is not None and stand_ins:
            return SwapEngine(_open_first(stand_ins, bundle, settings, cache), coming)
    return _open_first(recipes, bundle, settings, cache)


def ranked(bundle: Bundle, settings: ModelSettings, cache: EngineCache) -> tuple[Recipe, ...]:
    """Return the recipes to try, best first.

    An engine asked for by name is the only one. `auto` goes through the devices, best first. On each device it tries the engines that are
    built and passed, fastest first by their recorded time, and the default precision of each engine of which nothing is built. Such an
    engine comes before the built ones if it is preferred to all of them, else after them. Other precisions are used when a user built
    them; they are never built without a request.

    Raises:
        EngineError: when there is no such engine, or this machine can run none of them.
        ModelError: when an external encoder is missing.
    """
    defaults = engine_candidates(settings)
    if settings.engine != "auto":
        return tuple(load_recipe(name) for name in defaults)
    found: list[Recipe] = []
    for engines in _DEVICES:
        ready: list[tuple[float, Recipe]] = []
        sooner: list[Recipe] = []
        later: list[Recipe] = []
        for engine in engines:
            recipes = _present(engine, settings)
            times = [(time_ms, recipe) for recipe in recipes if (time_ms := _recorded_ms(recipe, bundle, settings, cache)) is not None]
            ready += times
            unmade = [] if times else [recipe for recipe in recipes if recipe.name in defaults]
            (later if ready else sooner).extend(unmade)
        found += [*sooner, *(recipe for _, recipe in sorted(ready, key=lambda pair: pair[0])), *later]
    if not found:
        msg = f"this machine can run none of: {', '.join(defaults)}; for the reasons run: streamav engines list"
        raise EngineError(msg)
    return tuple(found)


def rebuild(bundle: Bundle, settings: ModelSettings, cache: EngineCache, calibration: Calibration | None = None) -> None:
    """Build again the engine that `open_engine` would try first, on recorded material when there is some.

    Raises:
        EngineError: as in ranked(), or when it cannot be made, or differs from torch by more than its recipe allows.
        ModelError: when weights are missing or do not fit the networks.
    """
    recipe = ranked(bundle, settings, cache)[0]
    if recipe.engine == "torch":
        return
    maker, request = maker_of(recipe), EngineRequest(bundle=bundle, settings=settings, recipe=recipe, calibration=calibration)
    made(maker, request, cache, rebuild=True)


def problem_of(recipe: Recipe) -> str | None:
    """Return why this machine cannot run the engine of a recipe, or None when it can."""
    if recipe.engine == "torch":
        return None
    try:
        return maker_of(recipe).problem(recipe)
    except EngineError as exc:
        return str(exc)


def maker_of(recipe: Recipe) -> Maker:
    """Return the maker of a recipe's engine; its module is imported here.

    Raises:
        EngineError: when there is no such engine, or its packages cannot be imported.
    """
    if recipe.engine == "tensorrt":
        from streamav.engines.tensorrt_engine import TensorRTMaker

        return TensorRTMaker()
    if recipe.engine == "cuda":
        from streamav.engines.cuda_engine import CudaMaker

        return CudaMaker()
    try:
        from streamav.engines.cpu_engine import CpuMaker
    except ImportError as exc:
        msg = f"the package onnxruntime cannot be imported: {exc}"
        raise EngineError(msg) from exc
    return CpuMaker()


def _open_first(recipes: Sequence[Recipe], bundle: Bundle, settings: ModelSettings, cache: EngineCache) -> Engine:
    """Open the first engine that can be opened; warn once, with the reason, for each engine that failed before it."""
    problems = []
    for recipe in recipes:
        try:
            engine = _open(recipe, bundle, settings, cache)
        except EngineError as exc:
            if len(recipes) == 1:  # asked for by name: nothing else is tried, so the error alone is enough
                msg = f"{recipe.name} cannot run model {bundle.card.name}: {exc}"
                raise EngineError(msg) from exc
            problems.append(f"{recipe.name}: {exc}")
            _log.warning("engine: %s cannot be used: %s", recipe.name, exc)
            continue
        _log.info("engine: %s runs model %s", engine.name, bundle.card.name)
        return engine
    msg = f"no engine can run model {bundle.card.name}:\n" + "\n".join(problems)
    raise EngineError(msg)


def _open(recipe: Recipe, bundle: Bundle, settings: ModelSettings, cache: EngineCache) -> Engine:
    if recipe.engine == "torch":
        from streamav.engines.torch_engine import open_torch_engine

        return open_torch_engine(bundle, settings)
    return open_made(maker_of(recipe), EngineRequest(bundle=bundle, settings=settings, recipe=recipe), cache)


def _coming(recipe: Recipe, bundle: Bundle, settings: ModelSettings, cache: EngineCache) -> Coming | None:
    """Return the slow build that is needed before the engine of *recipe* can run; None when no slow build is needed."""
    if recipe.engine == "torch" or problem_of(recipe) is not None:
        return None  # a problem of an engine asked for by name is raised when it is opened
    maker, request = maker_of(recipe), EngineRequest(bundle=bundle, settings=settings, recipe=recipe)
    if not is_slow(request) or is_made(maker, request, cache):
        return None
    return Coming(maker, request, cache)


def _stand_ins(recipes: Sequence[Recipe], bundle: Bundle, settings: ModelSettings, cache: EngineCache) -> list[Recipe]:
    """Return the recipes that may run until recipes[0] is made: ready or quick to make, and on no better device than asked for."""
    wanted, others = recipes[0], recipes[1:]
    if settings.engine != "auto":
        free = settings.model_copy(update={"engine": "auto", "precision": "auto"})
        allowed = set(itertools.dropwhile(lambda engine: engine != wanted.engine, DEFAULT_PRECISION))
        others = [recipe for recipe in ranked(bundle, free, cache) if recipe.engine in allowed and recipe.name != wanted.name]
    return [recipe for recipe in others if _coming(recipe, bundle, settings, cache) is None]


def _present(engine: str, settings: ModelSettings) -> list[Recipe]:
    """Return the recipes of an engine, in the precision asked for, that this machine can run."""
    found: list[Recipe] = []
    wanted = [name for name in recipe_names() if name.split("-")[0] == engine]  # a file is named by its engine and precision
    for recipe in filter(None, map(find_recipe, wanted)):
        if settings.precision not in {"auto", recipe.precision}:
            continue
        problem = problem_of(recipe)
        if problem is None:
            found.append(recipe)
            continue
        told = recipe.engine == "tensorrt" and recipe.precision == DEFAULT_PRECISION["tensorrt"] and has_nvidia_driver()
        _log.log(logging.INFO if told else logging.DEBUG, "engine: %s is skipped: %s", recipe.name, problem)
    return found


def _recorded_ms(recipe: Recipe, bundle: Bundle, settings: ModelSettings, cache: EngineCache) -> float | None:
    """Return the recorded time of one segment, ms; None when the engine was not made or did not pass, inf when it was not timed."""
    if recipe.engine == "torch":
        return None
    request = EngineRequest(bundle=bundle, settings=settings, recipe=recipe)
    entry = cache.peek(engine_key(maker_of(recipe), request))
    if entry is None or not has_passed(entry.facts):
        return None
    time_ms = entry.facts.get("second_ms")
    return float(time_ms) if isinstance(time_ms, int | float) else float("inf")


def _refuse(engine: str, precision: str) -> tuple[str, ...]:
    msg = f"there is no engine {engine} with precision {precision}; choose one of: {', '.join(recipe_names())}"
    raise EngineError(msg)
