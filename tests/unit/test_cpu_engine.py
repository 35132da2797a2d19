"""Tests of the CPU engine: the choice of the faster of two runtimes, int8 by calibration, bfloat16 where the processor supports it."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs.tiny_model import make_tiny_bundle

from streamav.bundle import Bundle
from streamav.config import ModelSettings
from streamav.engines import EngineCache, cpu_engine, machine
from streamav.engines.cpu_engine import CpuMaker
from streamav.engines.keys import engine_key
from streamav.engines.machine import int8_saturates
from streamav.engines.maker import EngineRequest
from streamav.engines.making import ANSWERS_FILE, open_made
from streamav.engines.onnx_export import export_onnx
from streamav.engines.onnx_network import OnnxNetwork
from streamav.engines.openvino_network import OpenVinoNetwork, openvino_problem
from streamav.engines.parity import load_answers, relative_l2
from streamav.engines.quantisation import quantise
from streamav.engines.recipe import NETWORK_NAMES, load_recipe
from streamav.engines.samples import Calibration, Samples, make_samples
from streamav.errors import EngineError
from streamav.protocols import Network

WITHOUT = "No module named 'openvino'"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", "fully")


@pytest.fixture(scope="session")
def visual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a small convolutional picture encoder as an ONNX file."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            grids: torch.Tensor = self.body(pictures.permute(0, 3, 1, 2).float() / 255)
            return grids.permute(0, 2, 3, 1)

    path = tmp_path_factory.mktemp("onnx") / "visual.onnx"
    export_onnx(Encoder().eval(), [pictures(2)], path, 1)
    return path


def pictures(count: int) -> NDArray[np.uint8]:
    return make_samples((32, 32), 0.01, segments=max(count, 10)).pictures[:count]


def request(bundle: Bundle, recipe: str, calibration: Calibration | None = None) -> EngineRequest:
    return EngineRequest(bundle=bundle, settings=ModelSettings(threads=1), recipe=load_recipe(recipe), calibration=calibration)


def facts_of(bundle: Bundle, wanted: EngineRequest, cache: EngineCache) -> dict[str, object]:
    entry = cache.find(engine_key(CpuMaker(), wanted))
    assert entry is not None
    return dict(json.loads(json.dumps(dict(entry.facts))))


# Runtimes


def test_both_runtimes_give_the_same_numbers_at_every_batch_size(visual: Path) -> None:
    """OpenVINO in float32 computes in float32, also on a processor where it would choose bfloat16 by itself."""
    one, two = OnnxNetwork(visual, 1), OpenVinoNetwork(visual, 1)
    for count in (1, 3, 8, 2):
        (got,), (want,) = two(pictures(count)), one(pictures(count))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_results_are_not_written_again_by_the_next_run(visual: Path) -> None:
    """A later run does not change earlier results, since they are copies of the runtime's memory."""
    network = OpenVinoNetwork(visual, 1)
    (first,) = network(pictures(4))
    kept = first.copy()
    network(pictures(4)[::-1])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("kind", [OnnxNetwork, OpenVinoNetwork])
def test_threads_that_call_at_once_get_their_own_results(kind: type[OnnxNetwork | OpenVinoNetwork], visual: Path) -> None:
    """Calls from several threads get their own results, and none is refused."""
    network = kind(visual, 1)
    inputs = [np.full((64, 32, 32, 3), value, np.uint8) for value in (0, 80, 160, 240)]
    wanted = [network(one)[0] for one in inputs]
    with ThreadPoolExecutor(4) as pool:
        for place, (got,) in enumerate(pool.map(network, inputs * 25)):
            np.testing.assert_array_equal(got, wanted[place % 4])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_runtime_takes_the_threads_that_it_is_given_and_lets_them_sleep(threads: int, visual: Path) -> None:
    """The runtimes use no more threads than asked for, none spins, and none is pinned to a core."""
    session = OnnxNetwork(visual, threads)._session.get_session_options()
    assert session.intra_op_num_threads == threads
    assert session.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    compiled = OpenVinoNetwork(visual, threads)._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize("kind", [OnnxNetwork, OpenVinoNetwork])
def test_wrong_inputs_and_files_are_named(kind: type[OnnxNetwork | OpenVinoNetwork], visual: Path, tmp_path: Path) -> None:
    """A wrong shape is refused with the shape in the message, and a file that is no network with its name."""
    with pytest.raises(EngineError, match=r"network visual cannot run on inputs of \['uint8 \(1, 5, 5, 4\)'\]") as found:
        kind(visual, 1)(np.zeros((1, 5, 5, 4), np.uint8))
    assert "\n" not in str(found.value)
    (tmp_path / "broken.onnx").write_bytes(visual.read_bytes()[:100])
    with pytest.raises(EngineError, match=r"cannot load .*broken\.onnx"):
        kind(tmp_path / "broken.onnx", 1)


@pytest.mark.slow
def test_nothing_is_reported_to_anybody(visual: Path, tmp_path: Path) -> None:
    """Quantising, loading and running in both runtimes opens no socket, loads no telemetry and writes nothing to the home folder."""
    program = f"""
import socket, sys, time
from pathlib import Path
import numpy as np

class Refused(socket.socket):
    def __init__(self, *args, **kwargs):
        print("socket opened")
        super().__init__(*args, **kwargs)

socket.socket = Refused
from streamav.engines.quantisation import quantise
from streamav.engines.onnx_network import OnnxNetwork
from streamav.engines.openvino_network import OpenVinoNetwork
pictures = np.zeros((4, 32, 32, 3), np.uint8)
quantise(Path({str(visual)!r}), Path({str(tmp_path / "int8.onnx")!r}), pictures)
for kind in (OnnxNetwork, OpenVinoNetwork):
    kind(Path({str(visual)!r}), 1)(pictures)
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""
    home = tmp_path / "home"
    home.mkdir()
    # ONNX Runtime sends no telemetry when it detects a test run; a user's machine sets neither of these variables.
    unseen = {"CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "GITHUB_ACTIONS", "TF_BUILD"}
    environment = {name: value for name, value in os.environ.items() if name not in unseen} | {"HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert done.stdout.strip() == "[]"
    assert list(home.iterdir()) == []


def test_each_runtime_has_one_door() -> None:
    """Only the module that turns a runtime's telemetry off imports the runtime, except the quantiser, which imports that module first."""
    package = Path(cpu_engine.__file__).parents[1]
    found = {
        (name, path.name)
        for path in package.rglob("*.py")
        if any(name in (text := path.read_text(encoding="utf-8")) for name in ("onnxruntime", "openvino"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [*(alias.name for alias in node.names), getattr(node, "module", None) or ""]
        if isinstance(node, ast.Import) or name == getattr(node, "module", None)
        if name.split(".")[0] in {"onnxruntime", "openvino"}
    }
    quantiser = ("onnxruntime.quantization", "quantisation.py")
    assert found == {("onnxruntime", "onnx_runtime.py"), ("openvino", "openvino_network.py"), quantiser}


@pytest.mark.slow
def test_the_faster_runtime_of_each_network_is_taken(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network runs in the runtime with the shorter measured time; the times are recorded, and a later start makes the same choice."""

    def pretend(network: Network, inputs: object) -> float:
        return 1.0 if isinstance(network, OpenVinoNetwork) == ("visual" in str(getattr(network, "_name", ""))) else 2.0

    monkeypatch.setattr(cpu_engine, "best_ms", pretend)
    cache, wanted = EngineCache(tmp_path), request(bundle, "cpu-fp32")
    assert open_made(CpuMaker(), wanted, cache).name == "openvino-fp32"
    facts = facts_of(bundle, wanted, cache)
    assert facts["runtimes"] == dict.fromkeys(NETWORK_NAMES, "onnxruntime") | {"visual": "openvino"}
    assert facts["runtime_ms"]["visual"] == {"onnxruntime": 2.0, "openvino": 1.0}  # type: ignore[index]
    monkeypatch.undo()
    assert open_made(CpuMaker(), wanted, cache).name == "openvino-fp32"


@pytest.mark.slow
def test_without_openvino_all_runs_in_onnx_runtime(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without OpenVINO can use the CPU engine."""
    monkeypatch.setattr(cpu_engine, "openvino_problem", lambda *_: WITHOUT)
    cache, wanted = EngineCache(tmp_path), request(bundle, "cpu-fp32")
    assert open_made(CpuMaker(), wanted, cache).name == "onnxruntime-fp32"
    assert set(facts_of(bundle, wanted, cache)["runtimes"].values()) == {"onnxruntime"}  # type: ignore[attr-defined]
    assert CpuMaker().problem(load_recipe("cpu-bf16")) == WITHOUT
    assert CpuMaker().problem(load_recipe("cpu-int8")) is None


@pytest.mark.slow
def test_bfloat16_is_only_for_processors_that_have_it(bundle: Bundle, tmp_path: Path) -> None:
    """bfloat16 runs within its tolerance where the processor supports it, and is refused with the reason elsewhere."""
    problem = openvino_problem("bf16")
    if problem is not None:
        with pytest.raises(EngineError, match="bfloat16"):
            open_made(CpuMaker(), request(bundle, "cpu-bf16"), EngineCache(tmp_path))
        return
    cache, wanted = EngineCache(tmp_path), request(bundle, "cpu-bf16")
    assert open_made(CpuMaker(), wanted, cache).name == "openvino-bf16"
    facts = facts_of(bundle, wanted, cache)
    assert facts["lowered"] == ["visual", "audio"]
    parity = facts["parity"]
    assert 1e-4 < parity["l2"]["visual"] < 0.1  # type: ignore[index]  # bfloat16 has eight bits: more would be float32, less an error


def test_facts_that_name_no_runtime_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """An entry with an unknown runtime is refused before a runtime loads it."""
    with pytest.raises(EngineError, match=r"must name the runtime of each network, got .*abacus"):
        CpuMaker().load(request(bundle, "cpu-fp32"), tmp_path, {"runtimes": {"visual": "abacus"}})


# int8


def test_int8_is_near_float32_and_not_equal(visual: Path, tmp_path: Path) -> None:
    """The quantised file runs in both runtimes, with an error of a few hundredths at most on pictures outside the calibration."""
    quantise(visual, tmp_path / "int8.onnx", pictures(10), reduced=int8_saturates())
    other = make_samples((32, 32), 0.01, seed=7).pictures
    (want,) = OnnxNetwork(visual, 1)(other)
    for kind in (OnnxNetwork, OpenVinoNetwork):
        (got,) = kind(tmp_path / "int8.onnx", 1)(other)
        assert 1e-4 < relative_l2(got, want) < 0.08
    assert (tmp_path / "int8.onnx").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


@pytest.mark.parametrize(
    ("flags", "saturates"),
    [
        ("fma avx avx2", True),
        ("avx2 avx512f avx512bw", True),
        ("avx2 avx_vnni", False),
        ("avx512f avx512_vnni", False),
        ("asimd asimddp", False),
    ],
)
def test_int8_saturates_on_x86_without_vnni(flags: str, saturates: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors with AVX and without VNNI add products of int8 in 16 bits; the key of their int8 engines says that weights have seven."""
    monkeypatch.setattr(machine, "_cpuinfo", lambda *_: flags)
    assert int8_saturates() is saturates


def test_the_key_of_an_int8_engine_holds_the_bits_of_its_weights(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where int8 saturates, an int8 engine of eight-bit weights is not used; float32 engines are not concerned."""
    found = {}
    for saturates in (False, True):
        monkeypatch.setattr(cpu_engine, "int8_saturates", lambda saturates=saturates: saturates)
        found[saturates] = [engine_key(CpuMaker(), request(bundle, name)) for name in ("cpu-int8", "cpu-fp32")]
    assert found[False][0] != found[True][0]
    assert found[False][1] == found[True][1]


def test_the_quantiser_leaves_logging_as_it_was(visual: Path, tmp_path: Path) -> None:
    """Quantising changes neither the level nor the handlers of the root logger."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    quantise(visual, tmp_path / "int8.onnx", pictures(4))
    assert (root.level, list(root.handlers)) == before


def test_too_little_to_calibrate_on_is_refused(visual: Path, tmp_path: Path) -> None:
    """Calibration on one picture is refused."""
    with pytest.raises(EngineError, match="calibration needs at least 2 inputs, got 1"):
        quantise(visual, tmp_path / "int8.onnx", pictures(1))


@pytest.mark.slow
def test_an_int8_engine_says_what_it_was_calibrated_and_compared_on(bundle: Bundle, tmp_path: Path) -> None:
    """One part of the recorded material fits the ranges, another part checks the engine; both parts and the drift are recorded."""
    one, two = (make_samples((112, 112), 0.001, seed=seed) for seed in (11, 12))
    calibration = Calibration(fit=one, check=two, source="2 clips")
    cache, wanted = EngineCache(tmp_path), request(bundle, "cpu-int8", calibration)
    most = 0.5 if int8_saturates() else 0.2  # random weights bear rounding to seven bits worse than trained ones
    tolerance = wanted.recipe.tolerance.model_copy(update={"l2": most})
    recipe = wanted.recipe.model_copy(update={"lowered_l2": 1.0, "tolerance": tolerance})
    wanted = EngineRequest(bundle=bundle, settings=wanted.settings, calibration=calibration, recipe=recipe)
    open_made(CpuMaker(), wanted, cache)
    facts = facts_of(bundle, wanted, cache)
    assert facts["lowered"] == ["visual", "audio"]
    assert facts["calibration"]["source"] == "2 clips"  # type: ignore[index]
    assert facts["calibration"]["segments"] == 12  # type: ignore[index]
    assert facts["calibration"]["sha256"] == hashlib.sha256(one.pictures.tobytes() + one.patches.tobytes()).hexdigest()  # type: ignore[index]
    assert facts["compared_on"] == "2 clips"
    (entry,) = cache.entries()
    np.testing.assert_array_equal(load_answers(entry.path / ANSWERS_FILE).samples.pictures, two.pictures)
    for name in ("visual", "audio"):  # int8 is off by hundredths; float32 would be off by millionths
        assert 1e-3 < facts["parity"]["l2"][name] < most  # type: ignore[index]
    drawn = request(bundle, "cpu-int8")
    assert engine_key(CpuMaker(), drawn) == engine_key(CpuMaker(), request(bundle, "cpu-int8", calibration))


@pytest.mark.slow
def test_what_was_calibrated_on_silence_is_not_used(bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An engine fitted to empty recordings passes on them, fails on the drawn samples and is refused."""
    grey = Samples(np.full((10, 112, 112, 3), 90, np.uint8), np.full((10, 96, 64), np.log(0.001), np.float32))
    wanted = request(bundle, "cpu-int8", Calibration(fit=grey, check=grey, source="a silent clip"))
    with pytest.raises(EngineError, match="differs from the float32 reference"):
        open_made(CpuMaker(), wanted, EngineCache(tmp_path))
    assert "use recordings with all kinds of sounds and pictures" in caplog.text
    (entry,) = EngineCache(tmp_path).entries()
    assert entry.facts["compared_on"] == "drawn samples, besides a silent clip"


@pytest.mark.slow
def test_an_encoder_that_int8_would_change_too_much_stays_float32(bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An encoder that int8 changes too much gives one warning with its error, and stays float32."""
    wanted = request(bundle, "cpu-int8")
    strict = EngineRequest(bundle=bundle, settings=wanted.settings, recipe=wanted.recipe.model_copy(update={"lowered_l2": 1e-6}))
    cache = EngineCache(tmp_path)
    open_made(CpuMaker(), strict, cache)
    facts = facts_of(bundle, strict, cache)
    assert facts["lowered"] == []
    assert facts["parity"]["l2"]["visual"] < 1e-4  # type: ignore[index]
    assert "visual stays float32" in caplog.text
    assert not list(tmp_path.glob("*/*.int8.onnx"))


def test_the_largest_clip_of_samples_fits() -> None:
    """Samples of any length of at least ten segments give windows."""
    samples = make_samples((8, 8), 0.01, segments=10)
    assert Samples(samples.pictures, samples.patches).windows(samples.patches).shape == (1, 10, 96, 64)
