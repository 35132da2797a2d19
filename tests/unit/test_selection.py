"""Tests of the choice of the engine: which engines are present, built and passed, which is asked for, and which one stands in."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases
from rigs.gpu_engines import NAMES, World, asked

from streamav.bundle import Bundle, load_bundle
from streamav.engines import EngineCache, SwapEngine, engine_candidates, making, open_engine, recipe, selection
from streamav.engines.parity import Parity
from streamav.engines.selection import rebuild
from streamav.engines.upkeep import unusable_here
from streamav.errors import EngineError

DEVICE = {"tensorrt": 0, "cuda": 0, "cpu": 1, "torch": 2}
DEFAULTS = {"tensorrt-fp16", "cuda-fp16", "cpu-fp32", "torch-fp32"}


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


@pytest.fixture
def world(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Simulate a machine with a GPU and every engine, and nothing built."""
    return World(bundle, EngineCache(tmp_path / "engines")).install(monkeypatch)


def test_the_precision_of_each_engine(world: World) -> None:
    """An engine named without a precision runs in half precision on a GPU and in float32 elsewhere; an unknown one is refused."""
    wanted = {"tensorrt": "tensorrt-fp16", "cuda": "cuda-fp16", "cpu": "cpu-fp32", "torch": "torch-fp32"}
    assert {engine: engine_candidates(asked(engine)) for engine in wanted} == {engine: (name,) for engine, name in wanted.items()}
    assert engine_candidates(asked("cpu", "int8")) == ("cpu-int8",)
    assert world.ranked("cpu", "int8") == ["cpu-int8"]
    with pytest.raises(EngineError, match=r"no engine torch with precision int8; choose one of: cpu-fp32, cpu-int8"):
        world.ranked("torch", "int8")


def test_auto_prefers_the_best_that_is_present(world: World) -> None:
    """All present engines are tried, best first; nothing below float32 is built on a CPU without a request."""
    assert world.ranked() == ["tensorrt-fp16", "cuda-fp16", "cpu-fp32", "torch-fp32"]
    world.makers["tensorrt"].missing = "no torch_tensorrt"
    assert world.ranked() == ["cuda-fp16", "cpu-fp32", "torch-fp32"]
    world.makers["cuda"].missing = "no GPU"
    assert world.ranked() == ["cpu-fp32", "torch-fp32"]
    world.makers["cpu"].missing = "no ONNX Runtime"
    assert world.ranked() == ["torch-fp32"]


def test_auto_takes_what_was_built_and_is_faster(world: World) -> None:
    """A built int8 engine is chosen only by its recorded time, and never when it failed its comparison."""
    world.makers["tensorrt"].missing = world.makers["cuda"].missing = "no GPU"
    world.lay("cpu-fp32", 40.0)
    world.lay("cpu-int8", 20.0)
    assert world.ranked() == ["cpu-int8", "cpu-fp32", "torch-fp32"]
    world.cache.clear()
    world.lay("cpu-fp32", 40.0)
    world.lay("cpu-int8", 50.0)
    assert world.ranked() == ["cpu-fp32", "cpu-int8", "torch-fp32"]
    world.cache.clear()
    world.lay("cpu-int8", 20.0)
    assert world.ranked() == ["cpu-int8", "torch-fp32"]  # cpu-fp32 is not built beside it
    world.cache.clear()
    world.lay("cpu-int8", 20.0, passed=False)
    assert world.ranked() == ["cpu-fp32", "torch-fp32"]


def test_engines_of_one_gpu_are_compared_by_their_times(world: World) -> None:
    """TensorRT that is not built comes before CUDA that is built; once both are built, the faster one comes first."""
    world.lay("cuda-fp16", 5.0)
    assert world.ranked()[:2] == ["tensorrt-fp16", "cuda-fp16"]
    world.lay("tensorrt-fp16", 6.0)
    assert world.ranked()[:2] == ["cuda-fp16", "tensorrt-fp16"]
    world.lay("tensorrt-bf16", 4.0)
    assert world.ranked()[:3] == ["tensorrt-bf16", "cuda-fp16", "tensorrt-fp16"]


def test_a_precision_without_an_engine(world: World) -> None:
    """With `--precision int8` alone, auto tries the engines that have it, and builds int8, since it was asked for."""
    assert world.ranked("auto", "int8") == ["cpu-int8"]
    assert world.ranked("auto", "bf16") == ["tensorrt-bf16", "cuda-bf16"]
    world.makers["cpu"].missing = "no ONNX Runtime"
    with pytest.raises(EngineError, match="this machine can run none of: cpu-int8"):
        world.ranked("auto", "int8")


@cases(40)
@given(
    missing=st.sets(st.sampled_from(["tensorrt", "cuda", "cpu"])),
    built=st.dictionaries(
        st.sampled_from([name for name in NAMES if name != "torch-fp32"]), st.tuples(st.integers(1, 9), st.booleans()), max_size=6
    ),
)
def test_what_auto_may_and_may_not_do(bundle: Bundle, missing: set[str], built: dict[str, tuple[int, bool]]) -> None:
    """For any cache: better devices come first, torch last, faster before slower; only defaults are built, and nothing absent runs."""
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as folder:
        world = World(bundle, EngineCache(Path(folder))).install(monkeypatch)
        for name, (second_ms, passed) in built.items():
            world.lay(name, second_ms, passed=passed)
        for engine in missing:
            world.makers[engine].missing = "it is not here"
        order = world.ranked()
    devices = [DEVICE[name.split("-")[0]] for name in order]
    ready = {name: second_ms for name, (second_ms, passed) in built.items() if passed}
    assert devices == sorted(devices)
    assert order[-1] == "torch-fp32"
    assert len(order) == len(set(order))
    assert not missing & {name.split("-")[0] for name in order}
    assert set(order) <= DEFAULTS | ready.keys()
    assert {name for name in ready if name.split("-")[0] not in missing} <= set(order)
    for device in (0, 1):
        times = [ready[name] for name in order if name in ready and DEVICE[name.split("-")[0]] == device]
        assert times == sorted(times)


@pytest.mark.parametrize("gpu", [True, False])
def test_a_gpu_without_tensorrt_is_said_once(
    world: World, gpu: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing TensorRT is one line at level info on a machine with a GPU, and no line on others."""
    monkeypatch.setattr(selection, "has_nvidia_driver", lambda: gpu)
    world.makers["tensorrt"].missing = "the package torch_tensorrt is not installed"
    with caplog.at_level(logging.INFO):
        world.ranked()
    said = [record.getMessage() for record in caplog.records]
    assert said == (["engine: tensorrt-fp16 is skipped: the package torch_tensorrt is not installed"] if gpu else [])


@pytest.mark.parametrize(("wrong", "taken"), [("cuda-bf16", "cpu-fp32"), ("cpu-fp32", "torch-fp32")])
def test_a_typo_in_a_recipe_ends_no_automatic_run(
    wrong: str, taken: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong recipe gives one warning with the file and the key, and the others remain; asked for by name it is an error."""
    recipes = tmp_path / "recipes"
    shutil.copytree(recipe._folder(), recipes, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with (recipes / f"{wrong}.toml").open("a") as file:
        file.write("\ntolerence = 1\n")
    monkeypatch.setattr(recipe, "_folder", lambda: recipes)
    cache = EngineCache(tmp_path / "engines")
    assert selection.ranked(bundle, asked("auto"), cache)[0].name == taken
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"engine: {wrong} is skipped" in record.getMessage()
    assert "tolerence: Extra inputs are not permitted" in record.getMessage()
    assert "tolerence" in unusable_here()[wrong]
    engine, precision = wrong.split("-")
    with pytest.raises(EngineError, match="tolerence"):
        open_engine(bundle, asked(engine, precision), cache)


def test_a_failed_build_falls_back_and_says_why(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """An engine that cannot be made gives one warning with the reason; asked for by name it is an error."""
    world.makers["tensorrt"].fault = "operator aten::smell has no converter"
    engine = open_engine(world.bundle, asked("auto"), world.cache)
    assert engine.name == "stand-in-cuda-fp16"
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "tensorrt-fp16 cannot be used: operator aten::smell has no converter" in record.getMessage()
    caplog.clear()
    with pytest.raises(EngineError, match=r"^tensorrt-fp16 cannot run model tiny: operator aten::smell has no converter$"):
        open_engine(world.bundle, asked("tensorrt"), world.cache)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []  # the error is reported once, by its caller


@pytest.mark.slow
def test_a_forced_build_that_fails_its_comparison_replaces_nothing_that_passed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forced build that fails its comparison is an error, and the old engine that passed stays; a failed one may be replaced."""
    far = Parity(relative={"visual": 1.0}, l2={"visual": 1.0}, probability=0.4, decisions=0.5, relevant=0.4, passed=False)
    rebuild(world.bundle, asked("cpu"), world.cache)
    (before,) = world.cache.entries()
    with monkeypatch.context() as failing:
        failing.setattr(making, "compare", lambda *_: far)
        with pytest.raises(EngineError, match=r"differs from the float32 reference .*the earlier engine, which passed, stays"):
            rebuild(world.bundle, asked("cpu"), world.cache)
        assert world.cache.entries() == [before]
        assert open_engine(world.bundle, asked("cpu"), world.cache).name == "stand-in-cpu-fp32"
        world.cache.clear()
        for _ in range(2):
            with pytest.raises(EngineError, match="differs from the float32 reference"):
                rebuild(world.bundle, asked("cpu"), world.cache)
    assert world.makers["cpu"].compiled == ["cpu-fp32"] * 4
    assert world.cache.entries()[0].facts["parity"] == far.tree()


# What runs until the wanted engine is made


def beside(world: World, engine: str = "auto", precision: str = "auto") -> tuple[str, str | None]:
    """Return the engine that runs at once, and the engine that is made beside it."""
    opened = open_engine(world.bundle, asked(engine, precision), world.cache, beside=True)
    return opened.name, opened.coming if isinstance(opened, SwapEngine) else None


@pytest.mark.slow
def test_a_slow_build_goes_beside_the_run(world: World) -> None:
    """The best engine that is quick to make runs at once, and nothing slow is compiled in this process."""
    world.makers["tensorrt"].takes_long = True
    assert beside(world) == ("stand-in-cuda-fp16", "tensorrt-fp16")
    world.makers["cuda"].takes_long = True
    world.cache.clear()
    assert beside(world) == ("stand-in-cpu-fp32", "tensorrt-fp16")
    assert world.makers["tensorrt"].compiled == []
    assert world.makers["cuda"].compiled == ["cuda-fp16"]  # of the first time


@pytest.mark.slow
def test_what_lies_ready_stands_in_however_slow_it_was_to_make(world: World) -> None:
    """A slow engine that is in the cache runs at once."""
    for maker in world.makers.values():
        maker.takes_long = True
    assert beside(world) == ("torch-fp32", "tensorrt-fp16")
    open_engine(world.bundle, asked("cuda"), world.cache)
    assert beside(world) == ("stand-in-cuda-fp16", "tensorrt-fp16")
    open_engine(world.bundle, asked("tensorrt"), world.cache)
    assert beside(world, "tensorrt") == ("stand-in-tensorrt-fp16", None)


@pytest.mark.slow
def test_an_engine_asked_for_by_name_is_made_beside_too(world: World) -> None:
    """The stand-in is on no better device than asked for; an engine that cannot run here is refused at once."""
    for maker in world.makers.values():
        maker.takes_long = True
    assert beside(world, "cpu", "int8") == ("torch-fp32", "cpu-int8")
    world.makers["cpu"].takes_long = False
    assert beside(world, "cpu", "int8") == ("stand-in-cpu-int8", None)
    assert beside(world, "torch") == ("torch-fp32", None)
    world.makers["tensorrt"].missing = "no GPU"
    with pytest.raises(EngineError, match="no GPU"):
        beside(world, "tensorrt")


@pytest.mark.slow
def test_whoever_does_not_ask_for_it_waits(world: World) -> None:
    """Without `beside` (training, bench, replay at full speed) the wanted engine is made in this process."""
    world.makers["tensorrt"].takes_long = True
    assert open_engine(world.bundle, asked("auto"), world.cache).name == "stand-in-tensorrt-fp16"


def test_what_takes_long_to_make(world: World) -> None:
    """TensorRT, int8 and, on the CPU, large models are slow to make."""
    from streamav.engines import making

    verdicts = {name: making.is_slow(world.request(name)) for name in NAMES}
    assert {name for name, slow in verdicts.items() if slow} == {"tensorrt-fp16", "tensorrt-bf16", "cpu-int8"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(making, "_LARGE_BYTES", 1000)
        assert making.is_slow(world.request("cpu-fp32"))
        assert not making.is_slow(world.request("cuda-fp16"))


def test_another_encoder_file_is_another_engine(world: World, tmp_path: Path) -> None:
    """External encoders are hashed once for each process, and again when their file changes."""
    from streamav.config import ModelSettings
    from streamav.engines.keys import engine_key
    from streamav.engines.maker import EngineRequest

    card = world.bundle.card.model_copy(
        update={"visual": world.bundle.card.visual.model_copy(update={"network": "vgg19", "external": True})}
    )
    request = EngineRequest(
        bundle=Bundle(card, world.bundle.path), settings=ModelSettings(weights_dir=tmp_path), recipe=world.request("cpu-fp32").recipe
    )
    path = tmp_path / "vgg19.npz"
    digests = []
    for content in (b"one", b"one", b"other"):
        path.write_bytes(content)
        digests.append(engine_key(world.makers["cpu"], request).digest)
    assert digests[0] == digests[1] != digests[2]
