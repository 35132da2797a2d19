"""Makes an engine in the same steps for every kind: find it in the cache, or compile, compare with the reference, record, load.

What differs between TensorRT, CUDA and the CPU is a `Maker`. The comparison with the reference is only here, so that no engine can
be used that did not pass it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.bundle.catalogue import encoder_file
from streamav.engines.keys import engine_key, model_parts
from streamav.engines.parity import answer, compare, load_answers, save_answers
from streamav.engines.samples import make_samples
from streamav.engines.speed import second_ms
from streamav.errors import EngineError, ModelError
from streamav.evidence import evidence_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue
    from torch import nn

    from streamav.engines.cache import EngineCache, Entry
    from streamav.engines.maker import EngineRequest, Maker
    from streamav.engines.parity import Answers, Parity
    from streamav.protocols import Engine

__all__ = [
    "ANSWERS_FILE",
    "has_passed",
    "is_made",
    "is_slow",
    "made",
    "open_made",
    "open_ready",
    "run_again",
]

ANSWERS_FILE = "reference.npz"
_LARGE_BYTES = 64 << 20
"""Larger weights take long to export: 11 MB delayed a start by 1 to 2 s, 362 MB by 25 s or more (docs/engines.md, first start)."""
_DIFFERS = "differs from the float32 reference by more than its recipe allows"
_log = logging.getLogger(__name__)

_last_answers: dict[str, Answers] = {}
"""The reference's answers for the model of the engine that was made last, by a key of all that defines the model."""


def is_slow(request: EngineRequest) -> bool:
    """Return whether making an engine takes so long (more than some three seconds) that a live run should begin on another engine.

    TensorRT, int8 (it calibrates) and, on the CPU, large models are slow.
    """
    engine, precision = request.recipe.engine, request.recipe.precision
    return engine == "tensorrt" or precision == "int8" or (engine == "cpu" and _weights_bytes(request) > _LARGE_BYTES)


def is_made(maker: Maker, request: EngineRequest, cache: EngineCache) -> bool:
    """Return whether the cache holds an engine, whether it passed its comparison or not.

    Raises:
        ModelError: when an external encoder is missing.
    """
    return cache.find(engine_key(maker, request)) is not None


def open_made(maker: Maker, request: EngineRequest, cache: EngineCache) -> Engine:
    """Open an engine; make it and compare it first when it is not in the cache.

    Raises:
        EngineError: when this machine cannot run it, when it cannot be made, or when it differs from torch by more than the recipe allows.
        ModelError: when weights are missing or do not fit.
    """
    entry = made(maker, request, cache)
    return maker.load(request, entry.path, entry.facts)


def made(maker: Maker, request: EngineRequest, cache: EngineCache, *, rebuild: bool = False) -> Entry:
    """Return the entry of an engine that passed its comparison; make it first when it is not in the cache. Nothing is loaded.

    With *rebuild* it is made in any case. The old entry stays until the new one is complete. An old entry that passed its
    comparison is not replaced by a new one that did not pass.

    Raises:
        EngineError: as `open_made`.
        ModelError: as `open_made`.
    """
    problem = maker.problem(request.recipe)
    if problem is not None:
        raise EngineError(problem)
    key = engine_key(maker, request)

    def build(folder: Path) -> dict[str, JsonValue]:
        facts = _make(maker, request, folder)
        before = cache.find(key) if rebuild else None
        if before is not None and has_passed(before.facts) and not has_passed(facts):
            msg = f"the rebuilt engine {_DIFFERS}: {facts['parity']}; the earlier engine, which passed, stays"
            raise EngineError(msg)
        return facts

    entry = cache.get(key, build, rebuild=rebuild)
    _check_passed(entry)
    return entry


def open_ready(maker: Maker, request: EngineRequest, cache: EngineCache) -> Engine:
    """Open an engine that another process made, and compare it once more in this process, which also warms it up; nothing is made.

    Raises:
        EngineError: when it is absent, cannot be loaded, or differs from torch by more than the recipe allows.
        ModelError: when an external encoder is missing.
    """
    entry = cache.find(engine_key(maker, request))
    if entry is None:
        msg = f"no usable engine {request.recipe.name} for model {request.bundle.card.name} is in {cache.folder}"
        raise EngineError(msg)
    _check_passed(entry)
    engine, parity = run_again(maker, request, entry)
    if not parity.passed:
        msg = f"the engine at {entry.path} passed when it was built, but not in this process: {parity.tree()}"
        raise EngineError(msg)
    return engine


def run_again(maker: Maker, request: EngineRequest, entry: Entry) -> tuple[Engine, Parity]:
    """Load an engine and compare it once more with the reference's answers that are stored beside it.

    Raises:
        EngineError: when it cannot be loaded or run, or the answers are damaged.
    """
    engine = maker.load(request, entry.path, entry.facts)
    return engine, compare(engine, load_answers(entry.path / ANSWERS_FILE), request.recipe.tolerance, evidence_of(request.bundle))


def _make(maker: Maker, request: EngineRequest, folder: Path) -> dict[str, JsonValue]:
    """Compile into *folder*, compare with the reference, and return the facts of the entry."""
    from streamav.engines.modules import build_modules

    bundle, recipe = request.bundle, request.recipe
    _log.info("engine: building %s for model %s; this is done only once", recipe.name, bundle.card.name)
    began = time.perf_counter()
    modules = build_modules(bundle, request.settings.weights_dir)
    answers = _reference_answers(request, modules)
    drawn = None if request.calibration is None else _reference_answers(replace(request, calibration=None), modules)
    facts = dict(maker.compile(request, modules, answers, folder))
    save_answers(folder / ANSWERS_FILE, answers)
    engine = maker.load(request, folder, facts)
    evidence = evidence_of(bundle)
    parity, compared_on = compare(engine, answers, recipe.tolerance, evidence), "drawn samples"
    if request.calibration is not None:
        compared_on = request.calibration.source
    if drawn is not None and parity.passed and not (other := compare(engine, drawn, recipe.tolerance, evidence)).passed:
        # A quiet or dark clip fits ranges that suit only such clips, and the checking half of the same clip would not show it.
        parity, compared_on = other, f"drawn samples, besides {compared_on}"
        _log.warning(
            "engine: %s passes on the recordings, not on the drawn samples; use recordings with all kinds of sounds and pictures",
            recipe.name,
        )
    seconds = time.perf_counter() - began
    _log.info(
        "engine: built in %.1f s; relative error %.1e, probability error %.1e", seconds, max(parity.relative.values()), parity.probability
    )
    if "second_ms" not in facts:
        facts["second_ms"] = round(second_ms(engine, answers, bundle.card.visual.frames_per_second), 3)
    return facts | {
        "model": bundle.card.name,
        "bundle": str(bundle.path.resolve()),
        "weights_dir": None if request.settings.weights_dir is None else str(Path(request.settings.weights_dir).resolve()),
        "seconds": round(seconds, 2),
        "parity": parity.tree(),
        "compared_on": compared_on,
        "recipe": recipe.name,
    }


def _reference_answers(request: EngineRequest, modules: Mapping[str, nn.Module]) -> Answers:
    """Run the reference; when several engines of one model are made one after another, it runs once."""
    from streamav.engines.torch_engine import TorchEngine

    bundle, recorded = request.bundle, request.calibration
    if recorded is not None:
        return answer(TorchEngine(modules, request.recipe.batch), recorded.check)
    key = json.dumps(model_parts(request))
    if key not in _last_answers:
        samples = make_samples(bundle.card.visual.picture, bundle.card.audio.log_mel_offset)
        _last_answers.clear()
        _last_answers[key] = answer(TorchEngine(modules, request.recipe.batch), samples)
    return _last_answers[key]


def _check_passed(entry: Entry) -> None:
    if not has_passed(entry.facts):
        msg = f"the engine at {entry.path} {_DIFFERS}: {entry.facts.get('parity')}"
        raise EngineError(msg)


def has_passed(facts: Mapping[str, JsonValue]) -> bool:
    """Return whether an entry passed its comparison, according to its facts."""
    parity = facts.get("parity")
    return isinstance(parity, dict) and parity.get("passed") is True


def _weights_bytes(request: EngineRequest) -> int:
    """Add up the sizes of a model's files and of its external encoders, bytes; missing files count 0."""
    card, size = request.bundle.card, sum(path.stat().st_size for path in request.bundle.path.glob("*"))
    for part in (card.audio, card.visual):
        if part.external:
            with contextlib.suppress(ModelError):
                size += encoder_file(part.network, request.settings.weights_dir).stat().st_size
    return size
