"""Tests of the CUDA engine without a GPU: its order of work on a stand-in device, and its modules on the CPU."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs.cases import cases
from rigs.cuda_device import StandInDevice
from torch import Tensor, nn

from streamav.bundle import Bundle, find_bundle, load_bundle
from streamav.config import ModelSettings
from streamav.engines import EngineCache, cuda_engine, machine
from streamav.engines.cuda_engine import CudaEngine, CudaMaker, cuda_problem, open_eager_cuda
from streamav.engines.cuda_graphs import GraphedNetwork, bucket_sizes
from streamav.engines.cuda_modules import fold_norms, lower
from streamav.engines.maker import EngineRequest
from streamav.engines.making import open_made
from streamav.engines.modules import FLOAT32_ALWAYS, build_modules
from streamav.engines.parity import answer, compare
from streamav.engines.recipe import NETWORK_NAMES, Precision, load_recipe
from streamav.engines.samples import make_samples
from streamav.engines.selection import maker_of
from streamav.engines.torch_engine import TorchEngine
from streamav.errors import EngineError
from streamav.evidence import evidence_of
from streamav.networks.options import VSCGOptions

RECIPES = ("cuda-fp32", "cuda-fp16", "cuda-bf16")


# The order of work


class Twice(nn.Module):
    """A module with two inputs and two outputs, so that a swapped, stale or overwritten buffer is detected."""

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * one, one.sum(dim=1, keepdim=True) + two


def twice_on(device: StandInDevice, most: int) -> GraphedNetwork:
    ports = (((3,), torch.float32), ((2,), torch.float32))
    return GraphedNetwork("twice", Twice(), ports, most, device, threading.Lock())


def numbers(count: int, start: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return inputs that differ in every row of every call."""
    rows = np.arange(start, start + count, dtype=np.float32)[:, None]
    return rows + np.array([0.0, 0.25, 0.5], np.float32), -rows + np.array([0.0, 0.125], np.float32)


def right(network: GraphedNetwork, counts: list[int]) -> bool:
    """Return whether every call returns the results of its own inputs."""
    start = 1
    for count in counts:
        one, two = numbers(count, start)
        got = network(one, two)
        start += count
        if not (np.array_equal(got[0], 2 * one) and np.array_equal(got[1], one.sum(axis=1, keepdims=True) + two)):
            return False
    return True


def test_graphs_double_up_to_the_recipes_batch() -> None:
    """The sizes are 1, 2, 4, 8 ... and the largest batch itself, each once."""
    assert bucket_sizes(1) == (1,)
    assert bucket_sizes(16) == (1, 2, 4, 8, 16)
    assert bucket_sizes(24) == (1, 2, 4, 8, 16, 24)


@given(most=st.integers(1, 70), counts=st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_each_piece_takes_the_smallest_graph_that_holds_it(most: int, counts: list[int]) -> None:
    """Every call returns the results of its own inputs, whatever the padding rows hold, and each size is prepared once."""
    device = StandInDevice()
    assert right(twice_on(device, most), counts)
    pieces = [min(most, count - first) for count in counts for first in range(0, count, most)]
    sizes = [min(size for size in bucket_sizes(most) if size >= piece) for piece in pieces]
    assert device.prepared == [("twice", size) for size in dict.fromkeys(sizes)]


def test_the_stand_in_shows_a_host_that_does_not_wait() -> None:
    """Without the wait the results are wrong, so the test above can fail."""
    assert not right(twice_on(StandInDevice(deaf=True), 4), [3])


@given(most=st.integers(1, 6), count=st.integers(1, 60))
@cases(40)
def test_the_host_waits_once_for_each_piece_and_at_its_end(most: int, count: int) -> None:
    """The host does not wait between the copies and the launch of a piece, and no work is in flight when a call returns."""
    device = StandInDevice()
    network = twice_on(device, most)
    network(*numbers(most, 0))
    network(*numbers(count, 0))
    work = [call for call in device.calls if call != "prepare"]
    assert work == ["copy", "copy", "launch", "copy", "copy", "wait"] * (1 + -(-count // most))
    assert device.given == []


def test_memory_is_bounded_whatever_comes() -> None:
    """The first batch allocates all memory, and there are no more graphs than sizes."""
    device = StandInDevice()
    network = twice_on(device, 4)
    network(*numbers(1, 0))
    taken = dict(device.taken)
    assert taken == {"pinned": 4 * (3 + 2 + 3 + 2), "memory": 4 * (3 + 2)}
    for count in (32, 3, 4, 400, 7):
        network(*numbers(count, 0))
    assert device.taken == taken
    assert device.prepared == [("twice", 1), ("twice", 4)]


@pytest.mark.parametrize(
    "inputs",
    [
        (np.zeros((2, 3), np.float32),),
        (np.zeros((2, 3), np.float32), np.zeros((2, 5), np.float32)),
        (np.zeros((2, 3), np.float32), np.zeros((1, 2), np.float32)),
        (np.zeros((2, 3), np.float64), np.zeros((2, 2), np.float32)),
        (np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32)),
        (np.float32(1), np.float32(1)),
    ],
)
def test_wrong_inputs_are_refused_with_what_is_right(inputs: tuple[NDArray[np.float32], ...]) -> None:
    """Number, shape, type and length of the inputs are checked before anything is copied."""
    device = StandInDevice()
    with pytest.raises(EngineError, match=r"network twice cannot run .* it takes .*float32 \(n, 3\)"):
        twice_on(device, 4)(*inputs)
    assert device.calls == []


def test_an_error_of_the_device_is_ours_and_the_next_call_is_right() -> None:
    """When the device runs out of memory, the call ends with an EngineError after all its work has ended, and the next call is right."""
    device = StandInDevice()
    network = twice_on(device, 2)
    assert right(network, [5])

    def fail(*_: object) -> None:
        msg = "out of memory"
        raise RuntimeError(msg)

    with pytest.MonkeyPatch.context() as failing:
        failing.setattr(network, "_programs", dict.fromkeys((1, 2), fail))
        with pytest.raises(EngineError, match=r"network twice failed on the device.*out of memory"):
            network(*numbers(5, 0))
    assert device.calls[-1] == "wait"
    assert device.given == []
    assert right(network, [5, 1])
    device.wait = fail  # type: ignore[method-assign] # a device that is lost fails in everything
    with pytest.raises(EngineError, match="out of memory"):
        network(*numbers(1, 0))


def test_two_threads_get_their_own_results() -> None:
    """Calls from several threads run one after another."""
    network = twice_on(StandInDevice(), 2)
    good: list[bool] = []
    threads = [threading.Thread(target=lambda: good.append(right(network, [7, 3, 5] * 5))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert good == [True, True, True]


# The modules


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def inputs_of(bundle: Bundle, count: int) -> dict[str, tuple[NDArray[np.generic], ...]]:
    samples, rows = make_samples((112, 112), 0.001), np.arange(count) % 12
    generator = np.random.default_rng(0)
    segment = VSCGOptions.from_dict(bundle.card.localizer.options).segment_size
    return {
        "visual": (samples.pictures[rows],),
        "audio": (samples.patches[rows],),
        "encode_segment": (
            generator.standard_normal((count, 8), np.float32),
            generator.standard_normal((count, 7, 7, 8), np.float32),
        ),
        "localize_window": tuple(generator.standard_normal((count, 10, segment), np.float32) for _ in range(2)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_the_engine_equals_torch_at_the_ends_of_every_batch_size(name: str, bundle: Bundle) -> None:
    """With the CPU as device and pieces of at most 8 inputs, every network gives the results of eager torch."""
    recipe = load_recipe("cuda-fp32")
    recipe = recipe.model_copy(update={"batch": recipe.batch.model_copy(update=dict.fromkeys(NETWORK_NAMES, 8))})
    fast = CudaEngine(build_modules(bundle), bundle.card, recipe, StandInDevice()).network(name)
    plain = TorchEngine(build_modules(bundle), recipe.batch).network(name)
    whole = inputs_of(bundle, 17)[name]
    wanted = plain(*whole)
    for count in (1, 2, 3, 4, 5, 8, 9, 17):
        got = fast(*(array[:count] for array in whole))
        assert [array.shape for array in got] == [array[:count].shape for array in wanted]
        for mine, other in zip(got, wanted, strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_allclose(mine, other[:count], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [RECIPES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in RECIPES[1:])])
def test_every_precision_passes_its_comparison_and_is_kept(name: str, bundle: Bundle, tmp_path: Path) -> None:
    """In every precision, on the CPU, the engine stays within its recipe's tolerance, and only the reference's answers are on disk."""
    recipe = load_recipe(name)
    request = EngineRequest(bundle=bundle, settings=ModelSettings(engine="cuda", precision=recipe.precision), recipe=recipe)
    device = StandInDevice()
    engine = open_made(CudaMaker(lambda: device), request, EngineCache(tmp_path))
    assert engine.name == name
    (entry,) = EngineCache(tmp_path).entries()
    assert sorted(path.name for path in entry.path.iterdir()) == ["entry.json", "reference.npz"]
    assert {"torch", "cuda", "cudnn", "gpu"} <= entry.key["parts"].keys()  # type: ignore[union-attr]
    assert ("visual", 2) in device.prepared  # two pictures of one segment
    with pytest.raises(EngineError, match="got 'smell'"):
        engine.network("smell")


@pytest.mark.slow
def test_only_encoders_are_lowered_and_only_their_layers(bundle: Bundle) -> None:
    """Encoders in half precision return float32, and the weights of the localizer are not changed."""
    plain, low = build_modules(bundle), lower(build_modules(bundle), "bf16")
    for name in ("encode_segment", "localize_window"):
        for mine, other in zip(low[name].parameters(), plain[name].parameters(), strict=True):
            assert torch.equal(mine, other)
    for name in ("visual", "audio"):
        assert {weight.dtype for weight in low[name].parameters()} == {torch.bfloat16}
        with torch.inference_mode():
            assert low[name](torch.tensor(inputs_of(bundle, 1)[name][0])).dtype == torch.float32
    first = next(layer for layer in low["visual"].modules() if isinstance(layer, nn.Conv2d))
    assert first.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_encoders_that_score_classes_pass_too(precision: Precision) -> None:
    """The shipped starter, whose encoders return features and class scores, stays within the recipe's tolerance in every precision."""
    starter = find_bundle("starter")
    samples = make_samples(starter.card.visual.picture, starter.card.audio.log_mel_offset)
    recipe, plain = load_recipe(f"cuda-{precision}"), load_recipe("torch-fp32")
    reference = answer(TorchEngine(build_modules(starter), plain.batch), samples)
    low = lower(build_modules(starter), precision)
    parity = compare(TorchEngine(low, recipe.batch), reference, recipe.tolerance, evidence_of(starter))
    assert parity.passed, parity
    for name in ("visual", "audio"):
        kinds = {key.rpartition(".")[0].rpartition(".")[2] for key, value in low[name].state_dict().items() if value.dtype == torch.float32}
        assert precision == "fp32" or kinds == {"classifier"}  # a sigmoid in half precision is too coarse


def test_folding_norms_changes_no_answer_and_leaves_no_norm(bundle: Bundle) -> None:
    """Folding a batch norm changes the results by float32's rounding at most."""
    plain = build_modules(bundle)["visual"]
    folded = copy.deepcopy(plain)
    fold_norms(folded)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    pictures = torch.tensor(make_samples((112, 112), 0.001).pictures)
    with torch.inference_mode():
        torch.testing.assert_close(folded(pictures), plain(pictures), rtol=1e-4, atol=1e-5)


def test_mobilenet_stays_in_float32() -> None:
    """MobileNetV2 stays float32 in every recipe, since its public weights are too inaccurate in half precision."""
    modules: dict[str, nn.Module] = {"visual": FLOAT32_ALWAYS[0]().eval()}
    assert {weight.dtype for weight in lower(modules, "fp16")["visual"].parameters()} == {torch.float32}


def test_int8_is_no_precision_of_this_engine(bundle: Bundle) -> None:
    """Another precision is refused with the names of the supported ones."""
    with pytest.raises(EngineError, match="fp32, fp16, bf16, got int8"):
        lower(build_modules(bundle), "int8")


# What this machine lacks


def test_without_a_driver_torch_is_not_imported() -> None:
    """The check for a GPU imports no torch when no driver is loaded, and its answer says what to do."""
    program = (
        "import sys; from streamav.engines import cuda_engine;"
        "cuda_engine.has_nvidia_driver = lambda: False; print(cuda_engine.cuda_problem(), '|', 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    problem, imported = done.stdout.strip().split(" | ")
    assert problem.startswith("no NVIDIA driver")
    assert "--engine cpu" in problem
    assert imported == "False"


@pytest.mark.parametrize("place", range(len(machine.NVIDIA_DRIVERS)), ids=["pci", "wsl2", "jetson"])
def test_each_kind_of_driver_counts(place: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU of a PC, of Windows in WSL 2 and of a Jetson has a file or device of its own; without any of them there is no driver."""
    drivers = tuple(tmp_path / path.name for path in machine.NVIDIA_DRIVERS)
    monkeypatch.setattr(machine, "NVIDIA_DRIVERS", drivers)
    assert not machine.has_nvidia_driver()
    drivers[place].touch()
    assert machine.has_nvidia_driver()


@pytest.mark.parametrize(
    ("version", "available", "bfloat16", "precision", "said"),
    [
        (None, False, False, "fp32", "built without CUDA; install the CUDA build"),
        ("13.0", False, False, "fp32", "sees no GPU; check that CUDA_VISIBLE_DEVICES"),
        ("13.0", True, False, "bf16", "T4 has no bfloat16; use --precision fp16"),
        ("13.0", True, False, "fp16", None),
        ("13.0", True, True, "bf16", None),
    ],
)
def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
    available: bool,
    bfloat16: bool,
    precision: Any,  # noqa: ANN401 - a literal type, from the table
    said: str | None,
) -> None:
    """Each missing part has its own message."""
    monkeypatch.setattr(cuda_engine, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "T4")
    problem = cuda_problem(precision)
    assert problem is None if said is None else problem is not None and said in problem


def test_the_maker_is_chosen_by_the_recipe_and_says_what_is_missing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU neither the engine nor the reference on the GPU can be opened, and the error is the message of the check."""
    monkeypatch.setattr(cuda_engine, "has_nvidia_driver", lambda: False)
    recipe = load_recipe("cuda-fp16")
    maker = maker_of(recipe)
    assert isinstance(maker, CudaMaker)
    request = EngineRequest(bundle=bundle, settings=ModelSettings(), recipe=recipe)
    with pytest.raises(EngineError, match="no NVIDIA driver"):
        open_made(maker, request, EngineCache(tmp_path / "engines"))
    with pytest.raises(EngineError, match="no NVIDIA driver"):
        open_eager_cuda(bundle, ModelSettings())
