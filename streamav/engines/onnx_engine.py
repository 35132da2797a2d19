"""Runs a model's networks in ONNX Runtime on the CPU, from files that were exported once and are kept in the engine cache.

When the files are there, no torch is imported: a start takes a fraction of a second and a fraction of the memory.
"""

from __future__ import annotations

import logging
import os
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from streamav import __version__
from streamav.bundle.catalogue import encoder_file
from streamav.engines.batching import BoundedNetworks, ParallelBatches
from streamav.engines.cache import EntryKey, file_sha256
from streamav.engines.parity import answer, compare, save_answers
from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.samples import make_samples
from streamav.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from streamav.bundle import Bundle
    from streamav.config import ModelSettings
    from streamav.engines.cache import EngineCache, Entry
    from streamav.engines.recipe import Recipe
    from streamav.protocols import Network

__all__ = ["ANSWERS_FILE", "OnnxEngine", "OnnxNetwork", "onnx_key", "open_onnx_engine"]

ANSWERS_FILE = "reference.npz"
ONE_THREAD = frozenset({"encode_segment", "localize_window"})
"""Networks of many small steps: waking a second thread at each costs more than it gives, so batches are shared out whole."""
LIBRARIES = ("onnxruntime", "torch", "numpy")

log = logging.getLogger(__name__)


class OnnxNetwork:
    """One ONNX file, loaded."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load *path* with *threads* threads.

        Raises:
            EngineError: when ONNX Runtime refuses the file.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads take the cores from capture and from other sources between two runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._name = path.stem
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # its exceptions have no common base but Exception
            msg = f"ONNX Runtime cannot load {path}: {exc}"
            raise EngineError(msg) from exc
        self._inputs = [port.name for port in self._session.get_inputs()]

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network.

        Raises:
            EngineError: when the inputs have not the shapes and types that the network takes.
        """
        try:
            # Copies only what is not contiguous.
            feed = {name: np.ascontiguousarray(array) for name, array in zip(self._inputs, inputs, strict=True)}
            return tuple(self._session.run(None, feed))
        except Exception as exc:  # its exceptions have no common base but Exception
            shapes = [f"{array.dtype} {array.shape}" for array in inputs]
            msg = f"network {self._name} cannot run on inputs of {shapes}: {exc}"
            raise EngineError(msg) from exc


class OnnxEngine(BoundedNetworks):
    """The four networks of a model in ONNX Runtime; windows have ten segments."""

    def __init__(self, folder: Path, recipe: Recipe, threads: int, drift: float | None = None) -> None:
        """Load the networks.

        Args:
            folder: holds one .onnx file a network.
            recipe: how much runs at once.
            threads: of the two encoders.
            drift: largest error of a probability that was found when the engine was built, where that is known.
        """
        self.drift = drift
        self.name = f"onnxruntime-{recipe.precision}"
        super().__init__({name: _load(folder / f"{name}.onnx", threads) for name in NETWORK_NAMES}, recipe.batch)


def _load(path: Path, threads: int) -> Network:
    if path.stem in ONE_THREAD:
        return ParallelBatches(OnnxNetwork(path, 1), threads)
    return OnnxNetwork(path, threads)


def onnx_key(bundle: Bundle, recipe: Recipe, weights_dir: Path | None) -> EntryKey:
    """Give the key of a model's ONNX files: weights, networks, recipe, code of the networks, versions of the libraries.

    Raises:
        ModelError: when an external encoder is missing.
    """
    card = bundle.card
    parts = {
        "weights": bundle.sha256,
        "audio": card.audio.model_dump_json(),
        "visual": card.visual.model_dump_json(),
        "localizer": card.localizer.model_dump_json(),
        "recipe": recipe.sha256,
        "networks": _code_sha256(),
        "libraries": " ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "streamav": __version__,
    }
    for part in (card.audio, card.visual):
        if part.external:
            parts[part.network] = file_sha256(encoder_file(part.network, weights_dir))
    return EntryKey(recipe.engine, recipe.precision, parts)


def open_onnx_engine(bundle: Bundle, settings: ModelSettings, recipe: Recipe, cache: EngineCache) -> OnnxEngine:
    """Load a model's ONNX files, exporting and checking them first when they are not in the cache.

    Raises:
        EngineError: when they cannot be made, or differ from torch by more than the recipe allows.
        ModelError: when weights are missing or do not fit.
    """
    threads = settings.threads or len(os.sched_getaffinity(0))

    def build(folder: Path) -> dict[str, JsonValue]:
        return _build(folder, bundle, settings, recipe, threads)

    entry = cache.get(onnx_key(bundle, recipe, settings.weights_dir), build)
    return OnnxEngine(entry.path, recipe, threads, _drift_that_passed(entry))


def _build(folder: Path, bundle: Bundle, settings: ModelSettings, recipe: Recipe, threads: int) -> dict[str, JsonValue]:
    """Export the four networks into *folder*, compare them with torch, and write down what came out."""
    from streamav.engines.modules import build_modules
    from streamav.engines.onnx_export import export_onnx
    from streamav.engines.torch_engine import TorchEngine

    log.info("engine: exporting the networks of model %s for ONNX Runtime; this is done once", bundle.card.name)
    started = time.perf_counter()
    modules = build_modules(bundle, settings.weights_dir)
    reference = TorchEngine(modules, recipe.batch)
    answers = answer(reference, make_samples(bundle.card.visual.picture, bundle.card.audio.log_mel_offset))
    for name in NETWORK_NAMES:
        export_onnx(modules[name], answers.inputs[name], folder / f"{name}.onnx", len(answers.outputs[name]))
    save_answers(folder / ANSWERS_FILE, answers)
    parity = compare(OnnxEngine(folder, recipe, threads), answers, recipe.tolerance)
    seconds = time.perf_counter() - started
    log.info(
        "engine: built in %.1f s; relative error %.1e, probability error %.1e", seconds, max(parity.relative.values()), parity.probability
    )
    return {"model": bundle.card.name, "seconds": round(seconds, 2), "parity": parity.tree(), "recipe": recipe.name}


def _drift_that_passed(entry: Entry) -> float | None:
    """Give the error of a probability found when the engine was built; raise unless the engine passed its comparison."""
    parity = entry.facts.get("parity")
    if not isinstance(parity, dict) or parity.get("passed") is not True:
        msg = f"the engine at {entry.path} differs from the float32 reference by more than its recipe allows: {parity}"
        raise EngineError(msg)
    drift = parity.get("probability")
    return drift if isinstance(drift, float) else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _code_sha256() -> str:
    """Hash the code of the networks, so that a change of it makes other engines."""
    folder = Path(__file__).resolve().parents[1] / "networks"
    return "".join(file_sha256(path)[:8] for path in sorted(folder.glob("*.py")))
