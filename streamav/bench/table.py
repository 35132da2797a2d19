"""Times the networks of models on every engine: one process for each row (`streamav.bench.row`), so that memory and threads are its own.

It prints nothing. When a model's weights are absent, random weights of the true shapes are timed, and the row records this.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from streamav.bench.process import ask
from streamav.bench.random_models import PROFILES, write_random_bundle
from streamav.bench.row import RowRequest, facts_of
from streamav.bundle import choose_bundle
from streamav.bundle.catalogue import encoder_file
from streamav.engines.recipe import find_recipe, recipe_names
from streamav.engines.selection import maker_of
from streamav.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["RECIPES", "TableRequest", "runnable", "table_rows"]

ROW_TIMEOUT_S = 300
"""Time after which the process of a row is ended, s (our choice)."""
RECIPES = ("cpu-fp32", "cpu-int8", "cuda-fp16", "tensorrt-fp16")
"""The recipes that are timed by default, if the machine can run them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRequest:
    """Which rows to measure."""

    models: Sequence[str]
    """Names or folders of bundles."""
    recipes: Sequence[str]
    """Engines and precisions, such as cpu-fp32."""
    batches: Sequence[int]
    """Streams whose segments form one batch."""
    threads: int
    frames: int
    """Pictures of one segment, 1 to 16."""
    budget_s: float
    """About how long each engine is measured, s; at least one turn is measured."""
    weights: Path | None = None
    """Folder with encoders that bundles do not hold."""


def table_rows(request: TableRequest, told: Callable[[int, int, str], object] = lambda _done, _total, _note: None) -> list[dict[str, Any]]:
    """Measure every row of the request.

    Args:
        request: what to measure.
        told: called before each measurement with the number of those that are done, that of all, and the names of model and engine.

    Raises:
        EngineError: when an engine cannot run a model, or takes longer than `ROW_TIMEOUT_S`.
        ModelError: when there is no such model.
    """
    rows: list[dict[str, Any]] = []
    done, total = 0, len(request.models) * len(request.batches) * len(request.recipes)
    with tempfile.TemporaryDirectory(prefix="streamav-bench-") as scratch:
        for name in request.models:
            model = model_to_time(name, Path(scratch), request.weights)
            for streams in request.batches:
                found: list[dict[str, Any]] = []
                for recipe in request.recipes:
                    told(done, total, f"{name} on {recipe}")
                    found += _new_rows(found, _row_request(request, model, recipe, streams))
                    done += 1
                rows += [{"profile": name, "weights": model.note} | row for row in found]
    return rows


def runnable() -> list[str]:
    """Return those of `RECIPES` that this machine can run."""
    there = filter(None, (find_recipe(name) for name in RECIPES if name in recipe_names()))
    return [recipe.name for recipe in there if maker_of(recipe).problem(recipe) is None]


class _Model(NamedTuple):
    """The model that is timed."""

    folder: Path
    cache: Path | None
    """Cache folder of its engines; None for the user's."""
    note: str
    """"bundle", or "random" when the weights are not available."""


def model_to_time(name: str, scratch: Path, weights: Path | None) -> _Model:
    """Find a model; when its weights are absent, make one of the same shapes with random weights."""
    try:
        bundle = choose_bundle(name, weights).bundle
        for part in (bundle.card.audio, bundle.card.visual):
            if part.external:
                encoder_file(part.network, weights)
    except ModelError:
        if name not in PROFILES:
            raise
        return _Model(write_random_bundle(name, scratch / name).path, scratch / "engines", "random")
    return _Model(bundle.path, None, "bundle")


def _row_request(request: TableRequest, model: _Model, recipe: str, streams: int) -> RowRequest:
    return RowRequest(
        bundle=str(model.folder),
        recipe=recipe,
        threads=request.threads,
        frames=request.frames,
        streams=streams,
        budget_s=request.budget_s,
        cache=None if model.cache is None else str(model.cache),
        weights_dir=None if request.weights is None else str(request.weights),
    )


def _new_rows(rows: Sequence[dict[str, Any]], request: RowRequest) -> list[dict[str, Any]]:
    """Time one engine. The reference, measured beside each of them, has one row: that of the first engine, which *rows* then holds."""
    known = any(row["engine"] == "torch" for row in rows)
    return [row for row in _rows(request) if row["engine"] != "torch" or not known]


def _rows(request: RowRequest) -> list[dict[str, Any]]:
    """Time one engine in a separate process with pinned threads; an engine of the CPU is first made in this process."""
    if request.recipe.startswith("cpu"):
        facts_of(
            request
        )  # so that its process measures the memory of running, not of making; not for a GPU, whose memory would stay in use here
    rows: list[dict[str, Any]] = ask(
        "streamav.bench.row", asdict(request), what=f"timing {request.recipe}", threads=request.threads, limit_s=ROW_TIMEOUT_S
    )
    for row in rows:
        row["recipe"] = f"{row['engine']}-{row['precision']}"
    return rows
