"""Tests of our use of torch-tensorrt against the facts of its wheels: keywords, exported programs, and the wheels themselves."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packaging.requirements import Requirement
from rigs.random_profile import Profile, random_profile
from rigs.tensorrt_coverage import FACTS_FILE, read_facts
from torch import nn
from torch.export import ExportedProgram

from streamav.bench.random_models import PROFILES
from streamav.engines import tensorrt_compiler
from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.tensorrt_export import DTYPES, export_network, input_names

pytestmark = pytest.mark.usefixtures("quiet_trace")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "torch_tensorrt_facts.py"
PACKAGE = "torch_tensorrt"
MOST = 16


def calls(source: str) -> Iterator[tuple[str, set[str]]]:
    """Return, for every call of torch_tensorrt, the last part of its name and the keywords that are passed."""
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.startswith(f"{PACKAGE}.") or name in imported:
                yield name.rpartition(".")[2], {str(word.arg) for word in node.keywords}


def unknown_keywords(source: str, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return every keyword that a version does not have, and every function that was not read."""
    return sorted(
        f"{version} {name}({word}=)"
        for name, words in calls(source)
        for version, one in facts.items()
        for word in words - set(one["parameters"].get(name, ()))
    )


# Keywords


def test_every_keyword_exists_in_every_version() -> None:
    """Every keyword passed to torch_tensorrt is a parameter from 2.11 to 2.14."""
    source = Path(tensorrt_compiler.__file__).read_text(encoding="utf-8")
    assert {name for name, _ in calls(source)} == {"Input", "convert_exported_program_to_serialized_trt_engine", "TorchTensorRTModule"}
    assert sum(len(words) for _, words in calls(source)) >= 11
    assert unknown_keywords(source, read_facts()) == []


def test_a_keyword_that_a_version_lacks_is_found() -> None:
    """The check finds keywords that 2.13 removed, and a function that was never read."""
    source = "import torch_tensorrt\ntorch_tensorrt.dynamo.compile(p, inputs=[], enabled_precisions={1})\ntorch_tensorrt.fuse(fast=1)\n"
    found = unknown_keywords(source, read_facts())
    assert "2.13.0 compile(enabled_precisions=)" in found
    assert not any(line.startswith("2.11.0 compile") for line in found)
    assert "2.11.0 fuse(fast=)" in found


def test_one_file_knows_the_package() -> None:
    """Only one module imports torch_tensorrt, so checking this module is enough."""
    users = {
        path.name
        for path in (ROOT / "streamav").rglob("*.py")
        if "tensorrt" in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name and name.partition(".")[0] in {PACKAGE, "tensorrt"}
    }
    assert users == {"tensorrt_compiler.py"}


def test_the_versions_read_are_those_that_may_be_installed() -> None:
    """The facts cover all versions that the check accepts and that the extra asks for."""
    read = {tuple(int(part) for part in version.split(".")[:2]) for version in read_facts()}
    assert read == {(2, minor) for minor in range(tensorrt_compiler.OLDEST[1], tensorrt_compiler.NEWEST[1] + 1)}
    if (ROOT / "pyproject.toml").is_file():
        assert '"torch-tensorrt>=2.11,<2.15;' in (ROOT / "pyproject.toml").read_text()


def test_outputs_are_named_as_the_engine_is_asked_for_them() -> None:
    """Every version names the outputs of an engine output0, output1, ..."""
    assert {tuple(one["output_names"]) for one in read_facts().values()} == {("f'output{i}'",)}


def test_the_key_holds_the_version_of_tensorrt() -> None:
    """Every version brings a package of TensorRT whose version is in the engine's key, so another TensorRT makes another engine."""
    ours = {name for name in tensorrt_compiler.LIBRARIES if name.startswith("tensorrt")}
    for version, one in read_facts().items():
        assert ours & {Requirement(line).name for line in one["requires"]}, version


# The exported program


@pytest.fixture(scope="module", params=PROFILES)
def profile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """Return the networks of a profile with random weights."""
    return random_profile(request.param, tmp_path_factory.mktemp("random"))


class HandedThrough(nn.Module):
    """Returns one of its inputs unchanged."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left, right + 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_input_is_never_an_output(precision: str) -> None:
    """An input that is also an output comes out of an operator with the same numbers, since an engine's input cannot be its output."""
    inputs = (np.arange(6, dtype=np.float32).reshape(2, 3),) * 2
    program = export_network(HandedThrough(), inputs, DTYPES[precision], MOST)
    assert not set(program.graph_signature.user_outputs) & set(program.graph_signature.user_inputs)
    left, right = program_answers(program, inputs, DTYPES[precision])
    np.testing.assert_array_equal(left.float().numpy(), inputs[0])
    np.testing.assert_array_equal(right.float().numpy(), inputs[1] + 1)


def program_answers(program: ExportedProgram, inputs: tuple[NDArray[np.generic], ...], dtype: torch.dtype) -> list[torch.Tensor]:
    outputs = program.module(check_guards=False)(*(torch.from_numpy(array).to(dtype) for array in inputs))
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("network", NETWORK_NAMES)
def test_the_exported_program_answers_as_the_module_does(profile: Profile, network: str) -> None:
    """In float32 at batches of 1, 3 and 16, unrolling and rewriting change the results by rounding at most."""
    inputs = profile.inputs(MOST)[network]
    program = export_network(profile.modules[network], inputs, torch.float32, MOST)
    for count in (1, 3, MOST):
        few = tuple(array[:count] for array in inputs)
        with torch.inference_mode():
            plain = profile.modules[network](*(torch.from_numpy(array) for array in few))
        wanted = [plain] if isinstance(plain, torch.Tensor) else list(plain)
        for got, want in zip(program_answers(program, few, torch.float32), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * max(1.0, float(want.abs().max())))


# The wheels themselves


@pytest.mark.slow
def test_the_stored_facts_are_what_the_wheels_say(tmp_path: Path) -> None:
    """The wheels of every version, downloaded and read again, give the file in tests/golden."""
    if not SCRIPT.is_file():
        pytest.skip("not a working tree")
    versions = sorted(read_facts())
    for version in versions:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), "--python-version", "3.11",
            "--platform", "manylinux_2_28_x86_64", "--only-binary=:all:", "--retries", "1", "--timeout", "10", f"torch-tensorrt=={version}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            reason = f"the package index gives no torch-tensorrt {version} here: {done.stderr.strip()[-300:]}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    wheels = sorted(str(path) for path in tmp_path.glob("*.whl"))
    assert len(wheels) == len(versions)
    read = subprocess.run([sys.executable, str(SCRIPT), *wheels], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(read.stdout) == json.loads(FACTS_FILE.read_text())


# The real compiler object, with a package that has each version's signatures


class Recorder:
    """A stand-in for one function of the package: it refuses arguments that the version does not have, and records the others."""

    def __init__(self, known: list[str], answer: object) -> None:
        self.known, self.answer = set(known), answer
        self.given: list[dict[str, Any]] = []

    def __call__(self, *args: object, **kwargs: object) -> object:
        assert kwargs.keys() <= self.known, f"unknown: {kwargs.keys() - self.known}"
        self.given.append(kwargs)
        return kwargs if self.answer is None else self.answer


@pytest.mark.parametrize("version", sorted(read_facts()))
@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_the_compiler_speaks_to_every_version(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes, types, workspace and names are passed to functions that accept only the parameters of that version."""
    known = read_facts()[version]["parameters"]
    inputs = Recorder(known["Input"], None)
    convert = Recorder(known["convert_exported_program_to_serialized_trt_engine"], b"engine")
    module = Recorder(known["TorchTensorRTModule"], "loaded")
    runtime = SimpleNamespace(TorchTensorRTModule=module)
    dynamo = SimpleNamespace(convert_exported_program_to_serialized_trt_engine=convert, runtime=runtime)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", SimpleNamespace(Input=inputs, dynamo=dynamo))
    monkeypatch.setitem(sys.modules, "torch_tensorrt.dynamo", dynamo)
    monkeypatch.setitem(sys.modules, "torch_tensorrt.dynamo.runtime", runtime)
    example = (np.ones((2, 3), np.float32), np.ones((2, 5, 4), np.float32))
    for dtype in (torch.float16, torch.float32):
        program = export_network(Pair(), example, dtype, 8)
        assert tensorrt_compiler.TorchTensorRT().build(program, (1, 2, 8), 99) == b"engine"
        assert convert.given[-1]["arg_inputs"] == [
            {"min_shape": (1, 3), "opt_shape": (2, 3), "max_shape": (8, 3), "dtype": dtype},
            {"min_shape": (1, 5, 4), "opt_shape": (2, 5, 4), "max_shape": (8, 5, 4), "dtype": dtype},
        ]
        assert convert.given[-1]["workspace_size"] == 99
        assert convert.given[-1]["disable_tf32"] == (dtype == torch.float32)
        assert not Path(convert.given[-1]["timing_cache_path"]).parent.exists()
    opened: object = tensorrt_compiler.TorchTensorRT().open(b"engine", input_names(program), 2)
    assert opened == "loaded"
    assert module.given == [
        {"serialized_engine": b"engine", "input_binding_names": ["left", "right"], "output_binding_names": ["output0", "output1"]}
    ]


class Pair(nn.Module):
    """A module with two inputs and two outputs."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left * 2, right.sum(dim=1)
