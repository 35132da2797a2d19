"""Runs a model's networks on the CPU from ONNX files: each network in ONNX Runtime or OpenVINO, whichever is faster on this machine.

Both runtimes run the same files, which are exported (and quantised) once and kept in the engine cache. When the files are there, torch is
not imported: a start takes a fraction of a second and a fraction of the memory. Which runtime is faster depends on the processor and
the network (docs/adr/0011). It is therefore measured when the engine is made, and recorded with the engine.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from streamav.engines.batching import BoundedNetworks, ParallelBatches
from streamav.engines.cache import EngineCache
from streamav.engines.keys import engine_key
from streamav.engines.machine import instructions, int8_saturates, library_versions
from streamav.engines.onnx_network import OnnxNetwork
from streamav.engines.openvino_network import OpenVinoNetwork, openvino_problem
from streamav.engines.parity import relative_l2
from streamav.engines.recipe import NETWORK_NAMES, load_recipe
from streamav.engines.samples import make_samples
from streamav.engines.speed import best_ms, segment_ms_of, timed_inputs
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from pydantic import JsonValue
    from torch import nn

    from streamav.engines.maker import EngineRequest
    from streamav.engines.openvino_network import Hint
    from streamav.engines.parity import Answers
    from streamav.engines.recipe import Recipe
    from streamav.engines.samples import Calibration, Samples
    from streamav.protocols import Network

__all__ = ["CpuEngine", "CpuMaker"]

ONE_THREAD = frozenset({"encode_segment", "localize_window"})
"""Networks of many small steps. Waking a second thread at each step costs ONNX Runtime more than it gives, so threads take whole inputs."""
LIBRARIES = ("onnxruntime", "openvino", "torch", "numpy")
RUNTIMES = ("onnxruntime", "openvino")
_CALIBRATION_SEGMENTS = 12
_CALIBRATION_SEED = 20_231
"""Seed of the calibration samples: not the samples of the comparison."""

_log = logging.getLogger(__name__)


class CpuEngine(BoundedNetworks):
    """The four networks of a model on the CPU; windows have ten segments."""

    picture_ms: float | None = None
    """Time of one picture in the visual encoder, as recorded when the engine was made, ms; None when it was not."""

    def __init__(self, folder: Path, recipe: Recipe, threads: int, runtimes: Mapping[str, str], lowered: Collection[str]) -> None:
        """Load the networks.

        Args:
            folder: holds one .onnx file for each network.
            recipe: batch bounds and precision.
            threads: number of threads of each of the two encoders.
            runtimes: "onnxruntime" or "openvino" for each network.
            lowered: networks that run in the recipe's precision; the others run in float32.
        """
        self.name = f"{runtimes['visual']}-{recipe.precision}"
        hints = {name: _hint(recipe, name in lowered) for name in NETWORK_NAMES}
        networks = {name: _load(folder / f"{name}.onnx", runtimes[name], threads, hints[name]) for name in NETWORK_NAMES}
        super().__init__(networks, recipe.batch)


class CpuMaker:
    """Fills the role Maker with ONNX files."""

    def problem(self, recipe: Recipe) -> str | None:
        """Return why the engine cannot be used, or None: bfloat16 needs OpenVINO and a processor that computes in bfloat16."""
        return openvino_problem("bf16") if recipe.precision == "bf16" else None

    def parts(self, request: EngineRequest) -> dict[str, str]:
        """Return the versions of the libraries, and the processor: the faster runtime and the bits of int8's weights depend on them."""
        parts = {"libraries": library_versions(LIBRARIES), "processor": instructions()}
        return parts | {"int8": "weights of seven bits"} if request.recipe.precision == "int8" and int8_saturates() else parts

    def compile(self, request: EngineRequest, modules: Mapping[str, nn.Module], answers: Answers, folder: Path) -> dict[str, JsonValue]:
        """Export the four networks, lower the encoders' precision if the recipe asks for it, and find the faster runtime of each network.

        Raises:
            EngineError: when a network holds something that ONNX cannot express.
        """
        self._export(request, modules, answers, folder)
        facts = _lower(request, answers, folder) if request.recipe.lowered else {}
        found = _runtimes(request, answers, folder, _names(facts))
        least = {name: min(times.values()) for name, times in found.items()}
        return facts | {
            "runtimes": {name: min(times, key=lambda one: times[one]) for name, times in found.items()},
            "runtime_ms": {name: dict(times) for name, times in found.items()},
            "second_ms": round(segment_ms_of(least, request.bundle.card.visual.frames_per_second), 3),
        }

    def _export(self, request: EngineRequest, modules: Mapping[str, nn.Module], answers: Answers, folder: Path) -> None:
        """Write the float32 files, or copy those of the float32 engine of the same model when the same cache holds it."""
        exact = replace(request, recipe=load_recipe("cpu-fp32"), calibration=None)
        ready = EngineCache(folder.parent).find(engine_key(self, exact)) if request.recipe.lowered else None
        if ready is not None:
            for name in NETWORK_NAMES:
                shutil.copyfile(ready.path / f"{name}.onnx", folder / f"{name}.onnx")
            return
        from streamav.engines.onnx_export import export_onnx

        for name in NETWORK_NAMES:
            export_onnx(modules[name], answers.inputs[name], folder / f"{name}.onnx", len(answers.outputs[name]))

    def load(self, request: EngineRequest, folder: Path, facts: Mapping[str, JsonValue]) -> CpuEngine:
        """Load the files.

        Raises:
            EngineError: when a runtime refuses one, or the facts do not name the runtimes.
        """
        runtimes = facts.get("runtimes")
        if not isinstance(runtimes, dict) or not {*NETWORK_NAMES} <= {*runtimes} or not {*runtimes.values()} <= {*RUNTIMES}:
            msg = f"the engine at {folder} must name the runtime of each network, got {runtimes}; run: streamav engines build --force"
            raise EngineError(msg)
        chosen = {name: str(runtimes[name]) for name in NETWORK_NAMES}
        engine = CpuEngine(folder, request.recipe, _threads(request), chosen, _names(facts))
        engine.picture_ms = _picture_ms(facts)
        return engine


def _picture_ms(facts: Mapping[str, JsonValue]) -> float | None:
    """Return the recorded time of one picture in the faster runtime, ms."""
    times = facts.get("runtime_ms")
    visual = times.get("visual") if isinstance(times, dict) else None
    found = [value for value in visual.values() if isinstance(value, int | float)] if isinstance(visual, dict) else []
    return min(found, default=None)


def _load(path: Path, runtime: str, threads: int, hint: Hint) -> Network:
    if runtime == "openvino":
        return OpenVinoNetwork(path, threads, hint)
    if path.stem in ONE_THREAD:
        return ParallelBatches(OnnxNetwork(path, 1), threads)
    return OnnxNetwork(path, threads)


def _lower(request: EngineRequest, answers: Answers, folder: Path) -> dict[str, JsonValue]:
    """Lower the precision of the recipe's encoders; an encoder whose error exceeds `lowered_l2` stays float32."""
    recipe = request.recipe
    fit = _fit(request) if recipe.precision == "int8" else None
    kept: list[JsonValue] = []
    errors: dict[str, JsonValue] = {}
    for name in recipe.lowered:
        if fit is None:
            network = OpenVinoNetwork(folder / f"{name}.onnx", _threads(request), "bf16")
            error = relative_l2(network(*answers.inputs[name])[0], answers.outputs[name][0])
        else:
            error = _quantise(request, answers, folder / f"{name}.onnx", fit.pictures if name == "visual" else fit.patches)
        errors[name] = round(error, 5)
        if error <= recipe.lowered_l2:
            kept.append(name)
        else:
            what = (name, recipe.precision, error, recipe.lowered_l2)
            _log.warning("engine: network %s stays float32: in %s its relative L2 error is %.3f, at most %.3f is allowed", *what)
    calibration: dict[str, JsonValue] = {} if fit is None else {"calibration": _calibration_facts(request.calibration, fit)}
    return {"lowered": kept, "lowered_l2": errors, **calibration}


def _quantise(request: EngineRequest, answers: Answers, path: Path, inputs: NDArray[np.generic]) -> float:
    """Replace a file by its int8 form if that is exact enough: all layers, else the pointwise ones alone. Return the smallest error."""
    from streamav.engines.quantisation import quantise

    errors = []
    for pointwise in (False, True):
        made = path.with_suffix(".int8.onnx")
        quantise(path, made, inputs, pointwise=pointwise, reduced=int8_saturates())
        network = OnnxNetwork(made, _threads(request))
        errors.append(relative_l2(network(*answers.inputs[path.stem])[0], answers.outputs[path.stem][0]))
        if errors[-1] <= request.recipe.lowered_l2:
            made.replace(path)
            return errors[-1]
        made.unlink()
    return min(errors)


def _fit(request: EngineRequest) -> Samples:
    """Return the samples on which the ranges of activations are measured."""
    if request.calibration is not None:
        return request.calibration.fit
    card = request.bundle.card
    return make_samples(card.visual.picture, card.audio.log_mel_offset, _CALIBRATION_SEGMENTS, _CALIBRATION_SEED)


def _calibration_facts(calibration: Calibration | None, fit: Samples) -> dict[str, JsonValue]:
    digest = hashlib.sha256(fit.pictures.tobytes() + fit.patches.tobytes()).hexdigest()
    return {"source": "drawn" if calibration is None else calibration.source, "segments": len(fit.pictures), "sha256": digest}


def _runtimes(request: EngineRequest, answers: Answers, folder: Path, lowered: Collection[str]) -> dict[str, dict[str, float]]:
    """Time each network in each runtime that is present; return milliseconds for each input, by network and runtime."""
    problem = openvino_problem()
    if problem is not None:
        _log.info("engine: %s; ONNX Runtime runs all networks", problem)
    times, threads = {}, _threads(request)
    for name in NETWORK_NAMES:
        hint = _hint(request.recipe, name in lowered)
        inputs = timed_inputs(answers, name)
        candidates = ("openvino",) if hint == "bf16" else RUNTIMES[: 1 if problem else 2]
        times[name] = {one: round(best_ms(_load(folder / f"{name}.onnx", one, threads, hint), inputs), 4) for one in candidates}
    return times


def _hint(recipe: Recipe, lowered: bool) -> Hint:  # noqa: FBT001 - a property of the network
    return "bf16" if lowered and recipe.precision == "bf16" else "f32"


def _names(facts: Mapping[str, JsonValue]) -> frozenset[str]:
    """Return the networks that run in the recipe's precision."""
    lowered = facts.get("lowered")
    return frozenset(map(str, lowered)) if isinstance(lowered, list) else frozenset()


def _threads(request: EngineRequest) -> int:
    return request.settings.threads or len(os.sched_getaffinity(0))
