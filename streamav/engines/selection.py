"""Chooses and opens the engine of a run: the fastest one that is present and passed its comparison with the reference.

It imports an engine only when it is about to open it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.engines.cache import EngineCache
from streamav.engines.making import EngineRequest, open_made
from streamav.engines.recipe import load_recipe, recipe_names
from streamav.errors import EngineError

if TYPE_CHECKING:
    from streamav.bundle import Bundle
    from streamav.config import ModelSettings
    from streamav.engines.making import Maker
    from streamav.engines.recipe import Recipe
    from streamav.protocols import Engine

__all__ = ["engine_candidates", "maker_of", "open_engine"]

log = logging.getLogger(__name__)

_AUTO_GPU = ("cuda-fp32", "cpu-fp32", "torch-fp32")
_AUTO_CPU = ("cpu-fp32", "torch-fp32")


def engine_candidates(settings: ModelSettings) -> tuple[str, ...]:
    """Give the names of the recipes to try, best first.

    Raises:
        EngineError: when there is no recipe for the engine and precision that the settings name.
    """
    precision = "fp32" if settings.precision == "auto" else settings.precision
    if settings.engine == "auto":
        names = _AUTO_GPU if Path("/proc/driver/nvidia/version").exists() else _AUTO_CPU
        wanted = tuple(name.replace("fp32", precision) for name in names)
        return tuple(name for name in wanted if name in recipe_names()) or _refuse("auto", precision)
    name = f"{settings.engine}-{precision}"
    return (name,) if name in recipe_names() else _refuse(settings.engine, precision)


def open_engine(bundle: Bundle, settings: ModelSettings, cache: EngineCache | None = None) -> Engine:
    """Open the engine of a model.

    Args:
        bundle: the model.
        settings: engine, precision, threads and the folder of external encoders.
        cache: where built engines are kept; None for the user's cache.

    Raises:
        EngineError: when no engine can run the model as asked.
        ModelError: when weights are missing or do not fit the networks.
    """
    problems = []
    for name in engine_candidates(settings):
        try:
            engine = _open(load_recipe(name), bundle, settings, EngineCache() if cache is None else cache)
        except EngineError as exc:
            problems.append(f"{name}: {exc}")
            log.warning("engine: %s cannot be used: %s", name, exc)
            continue
        log.info("engine: %s runs model %s", engine.name, bundle.card.name)
        return engine
    msg = f"no engine can run model {bundle.card.name}:\n" + "\n".join(problems)
    raise EngineError(msg)


def _open(recipe: Recipe, bundle: Bundle, settings: ModelSettings, cache: EngineCache) -> Engine:
    if recipe.engine == "torch":
        from streamav.engines.torch_engine import open_torch_engine

        return open_torch_engine(bundle, settings)
    return open_made(maker_of(recipe), EngineRequest(bundle=bundle, settings=settings, recipe=recipe), cache)


def maker_of(recipe: Recipe) -> Maker:
    """Give what makes the engine of a recipe; its module is imported here.

    Raises:
        EngineError: when there is no such engine, or its packages cannot be imported.
    """
    if recipe.engine == "tensorrt":
        from streamav.engines.tensorrt_engine import TensorRTMaker

        return TensorRTMaker()
    if recipe.engine != "cpu":
        msg = f"engine {recipe.engine} is not available in this version"
        raise EngineError(msg)
    try:
        from streamav.engines.onnx_engine import OnnxMaker
    except ImportError as exc:
        msg = f"the package onnxruntime cannot be imported: {exc}"
        raise EngineError(msg) from exc
    return OnnxMaker()


def _refuse(engine: str, precision: str) -> tuple[str, ...]:
    msg = f"there is no engine {engine} with precision {precision}; there are: {', '.join(recipe_names())}"
    raise EngineError(msg)
