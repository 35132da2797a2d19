"""Lists and verifies the engines on disk; building goes through `open_engine`, as for a run.

It knows no command line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.bundle import load_bundle
from streamav.config import ModelSettings
from streamav.engines.making import ANSWERS_FILE, EngineRequest
from streamav.engines.parity import compare, load_answers
from streamav.engines.recipe import load_recipe
from streamav.engines.selection import maker_of
from streamav.errors import EngineError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from streamav.engines.cache import Entry
    from streamav.engines.parity import Parity

__all__ = ["EngineInfo", "describe", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """One built engine, for people and scripts."""

    key: str
    """First sixteen digits of the key's hash; also the start of its folder's name."""
    model: str
    recipe: str
    size_mb: float
    build_s: float
    parity: Mapping[str, JsonValue]
    """As it was found when the engine was built."""
    weights: str
    """Start of the hash of the model's weights."""


def describe(entry: Entry) -> EngineInfo:
    """Say what an entry of the cache is."""
    facts = entry.facts
    parity, seconds = facts.get("parity"), facts.get("seconds")
    parts = json.loads(json.dumps(entry.key.get("parts", {})))
    return EngineInfo(
        key=entry.digest[:16],
        model=str(facts.get("model", "?")),
        recipe=str(facts.get("recipe", "?")),
        size_mb=round(entry.size_bytes / 1e6, 2),
        build_s=float(seconds) if isinstance(seconds, int | float) else 0.0,
        parity=parity if isinstance(parity, dict) else {},
        weights=str(parts.get("weights", ""))[:12],
    )


def verify(entry: Entry, threads: int | None = None) -> Parity:
    """Run a built engine again on the samples it was built with, and compare it with the reference's stored answers.

    Raises:
        EngineError: when it cannot be loaded or run, its recipe is gone, or its model is.
    """
    recipe = load_recipe(str(entry.facts.get("recipe")))
    weights_dir = entry.facts.get("weights_dir")
    try:
        bundle = load_bundle(str(entry.facts.get("bundle")))
    except ModelError as exc:
        msg = f"the model that the engine {entry.path.name[:16]} was made from is gone: {exc}"
        raise EngineError(msg) from exc
    settings = ModelSettings(
        engine=recipe.engine,
        precision=recipe.precision,
        threads=threads,
        weights_dir=Path(weights_dir) if isinstance(weights_dir, str) else None,
    )
    request = EngineRequest(bundle=bundle, settings=settings, recipe=recipe)
    engine = maker_of(recipe).load(request, entry.path, entry.facts)
    return compare(engine, load_answers(entry.path / ANSWERS_FILE), recipe.tolerance)
