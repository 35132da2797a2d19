"""Describes, verifies and removes the engines on disk, and finds out whether this version and machine would use them.

It builds nothing (`open_engine` does).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.bundle import load_bundle
from streamav.config import ModelSettings
from streamav.engines.keys import engine_key
from streamav.engines.maker import EngineRequest
from streamav.engines.making import run_again
from streamav.engines.recipe import load_recipe, recipe_names
from streamav.engines.selection import maker_of, problem_of
from streamav.errors import EngineError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from streamav.engines.cache import EngineCache, Entry
    from streamav.engines.parity import Parity

__all__ = ["EngineInfo", "clear", "describe", "unusable_here", "verify"]


_DETAILS = ("runtimes", "runtime_ms", "lowered", "lowered_l2", "calibration", "compared_on")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """One built engine, as `streamav engines list` shows it."""

    key: str
    """First sixteen digits of the key's hash; also the start of its folder's name."""
    model: str
    recipe: str
    size_mb: float
    build_s: float
    second_ms: float | None
    """Time of one segment of one stream in all networks, ms, measured when the engine was made."""
    parity: Mapping[str, JsonValue]
    """Result of the comparison when the engine was built."""
    weights: str
    """Start of the hash of the model's weights."""
    details: Mapping[str, JsonValue]
    """Further facts of its maker: runtimes and times, the networks in the recipe's precision, what it was calibrated and compared on."""
    stale: str | None
    """Why this version on this machine would not use it, or None when it would."""


def describe(entry: Entry) -> EngineInfo:
    """Return the description of an entry of the cache."""
    facts = entry.facts
    parity, second_ms = facts.get("parity"), _number(facts.get("second_ms"))
    return EngineInfo(
        key=entry.digest[:16],
        model=str(facts.get("model", "?")),
        recipe=str(facts.get("recipe", "?")),
        size_mb=round(entry.size_bytes / 1e6, 2),
        build_s=_number(facts.get("seconds")) or 0.0,
        second_ms=second_ms,
        parity=parity if isinstance(parity, dict) else {},
        weights=_parts(entry).get("weights", "")[:12],
        details={name: facts[name] for name in _DETAILS if name in facts},
        stale=_stale(entry),
    )


def verify(entry: Entry, threads: int | None = None) -> Parity:
    """Run a built engine again on the samples it was built with, and compare it with the reference's stored answers.

    Raises:
        EngineError: when it cannot be loaded or run, or its recipe or its model is gone.
    """
    request = _request(entry, threads)
    return run_again(maker_of(request.recipe), request, entry)[1]


def unusable_here() -> dict[str, str]:
    """Return the recipes whose engines this machine cannot run, each with the reason; wrong recipe files are among them."""
    problems: dict[str, str] = {}
    for name in recipe_names():
        try:
            problem = problem_of(load_recipe(name))
        except EngineError as exc:
            problem = str(exc)
        if problem is not None:
            problems[name] = problem
    return problems


def clear(cache: EngineCache, *, stale: bool = False, model: str | None = None) -> int:
    """Remove engines: all, the stale or damaged ones, those of one model, or the stale ones of one model; return how many.

    The model of a damaged engine is unknown, so damaged engines are removed only when no model is named.
    """
    if not stale and model is None:
        return cache.clear()
    found = cache.survey()
    doomed = [
        entry.digest
        for entry in found.entries
        if (model is None or entry.facts.get("model") == model) and (not stale or _stale(entry) is not None)
    ]
    doomed += [path.name for path, _ in found.damaged] if model is None else []
    for digest in doomed:
        cache.remove(digest)
    return len(doomed)


def _stale(entry: Entry) -> str | None:
    """Return why the entry is stale, or None: compare its key with the key that the same engine would have now."""
    try:
        request = _request(entry)
        problem = problem_of(request.recipe)
        if problem is not None:
            return f"this machine cannot run it: {problem}"
        key = engine_key(maker_of(request.recipe), request)
    except (EngineError, ModelError) as exc:
        return str(exc)
    if key.digest == entry.digest:
        return None
    old, new = _parts(entry), dict(key.parts)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f"made from another {', '.join(names) or 'format'}"


def _request(entry: Entry, threads: int | None = None) -> EngineRequest:
    """Return the request that an entry was made for.

    Raises:
        EngineError: when its recipe or its model is gone.
    """
    recipe = load_recipe(str(entry.facts.get("recipe")))
    weights_dir, folder = entry.facts.get("weights_dir"), entry.facts.get("bundle")
    if not isinstance(folder, str):
        msg = "an older version of streamav made it"
        raise EngineError(msg)
    try:
        bundle = load_bundle(folder)
    except ModelError as exc:
        msg = f"the model that the engine {entry.path.name[:16]} was made from is gone ({folder})"
        raise EngineError(msg) from exc
    settings = ModelSettings(
        engine=recipe.engine,
        precision=recipe.precision,
        threads=threads,
        weights_dir=Path(weights_dir) if isinstance(weights_dir, str) else None,
    )
    return EngineRequest(bundle=bundle, settings=settings, recipe=recipe)


def _parts(entry: Entry) -> dict[str, str]:
    parts = json.loads(json.dumps(entry.key.get("parts", {})))
    return {str(name): str(value) for name, value in parts.items()} if isinstance(parts, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
