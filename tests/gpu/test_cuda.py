"""Tests of the CUDA engine on a GPU: `make test-gpu`. docs/cuda.md states which of them passed on one.

`make test-gpu ARGS="-s"` prints the errors and times; times are never asserted.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamav.bundle import Bundle, find_bundle
from streamav.config import ModelSettings
from streamav.engines import EngineCache
from streamav.engines.cuda_device import CudaDevice
from streamav.engines.cuda_engine import CudaEngine, CudaMaker, open_eager_cuda
from streamav.engines.cuda_graphs import GraphedNetwork, bucket_sizes
from streamav.engines.maker import EngineRequest
from streamav.engines.making import ANSWERS_FILE, open_made
from streamav.engines.modules import build_modules
from streamav.engines.parity import Answers, answer, load_answers
from streamav.engines.recipe import NETWORK_NAMES, Recipe, load_recipe
from streamav.engines.samples import make_samples
from streamav.engines.speed import second_ms
from streamav.engines.torch_engine import TorchEngine

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

RECIPES = ("cuda-fp32", "cuda-fp16", "cuda-bf16")
TURNS = 200
Kind = TypeVar("Kind", bound=np.generic)


@pytest.fixture(scope="module", params=["starter", "paper"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the starter unchanged, and the paper's networks with random weights."""
    from streamav.bench.random_models import write_random_bundle

    if request.param == "starter":
        return find_bundle("starter")
    return write_random_bundle("paper", tmp_path_factory.mktemp("models") / "paper")


def asked(bundle: Bundle, name: str) -> EngineRequest:
    recipe = load_recipe(name)
    settings = ModelSettings(engine=recipe.engine, precision=recipe.precision)
    return EngineRequest(bundle=bundle, settings=settings, recipe=recipe)


def usable(name: str) -> Recipe:
    """Return a recipe; skip the test when the GPU does not support its precision."""
    recipe = load_recipe(name)
    problem = CudaMaker().problem(recipe)
    if problem is not None:
        pytest.skip(problem)
    return recipe


def engine_of(bundle: Bundle, recipe: Recipe, device: CudaDevice | None = None) -> CudaEngine:
    return CudaEngine(build_modules(bundle), bundle.card, recipe, CudaDevice() if device is None else device)


@cache
def reference(path: Path) -> Answers:
    """Return the answers of eager float32 torch on the CPU."""
    from streamav.bundle import load_bundle

    bundle = load_bundle(path)
    plain = TorchEngine(build_modules(bundle), load_recipe("torch-fp32").batch)
    return answer(plain, make_samples(bundle.card.visual.picture, bundle.card.audio.log_mel_offset))


def rows_of(arrays: tuple[NDArray[Kind], ...], count: int) -> tuple[NDArray[Kind], ...]:
    """Return *count* rows; after the last row the first one follows again."""
    return tuple(array[np.arange(count) % len(array)] for array in arrays)


@pytest.mark.parametrize("name", RECIPES)
def test_every_precision_passes_its_comparison(name: str, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The engine stays within the recipe's tolerance of float32 torch on the CPU; errors and times are printed."""
    usable(name)
    cache = EngineCache(tmp_path)
    engine = open_made(CudaMaker(), asked(bundle, name), cache)
    (entry,) = cache.entries()
    with capsys.disabled():
        eager = open_eager_cuda(bundle, ModelSettings())
        answers = load_answers(entry.path / ANSWERS_FILE)
        times = [second_ms(each, answers, bundle.card.visual.frames_per_second) for each in (engine, eager)]
        print(f"\n{bundle.card.name} {engine.name}: {entry.facts['parity']}")  # noqa: T201 - to be read by people
        print(f"one segment of one stream: {times[0]:.2f} ms, eager torch on the same GPU {times[1]:.2f} ms")  # noqa: T201


@pytest.mark.parametrize("name", RECIPES)
def test_every_batch_size_is_a_captured_graph_and_right(name: str, bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    """Each batch size, filled and padded, gives the reference's rows; there are as many graphs as programs, and no fallback."""
    recipe = usable(name)
    device = CudaDevice()
    engine = engine_of(bundle, recipe, device)
    wanted = reference(bundle.path)
    programs = 0
    with caplog.at_level(logging.WARNING):
        for network in NETWORK_NAMES:
            run = engine.network(network)
            assert isinstance(run, GraphedNetwork)
            sizes = bucket_sizes(run._most)
            for count in sorted({*sizes, *(max(1, size - 1) for size in sizes), 2 * run._most + 1}):
                got = run(*rows_of(wanted.inputs[network], count))
                for mine, other in zip(got, rows_of(wanted.outputs[network], count), strict=True):
                    assert mine.shape == other.shape
                    assert np.abs(mine - other).max() <= recipe.tolerance.relative * np.abs(other).max()
            programs += len(run._programs)
            assert tuple(sorted(run._programs)) == sizes
    assert device.graphs == programs
    assert caplog.records == []


def test_graphs_and_plain_launches_agree(bundle: Bundle) -> None:
    """When no capture is possible, the answers are the same to float32's rounding."""
    recipe, wanted = load_recipe("cuda-fp32"), reference(bundle.path)
    plain = CudaDevice()
    plain._uncaptured.update(NETWORK_NAMES)
    engines = [engine_of(bundle, recipe, device) for device in (CudaDevice(), plain)]
    for network in NETWORK_NAMES:
        one, other = (engine.network(network)(*wanted.inputs[network]) for engine in engines)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())
    assert plain.graphs == 0


def test_memory_is_bounded(bundle: Bundle) -> None:
    """Two hundred turns of changing batches allocate no memory after the first of them."""
    engine = engine_of(bundle, usable("cuda-fp16"))
    wanted = reference(bundle.path)
    counts = (1, 3, 16, 33)

    def turn() -> tuple[int, int]:
        for network in NETWORK_NAMES:
            for count in counts:
                engine.network(network)(*rows_of(wanted.inputs[network], count))
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    turn()
    first = turn()
    assert [turn() for _ in range(TURNS)] == [first] * TURNS


def test_another_thread_may_call(bundle: Bundle) -> None:
    """An engine that is loaded and warmed up in one thread gives the same answers in another, which also captures graphs."""
    engine = engine_of(bundle, load_recipe("cuda-fp32"))
    engine.warm_up()
    wanted = reference(bundle.path)
    errors: list[float] = []

    def call() -> None:
        for network in NETWORK_NAMES:
            got = engine.network(network)(*rows_of(wanted.inputs[network], 5))
            errors.extend(
                float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, rows_of(wanted.outputs[network], 5), strict=True)
            )

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(300)
    assert len(errors) == 1 + 1 + 3 + 4
    assert max(errors) < 1e-3


def test_nothing_synchronizes_behind_our_back(bundle: Bundle) -> None:
    """After the capture no call of torch inside a batch waits for the GPU; torch's own debug mode would raise."""
    engine = engine_of(bundle, load_recipe("cuda-fp32"))
    wanted = reference(bundle.path)
    for network in NETWORK_NAMES:
        inputs = rows_of(wanted.inputs[network], 33)
        engine.network(network)(*inputs)
        torch.cuda.synchronize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that this mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            engine.network(network)(*inputs)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_the_bench_has_rows_for_cuda(tmp_path: Path) -> None:
    """`streamav bench` times this engine like any other."""
    usable("cuda-fp16")
    command = [
        sys.executable, "-m", "streamav", "bench", "--json", "--seconds", "1",
        "--profile", "starter", "--engine", "cuda-fp16", "--batch", "1,4",
    ]  # fmt: skip
    environment = {**os.environ, "STREAMAV_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
    rows = [row for row in json.loads(done.stdout)["rows"] if row["engine"] == "cuda-fp16"]
    assert [row["batch"] for row in rows] == [1, 4]
    print(json.dumps(rows, indent=1))  # noqa: T201 - to be read by people
