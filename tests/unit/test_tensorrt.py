"""Tests of the TensorRT engine with a stand-in compiler: building, cache, comparison, running. Nothing here was run on TensorRT."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rigs.tensorrt_compiler import StandInCompiler
from torch import Tensor, nn
from torch.export import ExportedProgram

from streamav.bundle import Bundle, load_bundle
from streamav.config import ModelSettings
from streamav.engines import EngineCache, tensorrt_compiler, tensorrt_export
from streamav.engines.keys import engine_key
from streamav.engines.machine import has_nvidia_driver
from streamav.engines.maker import EngineRequest
from streamav.engines.making import is_made, open_made
from streamav.engines.modules import build_modules
from streamav.engines.recipe import NETWORK_NAMES, load_recipe
from streamav.engines.selection import maker_of
from streamav.engines.tensorrt_compiler import TorchTensorRT, tensorrt_problem
from streamav.engines.tensorrt_engine import TensorRTMaker
from streamav.engines.tensorrt_network import Form, Port, TensorRTNetwork
from streamav.engines.torch_engine import TorchEngine
from streamav.errors import EngineError

pytestmark = pytest.mark.usefixtures("quiet_trace")


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(str(tiny_bundle))


def request_for(bundle: Bundle, recipe: str = "tensorrt-fp16") -> EngineRequest:
    return EngineRequest(bundle=bundle, settings=ModelSettings(threads=1), recipe=load_recipe(recipe))


@pytest.fixture(scope="session")
def exported() -> dict[object, ExportedProgram]:
    """Cache exported programs: exporting a window takes seconds, and the bundle is always the same."""
    return {}


@pytest.fixture(autouse=True)
def _export_once(exported: dict[object, ExportedProgram], monkeypatch: pytest.MonkeyPatch) -> None:
    export_once(exported, monkeypatch)


def export_once(exported: dict[object, ExportedProgram], monkeypatch: pytest.MonkeyPatch) -> None:
    export = tensorrt_export.export_network

    def kept(module: nn.Module, example: Sequence[NDArray[np.generic]], dtype: torch.dtype, most: int) -> ExportedProgram:
        key = (type(module), dtype, most)
        if key not in exported:
            exported[key] = export(module, example, dtype, most)
        return exported[key]

    monkeypatch.setattr(tensorrt_export, "export_network", kept)


# Whether it can be used


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the cached answer before and after the test."""
    tensorrt_problem.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    """The message names the package to install and its index."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    problem = tensorrt_problem.__wrapped__()
    assert problem is not None
    assert "torch-tensorrt is not installed" in problem
    assert "pip install 'streamav[tensorrt]'" in problem


def test_a_machine_without_a_driver_is_named(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    """Without the driver's file nothing is imported."""
    monkeypatch.setattr(tensorrt_compiler, "has_nvidia_driver", lambda: False)
    assert tensorrt_problem.__wrapped__() == "no NVIDIA driver is loaded here, and TensorRT runs on NVIDIA GPUs only"


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> dict[str, str]:
    """Simulate a driver, a GPU, and torch and torch-tensorrt of the newest version that fits; a test may change the latter's."""
    monkeypatch.setattr(tensorrt_compiler, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    newest = ".".join(map(str, (*tensorrt_compiler.NEWEST, 0)))
    monkeypatch.setattr(torch, "__version__", newest)
    versions = {"torch-tensorrt": newest}
    monkeypatch.setattr(importlib.metadata, "version", lambda package: versions[package])
    return versions


def test_a_package_that_raises_a_bare_exception_is_a_reason(
    with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import of torch_tensorrt that prints or raises a bare Exception (without libnvinfer) ends in one sentence and prints nothing."""
    (tmp_path / "torch_tensorrt").mkdir()
    code = "print('import error')\nraise Exception('Could not find libnvinfer.so.11\\n  Search paths: none')\n"
    (tmp_path / "torch_tensorrt" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    problem = tensorrt_problem.__wrapped__()
    assert problem is not None
    assert "cannot be loaded (Could not find libnvinfer.so.11 Search paths: none)" in problem
    assert "\n" not in problem
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("version", ["2.10.0", "2.15.0", "2.11.0"])
def test_versions_that_do_not_fit_are_named(with_gpu: dict[str, str], version: str) -> None:
    """Versions that were not read are refused, and so is a torch of another version."""
    with_gpu["torch-tensorrt"] = version
    problem = tensorrt_problem.__wrapped__()
    assert problem is not None
    assert "must be 2.11 to 2.14 and torch of the same version" in problem
    assert version.removesuffix(".0") in problem


def test_bfloat16_needs_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU below compute capability 8.0 is refused for bf16 and accepted for fp16."""
    monkeypatch.setattr(tensorrt_compiler, "tensorrt_problem", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "T4")
    assert TorchTensorRT().problem("fp16") is None
    problem = TorchTensorRT().problem("bf16")
    assert problem is not None
    assert "T4 has 7.5" in problem


def test_asking_imports_no_torch() -> None:
    """On a machine without a driver, the check for TensorRT imports no torch."""
    if has_nvidia_driver():
        pytest.skip("there is an NVIDIA driver here")
    program = """
import sys
from streamav.engines.recipe import load_recipe
from streamav.engines.selection import maker_of
recipe = load_recipe("tensorrt-fp16")
assert maker_of(recipe).problem(recipe)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_selection_knows_the_maker() -> None:
    """The three TensorRT recipes select this engine."""
    for precision in ("fp16", "bf16", "fp32"):
        assert isinstance(maker_of(load_recipe(f"tensorrt-{precision}")), TensorRTMaker)


def test_what_cannot_be_used_is_not_built(bundle: Bundle, tmp_path: Path) -> None:
    """When the engine cannot be used, the error is the reason, and the cache stays empty."""
    compiler = StandInCompiler(trouble="no NVIDIA driver is loaded here")
    with pytest.raises(EngineError, match="no NVIDIA driver"):
        open_made(TensorRTMaker(compiler), request_for(bundle), EngineCache(tmp_path / "engines"))
    assert not (tmp_path / "engines").exists()


# The key


@pytest.mark.parametrize(
    "other",
    [
        StandInCompiler(capability="9.0"),
        StandInCompiler(libraries="torch 2.13.0 torch-tensorrt 2.13.0 tensorrt 11.0.1"),
        StandInCompiler(libraries="torch 2.12.0 torch-tensorrt 2.12.0 tensorrt 11.0.0"),
    ],
    ids=["capability", "tensorrt", "torch"],
)
def test_another_gpu_or_library_is_another_engine(bundle: Bundle, other: StandInCompiler) -> None:
    """Compute capability, GPU and every version are in the key."""
    request = request_for(bundle)
    assert engine_key(TensorRTMaker(other), request) != engine_key(TensorRTMaker(StandInCompiler()), request)


def test_the_key_says_what_the_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real compiler reads the GPU from torch, and the versions from the installed packages."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA RTX A2000")
    parts = TorchTensorRT().parts()
    assert (parts["compute_capability"], parts["gpu"]) == ("8.6", "NVIDIA RTX A2000")
    assert parts["libraries"].startswith(f"torch {torch.__version__.partition('+')[0]}")
    assert " torch-tensorrt " in parts["libraries"]
    assert " tensorrt-cu13 " in parts["libraries"]


# Building


@pytest.fixture(scope="session")
def built(bundle: Bundle, exported: dict[object, ExportedProgram], tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    """Return a cache in which the engine of the tiny bundle was built in half precision, with programs exported for it."""
    cache = EngineCache(tmp_path_factory.mktemp("engines"))
    with pytest.MonkeyPatch.context() as patch:
        export_once(exported, patch)
        open_made(TensorRTMaker(StandInCompiler()), request_for(bundle), cache)
    return cache


@pytest.mark.slow
def test_an_entry_holds_one_engine_a_network_and_its_facts(bundle: Bundle, built: EngineCache) -> None:
    """An entry holds four engine files, the reference's answers, the verdict, and the inputs and outputs of each engine."""
    (entry,) = built.entries()
    files = {path.name for path in entry.path.iterdir()}
    assert files == {f"{name}.engine" for name in NETWORK_NAMES} | {"reference.npz", "entry.json"}
    parity, networks = entry.facts["parity"], entry.facts["networks"]
    assert isinstance(parity, dict)
    assert isinstance(networks, dict)
    assert parity["passed"] is True
    assert entry.facts["recipe"] == "tensorrt-fp16"
    assert [Form.model_validate(networks[name]).precision for name in NETWORK_NAMES] == ["fp16", "fp16", "fp16", "fp32"]
    assert Form.model_validate(networks["visual"]).inputs == (Port(name="pictures", shape=(112, 112, 3), dtype="uint8"),)
    parts = entry.key["parts"]
    assert isinstance(parts, dict)
    assert parts["compute_capability"] == "8.6"


@pytest.mark.slow
def test_profiles_and_workspace_come_from_the_recipe(bundle: Bundle, tmp_path: Path) -> None:
    """Each network is built for a smallest, usual and largest batch; the batch of pictures is also bounded by their pixels."""
    request = request_for(bundle)
    recipe = request.recipe.model_copy(
        update={"batch": request.recipe.batch.model_copy(update={"visual_pixels": 8 * 112 * 112}), "workspace_bytes": 123}
    )
    compiler = StandInCompiler()
    request = EngineRequest(bundle=bundle, settings=request.settings, recipe=recipe)
    open_made(TensorRTMaker(compiler), request, EngineCache(tmp_path))
    assert compiler.built == [((1, 8, 8), 123), ((1, 1, 64), 123), ((1, 1, 64), 123), ((1, 1, 64), 123)]


@pytest.mark.slow
def test_a_second_open_builds_nothing(bundle: Bundle, built: EngineCache) -> None:
    """A second open finds the engine by its key and builds nothing."""
    compiler = StandInCompiler()
    maker = TensorRTMaker(compiler)
    assert is_made(maker, request_for(bundle), built)
    assert open_made(maker, request_for(bundle), built).name == "tensorrt-fp16"
    assert compiler.built == []


@pytest.mark.slow
def test_the_engine_answers_any_batch_in_numpy(bundle: Bundle, built: EngineCache) -> None:
    """The engine takes uint8 and float32 and returns float32 close to torch for every batch; batches above the largest are cut."""
    compiler = StandInCompiler()
    engine = open_made(TensorRTMaker(compiler), request_for(bundle), built)
    plain = TorchEngine(build_modules(bundle), load_recipe("torch-fp32").batch)
    generator = np.random.default_rng(0)
    for count in (1, 3, 70):
        inputs: dict[str, tuple[NDArray[np.generic], ...]] = {
            "audio": (generator.standard_normal((count, 96, 64), np.float32),),
            "encode_segment": (generator.random((count, 8), np.float32), generator.random((count, 7, 7, 8), np.float32)),
        }
        for name, arrays in inputs.items():
            for array in arrays:
                array.flags.writeable = False  # arrays from capture may be read-only
            compiler.batches.clear()
            for got, want in zip(engine.network(name)(*arrays), plain.network(name)(*arrays), strict=True):
                assert got.dtype == np.float32
                np.testing.assert_allclose(got, want, atol=2e-2)
            assert sum(compiler.batches) == count
            assert max(compiler.batches) <= 64


@pytest.mark.slow
def test_a_damaged_file_is_built_again(bundle: Bundle, built: EngineCache, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged engine gives one warning and is built again."""
    import shutil

    shutil.copytree(built.folder, tmp_path / "engines")
    cache = EngineCache(tmp_path / "engines")
    (entry,) = cache.entries()
    path = entry.path / "audio.engine"
    path.write_bytes(path.read_bytes()[:-1])
    compiler = StandInCompiler()
    open_made(TensorRTMaker(compiler), request_for(bundle), cache)
    assert len(compiler.built) == 4
    assert {record.message for record in caplog.records if record.levelno == logging.WARNING and "built again" in record.message}
    assert "audio.engine is damaged" in caplog.text
    assert len(cache.entries()) == 1


@pytest.mark.slow
def test_a_build_that_fails_says_why_and_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    """Any exception of the compiler becomes one sentence, and engines built before it are removed."""
    compiler = StandInCompiler(failure=Exception("Conversion of operator\n aten.i0 not supported"), failing=2)
    with pytest.raises(EngineError, match=r"TensorRT cannot build network audio: Conversion of operator aten\.i0 not supported"):
        open_made(TensorRTMaker(compiler), request_for(bundle), EngineCache(tmp_path))
    assert len(compiler.built) == 2
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.slow
def test_an_engine_that_differs_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """An engine with wrong results never runs: the error gives the errors, and the verdict is kept for `engines list`."""
    cache = EngineCache(tmp_path)
    for _ in range(2):  # also the second time, from the cache
        with pytest.raises(EngineError, match="differs from the float32 reference"):
            open_made(TensorRTMaker(StandInCompiler(shift=1.0)), request_for(bundle), cache)
    (entry,) = cache.entries()
    assert isinstance(entry.facts["parity"], dict)
    assert entry.facts["parity"]["passed"] is False


@pytest.mark.slow
def test_an_entry_that_cannot_be_loaded_says_why(bundle: Bundle, built: EngineCache) -> None:
    """A file that TensorRT refuses and wrong facts are errors that name the place."""
    (entry,) = built.entries()
    maker = TensorRTMaker(RefusingCompiler())
    with pytest.raises(EngineError, match=r"TensorRT cannot load .*visual\.engine: wrong magic"):
        maker.load(request_for(bundle), entry.path, entry.facts)
    with pytest.raises(EngineError, match="must hold the inputs and outputs of network visual"):
        maker.load(request_for(bundle), entry.path, {"networks": {}})


class RefusingCompiler(StandInCompiler):
    """A stand-in compiler that fails to load any engine."""

    def open(self, data: bytes, inputs: Sequence[str], outputs: int) -> Callable[..., Tensor | Sequence[Tensor]]:
        msg = "wrong magic"
        raise RuntimeError(msg)


# Running


def doubling(batches: list[int]) -> TensorRTNetwork:
    """Return a network with one uint8 input and two outputs, in half precision on the CPU."""

    def run(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert tensor.dtype == torch.float16
        batches.append(len(tensor))
        return 2 * tensor, tensor.sum(dim=1)

    form = Form(inputs=(Port(name="x", shape=(3,), dtype="uint8"),), outputs=2, precision="fp16")
    return TensorRTNetwork("double", run, form, "cpu")


def test_staging_memory_is_used_again_and_keeps_nothing() -> None:
    """Batches of different sizes, one after another, each get their own results."""
    network = doubling([])
    for count in (2, 1, 5, 5, 3):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3), np.uint8)
        twice, total = network(pixels)
        np.testing.assert_array_equal(twice, 2 * pixels.astype(np.float32))
        np.testing.assert_array_equal(total, pixels.sum(axis=1, dtype=np.float32))


def test_results_do_not_change_with_the_next_call() -> None:
    """A later run does not change earlier results."""
    network = doubling([])
    (first, _), (second, _) = network(np.full((2, 3), 7, np.uint8)), network(np.full((2, 3), 9, np.uint8))
    assert first.max() == 14
    assert second.min() == 18


@pytest.mark.parametrize("wrong", [np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.float32)], ids=["shape", "type"])
def test_wrong_inputs_are_refused_before_the_gpu_sees_them(wrong: NDArray[np.generic]) -> None:
    """A wrong input is refused with what the network takes and what it got."""
    batches: list[int] = []
    with pytest.raises(EngineError, match=r"network double must get inputs of uint8 \(n, 3\), got"):
        doubling(batches)(wrong)
    assert batches == []


def test_a_fault_of_the_gpu_is_an_engine_error() -> None:
    """Any exception of the package during a run becomes an error that names the network."""

    def run(tensor: torch.Tensor) -> torch.Tensor:
        msg = "CUDA error: device lost"
        raise RuntimeError(msg)

    form = Form(inputs=(Port(name="x", shape=(3,), dtype="uint8"),), outputs=1, precision="fp16")
    with pytest.raises(EngineError, match="network broken cannot run in TensorRT on a batch of 2: CUDA error"):
        TensorRTNetwork("broken", run, form, "cpu")(np.zeros((2, 3), np.uint8))
