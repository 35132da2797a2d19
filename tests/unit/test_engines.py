"""Engines: recipes, the cache on disk, the comparison with the reference, and the choice between them."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import JsonValue
from rigs.tiny_model import make_tiny_bundle

from streamav.bundle import Bundle
from streamav.config import ModelSettings
from streamav.engines import EngineCache, cache_folder, engine_candidates, open_engine
from streamav.engines.batching import MicroBatches, ParallelBatches
from streamav.engines.cache import EntryKey
from streamav.engines.keys import engine_key
from streamav.engines.maker import EngineRequest
from streamav.engines.parity import Answers, answer, compare, load_answers, save_answers
from streamav.engines.recipe import NETWORK_NAMES, Tolerance, load_recipe, recipe_names
from streamav.engines.samples import make_samples
from streamav.engines.selection import maker_of
from streamav.errors import EngineError, ModelError
from streamav.files import file_sha256
from streamav.protocols import Network

KEY = EntryKey("cpu", "fp32", {"weights": "abc"})


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of the compact networks with random weights and a narrow localizer."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", "fully")


class Linear:
    """A stand-in engine in numpy; it is correct except for a number that is added to its relevance logits."""

    name = "linear"

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def network(self, name: str) -> Network:
        networks: dict[str, Network] = {
            "visual": self._visual,
            "audio": self._audio,
            "encode_segment": self._encode,
            "localize_window": self._window,
        }
        return networks[name]

    def _visual(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        return (inputs[0].astype(np.float32).mean(axis=3)[:, :2, :2, None],)

    def _audio(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        return (inputs[0].astype(np.float32).mean(axis=1)[:, :4],)

    def _encode(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        audio, visual = (array.astype(np.float32) for array in inputs)
        return audio, visual.mean(axis=(1, 2)) / 255, visual[..., 0]

    def _window(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        audio, visual = (array.astype(np.float32) for array in inputs)
        relevance = (visual[..., 0] - 0.5) + self.shift
        return relevance, audio.mean(axis=1), audio, relevance


def tolerance(probability: float = 1e-4) -> Tolerance:
    return Tolerance(relative=0.5, probability=probability, decisions=1.0)


# Recipes


def test_every_recipe_is_right() -> None:
    """All recipe files can be read, and recipes of the CPU and of the reference are among them."""
    assert {"cpu-fp32", "torch-fp32"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_every_recipe_is_in_the_wheel() -> None:
    """pyproject.toml names each recipe file, since the build packages only the files that are named."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a working tree")
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {f"engines/{name}.toml": f"streamav/engines/recipes/{name}.toml" for name in recipe_names()}


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    """The error message lists the existing recipes."""
    with pytest.raises(EngineError, match=r"there is no engine recipe 'abacus'; choose one of: .*cpu-fp32"):
        load_recipe("abacus")


def test_a_recipe_is_hashed_by_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of tolerance or batch makes another engine; a change of the description does not."""
    recipe = load_recipe("cpu-fp32")
    assert recipe.model_copy(update={"description": "other words"}).sha256 == recipe.sha256
    assert recipe.model_copy(update={"workspace_bytes": 1}).sha256 != recipe.sha256


# Cache


def write_number(folder: Path) -> dict[str, JsonValue]:
    (folder / "network.bin").write_bytes(b"right")
    return {"model": "tiny"}


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    """The second request finds the engine that the first built, and the folder holds nothing else."""
    cache = EngineCache(tmp_path / "engines")
    calls: list[Path] = []

    def build(folder: Path) -> Mapping[str, JsonValue]:
        calls.append(folder)
        (folder / "network.bin").write_bytes(b"right")
        return {"model": "tiny"}

    assert cache.find(KEY) is None
    first, second = cache.get(KEY, build), cache.get(KEY, build)
    assert len(calls) == 1
    assert (first.path, second.facts) == (second.path, {"model": "tiny"})
    assert (first.path / "network.bin").read_bytes() == b"right"
    assert not list(cache.folder.glob("*.tmp"))
    assert [entry.digest for entry in cache.entries()] == [KEY.digest]


@given(name=st.sampled_from(["engine", "precision", "weights", "more"]))
def test_any_part_of_the_key_makes_another_entry(name: str) -> None:
    """The key depends on engine, precision and every part."""
    other = {
        "engine": EntryKey("cuda", "fp32", {"weights": "abc"}),
        "precision": EntryKey("cpu", "int8", {"weights": "abc"}),
        "weights": EntryKey("cpu", "fp32", {"weights": "abd"}),
        "more": EntryKey("cpu", "fp32", {"weights": "abc", "libraries": ""}),
    }[name]
    assert other.digest != KEY.digest


def damage_file(path: Path) -> None:
    (path / "network.bin").write_bytes(b"wrong")


def cut_file(path: Path) -> None:
    (path / "network.bin").write_bytes(b"righ")


def drop_file(path: Path) -> None:
    (path / "network.bin").unlink()


def cut_entry(path: Path) -> None:
    text = (path / "entry.json").read_text()
    (path / "entry.json").write_text(text[: len(text) // 2])


def older_format(path: Path) -> None:
    tree = json.loads((path / "entry.json").read_text())
    (path / "entry.json").write_text(json.dumps(tree | {"format": 0}))


def other_key(path: Path) -> None:
    tree = json.loads((path / "entry.json").read_text())
    tree["key"]["parts"]["weights"] = "xyz"
    (path / "entry.json").write_text(json.dumps(tree))


def list_for_entry(path: Path) -> None:
    (path / "entry.json").write_text("[]")


DAMAGES = (damage_file, cut_file, drop_file, cut_entry, older_format, other_key, list_for_entry)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_what_cannot_be_used_is_built_again_with_one_sentence(damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damaged, foreign and older entries are never used; the log reports each once, and the new entry is complete."""
    cache = EngineCache(tmp_path)
    path = cache.get(KEY, write_number).path
    assert callable(damage)
    damage(path)
    assert cache.entries() == []
    entry = EngineCache(tmp_path).get(KEY, write_number)
    assert (entry.path / "network.bin").read_bytes() == b"right"
    (said,) = [record.message for record in caplog.records]
    assert "is built again" in said


def test_an_entry_of_another_user_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An entry of another user is not used, since its owner may have written anything into it."""
    cache = EngineCache(tmp_path)
    cache.get(KEY, write_number)
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    assert (cache.find(KEY), cache.peek(KEY), cache.entries()) == (None, None, [])
    assert "it belongs to another user" in caplog.text


def test_nobody_else_reads_what_is_built(tmp_path: Path) -> None:
    """Only the user can read the cache, since reference answers may hold pictures of the user's camera."""
    entry = EngineCache(tmp_path / "engines").get(KEY, write_number)
    assert [path.stat().st_mode & 0o777 for path in (entry.path, entry.path.parent)] == [0o700, 0o700]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The error of a failed build is raised, and nothing of the build stays in the cache."""
    cache = EngineCache(tmp_path)

    def fail(folder: Path) -> Mapping[str, JsonValue]:
        (folder / "half.bin").write_bytes(b"1")
        msg = "no memory"
        raise EngineError(msg)

    with pytest.raises(EngineError, match="no memory"):
        cache.get(KEY, fail)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_what_is_built_anew_stays_until_its_successor_is_whole(tmp_path: Path) -> None:
    """A build that fails or is killed leaves the old entry in place."""
    cache = EngineCache(tmp_path)
    before = cache.get(KEY, write_number)

    def fail(folder: Path) -> Mapping[str, JsonValue]:
        found = cache.find(KEY)
        assert found is not None
        assert found.path == before.path
        msg = "no memory"
        raise EngineError(msg)

    with pytest.raises(EngineError, match="no memory"):
        cache.get(KEY, fail, rebuild=True)
    assert cache.find(KEY) == before
    after = cache.get(KEY, lambda folder: {**write_number(folder), "model": "other"}, rebuild=True)
    assert after.facts == {"model": "other"}
    assert len(cache.entries()) == 1


def test_a_survey_reads_each_engine_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of all engines, whole and damaged, hashes each file of an engine once; a list of their facts alone hashes none."""
    cache = EngineCache(tmp_path)
    whole = cache.get(KEY, write_number)
    cut_file(cache.get(replace(KEY, precision="fp16"), write_number).path)
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.parent.name)
        return file_sha256(path)

    monkeypatch.setattr("streamav.engines.cache.file_sha256", counted)
    found = cache.survey()
    assert (found.entries, [reason for _, reason in found.damaged]) == ([whole], ["network.bin is damaged"])
    assert sorted(hashed) == sorted([KEY.digest, found.damaged[0][0].name])
    assert (len(cache.entries(whole=False)), len(hashed)) == (2, 2)


def test_what_cannot_be_removed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names an engine that cannot be removed; an entry that is already gone is no error."""
    import shutil

    def refuse(path: Path) -> None:
        raise PermissionError(30, "Read-only file system", str(path))

    cache = EngineCache(tmp_path)
    cache.remove(KEY.digest)
    cache.get(KEY, write_number)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(EngineError, match=r"cannot be removed: .*Read-only file system"):
        cache.clear()
    with pytest.raises(EngineError, match="cannot be removed"):
        cache.remove(KEY.digest)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('engine = "cpu"\nprecision = ', "must be TOML: "),
        ('engine = "cpu"\nprecision = "fp32"\ntolerence = 1', "tolerence: Extra inputs are not permitted"),
        ('engine = "cpu"\nprecision = "fp31"', "precision: Input should be"),
        ("\udcff", "must be TOML: "),
    ],
    ids=["cut off", "unknown key", "value", "no text"],
)
def test_a_wrong_recipe_is_one_sentence(text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file, the key, the fault, and the document that describes the keys."""
    from streamav.engines import recipe

    monkeypatch.setattr(recipe, "_folder", lambda: tmp_path)
    (tmp_path / "cpu-fp32.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EngineError) as found:
        load_recipe("cpu-fp32")
    said = str(found.value)
    assert str(tmp_path / "cpu-fp32.toml") in said
    assert reason in said
    assert "\n" not in said
    assert said.endswith("see engines/README.md")


def test_what_a_killed_build_left_is_swept(tmp_path: Path) -> None:
    """The next build removes the folder of an unfinished build of the same key."""
    left = tmp_path / f".{KEY.digest}.0123456789abcdef.tmp"
    left.mkdir()
    EngineCache(tmp_path).get(KEY, write_number)
    assert not left.exists()


def test_what_a_killed_build_had_set_aside_is_taken_again(tmp_path: Path) -> None:
    """A build that is killed between moving the old entry away and renaming the new one makes no second build necessary."""
    entry = EngineCache(tmp_path).get(KEY, write_number)
    entry.path.rename(tmp_path / f".{KEY.digest}.0123456789abcdef.old")

    def never(_: Path) -> Mapping[str, JsonValue]:
        raise AssertionError

    assert EngineCache(tmp_path).get(KEY, never).path == entry.path
    assert not list(tmp_path.glob("*.old"))


def build_and_count(folder: str, count: str) -> None:
    def build(scratch: Path) -> Mapping[str, JsonValue]:
        with Path(count).open("a") as file:
            file.write("built\n")
        (scratch / "network.bin").write_bytes(b"right")
        return {}

    EngineCache(Path(folder)).get(KEY, build)


def test_two_processes_build_an_entry_once(tmp_path: Path) -> None:
    """Four processes that ask at the same time get the same entry; one of them builds it."""
    context = multiprocessing.get_context("fork")
    count = tmp_path / "count"
    processes = [context.Process(target=build_and_count, args=(str(tmp_path / "engines"), str(count))) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert count.read_text() == "built\n"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error message names the folder and how to choose another."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="set STREAMAV_HOME to another place"):
        EngineCache(tmp_path / "file" / "engines").get(KEY, write_number)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """STREAMAV_HOME has priority over XDG_CACHE_HOME, which has priority over ~/.cache."""
    monkeypatch.setenv("STREAMAV_HOME", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a/engines")
    monkeypatch.delenv("STREAMAV_HOME")
    assert cache_folder() == Path("/b/streamav/engines")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/c/.cache/streamav/engines")


def test_clear_removes_all(tmp_path: Path) -> None:
    """After clear the cache has no entry."""
    cache = EngineCache(tmp_path)
    cache.get(KEY, write_number)
    assert cache.clear() == 1
    assert cache.entries() == []


# Comparison with the reference


def answers() -> Answers:
    return answer(Linear(), make_samples((8, 6), 0.01))


def test_samples_are_the_same_each_time_and_use_the_whole_range() -> None:
    """Samples are the same for the same seed; some pictures are dark and some bright, and one sound is silent."""
    one, two = make_samples((20, 30), 0.001), make_samples((20, 30), 0.001)
    np.testing.assert_array_equal(one.pictures, two.pictures)
    np.testing.assert_array_equal(one.patches, two.patches)
    assert one.pictures.shape == (12, 20, 30, 3)
    assert one.pictures.min() == 0
    assert one.pictures.max() == 255
    assert one.patches.min() == pytest.approx(np.log(0.001))
    assert one.windows(one.patches).shape == (3, 10, 96, 64)


def test_an_equal_engine_passes() -> None:
    """An engine equal to the reference has errors of 0 and passes."""
    parity = compare(Linear(), answers(), tolerance())
    assert parity.passed
    assert (parity.probability, parity.decisions, max(parity.relative.values())) == (0.0, 1.0, 0.0)


def test_an_engine_that_is_off_by_more_than_the_recipe_allows_fails() -> None:
    """A shifted logit changes the probability error, and a large shift changes the decisions."""
    slightly = compare(Linear(shift=0.01), answers(), tolerance())
    assert not slightly.passed
    assert 1e-3 < slightly.probability < 1e-2
    far = compare(Linear(shift=3.0), answers(), Tolerance(relative=100.0, probability=1e-4, decisions=0.9))
    assert far.decisions < 0.9
    assert compare(Linear(shift=0.01), answers(), tolerance(probability=0.05)).passed


class OtherAttention(Linear):
    """A stand-in engine whose attention is wrong; no score depends on the attention."""

    def _encode(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        audio, visual, attention = super()._encode(*inputs)
        return audio, visual, 1.5 * attention


def test_each_of_the_four_bounds_refuses_by_itself() -> None:
    """Each of the four bounds (single outputs, all of them, probabilities, decisions) alone can fail an engine that keeps the others."""
    off = compare(OtherAttention(), answers(), Tolerance(relative=0.4, probability=1e-6, decisions=1.0))
    assert (off.probability, off.decisions) == (0.0, 1.0)
    assert off.relative["encode_segment"] == pytest.approx(0.5)
    assert not off.passed
    assert compare(OtherAttention(), answers(), Tolerance(relative=0.6, probability=1e-6, decisions=1.0)).passed
    assert off.l2["encode_segment"] == pytest.approx(0.5)
    assert not compare(OtherAttention(), answers(), Tolerance(relative=0.6, l2=0.4, probability=1e-6, decisions=1.0)).passed
    wide = {"relative": 100.0, "probability": 1.0}
    assert not compare(Linear(shift=3.0), answers(), Tolerance(**wide, decisions=0.9)).passed
    assert compare(Linear(shift=3.0), answers(), Tolerance(**wide, decisions=0.0)).passed


def test_answers_survive_the_disk(tmp_path: Path) -> None:
    """Stored answers are read back unchanged, and the error names a damaged file."""
    path = tmp_path / "reference.npz"
    save_answers(path, answers())
    back = load_answers(path)
    for name in NETWORK_NAMES:
        for a, b in zip(back.outputs[name], answers().outputs[name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert compare(Linear(), back, tolerance()).passed
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(EngineError, match="damaged"):
        load_answers(path)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, (str(self.path), "w")  # type: ignore[return-value]


def test_nothing_stored_is_unpickled(tmp_path: Path) -> None:
    """An array of objects is refused before any of its objects is created."""
    arrays: dict[str, object] = {"pictures": np.array([Touch(tmp_path / "touched")], dtype=object), "patches": np.zeros(1)}
    with (tmp_path / "reference.npz").open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="damaged"):
        load_answers(tmp_path / "reference.npz")
    assert not (tmp_path / "touched").exists()


def test_numbers_that_are_not_finite_are_refused() -> None:
    """An output of NaN fails the comparison."""
    with pytest.raises(EngineError, match="finite numbers"):
        compare(Linear(shift=float("nan")), answers(), tolerance())


# Micro-batches


@given(count=st.integers(1, 40), most=st.integers(1, 16))
def test_cutting_a_batch_changes_nothing(count: int, most: int) -> None:
    """No piece is longer than allowed, and the joined results equal those of the whole batch."""
    lengths: list[int] = []

    def double(*inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        lengths.append(len(inputs[0]))
        array = inputs[0].astype(np.float32)
        return 2 * array, array + inputs[1].astype(np.float32)

    one = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    twice, plus = MicroBatches(double, most)(one, 10 * one)
    np.testing.assert_array_equal(twice, 2 * one)
    np.testing.assert_array_equal(plus, 11 * one)
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1


@given(count=st.integers(1, 40), threads=st.integers(1, 4))
def test_sharing_a_batch_out_changes_nothing(count: int, threads: int) -> None:
    """Results have the order of the inputs, for any number of threads."""

    def double(*inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        return (2 * inputs[0].astype(np.float32),)

    array = np.arange(count, dtype=np.float32)[:, None]
    (twice,) = ParallelBatches(double, threads)(array)
    np.testing.assert_array_equal(twice, 2 * array)


def test_large_pictures_go_through_in_smaller_pieces() -> None:
    """The bound on pixels holds, but one picture always runs."""
    lengths: list[int] = []

    def count(*inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        lengths.append(len(inputs[0]))
        return (np.zeros(len(inputs[0]), np.float32),)

    pictures = np.zeros((6, 10, 10, 3), np.uint8)
    MicroBatches(count, 16, pixels=250)(pictures)
    MicroBatches(count, 16, pixels=10)(pictures[:2])
    assert lengths == [2, 2, 2, 1, 1]


# Opening


def test_which_engines_are_tried() -> None:
    """Without a GPU the CPU engine comes before torch; an engine asked for by name is the only one."""
    assert engine_candidates(ModelSettings())[-2:] == ("cpu-fp32", "torch-fp32")
    assert engine_candidates(ModelSettings(engine="torch")) == ("torch-fp32",)
    with pytest.raises(EngineError, match="no engine torch with precision int8"):
        engine_candidates(ModelSettings(engine="torch", precision="int8"))


@pytest.fixture(scope="session")
def opened(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    """Return a cache in which the CPU engine of the tiny bundle has been built."""
    cache = EngineCache(tmp_path_factory.mktemp("cache"))
    open_engine(tiny_bundle, ModelSettings(engine="cpu", threads=1), cache)
    return cache


@pytest.mark.slow
def test_the_cpu_engine_equals_torch_at_every_batch_size(tiny_bundle: Bundle, opened: EngineCache) -> None:
    """The exported batch axis is free: 1, 2, 3 and 17 inputs give torch's results."""
    fast = open_engine(tiny_bundle, ModelSettings(engine="cpu", threads=1), opened)
    plain = open_engine(tiny_bundle, ModelSettings(engine="torch", threads=1), opened)
    assert fast.name in {"onnxruntime-fp32", "openvino-fp32"}
    assert plain.name == "torch-fp32"
    samples = make_samples((112, 112), 0.001)
    generator = np.random.default_rng(0)
    for count in (1, 2, 3, 17):
        rows = np.arange(count) % 12
        inputs: dict[str, tuple[NDArray[np.generic], ...]] = {
            "visual": (samples.pictures[rows],),
            "audio": (samples.patches[rows],),
            "encode_segment": (
                generator.standard_normal((count, 16), np.float32),
                generator.standard_normal((count, 7, 7, 24), np.float32),
            ),
            "localize_window": tuple(generator.standard_normal((count, 10, 16), np.float32) for _ in range(2)),
        }
        for name in NETWORK_NAMES:
            for got, want in zip(fast.network(name)(*inputs[name]), plain.network(name)(*inputs[name]), strict=True):
                assert got.dtype == np.float32
                np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_network_contract(tiny_bundle: Bundle, opened: EngineCache) -> None:
    """Names, shapes and order of the four networks' outputs are those on which the extractor and the localizer rely."""
    engine = open_engine(tiny_bundle, ModelSettings(engine="cpu", threads=1), opened)
    result = answer(engine, make_samples((112, 112), 0.001))
    shapes = {name: [array.shape for array in arrays] for name, arrays in result.outputs.items()}
    assert shapes == {
        "visual": [(12, 7, 7, 24)],
        "audio": [(12, 16)],
        "encode_segment": [(12, 16), (12, 16), (12, 7, 7)],
        "localize_window": [(3, 10), (3, 3), (3, 10, 4), (3, 10)],
    }
    with pytest.raises(EngineError, match="got 'smell'"):
        engine.network("smell")
    with pytest.raises(EngineError, match="network audio cannot run"):
        engine.network("audio")(np.zeros((1, 5, 5), np.float32))


@pytest.mark.slow
def test_a_weakly_supervised_model_gives_the_same_four_outputs(tmp_path: Path) -> None:
    """A weakly supervised network's relevance is the probability of any class but background."""
    bundle = make_tiny_bundle(tmp_path / "weak", "weakly")
    engine = open_engine(bundle, ModelSettings(engine="torch", threads=1), EngineCache(tmp_path / "engines"))
    relevance, classes, segments, _ = answer(engine, make_samples((112, 112), 0.001)).outputs["localize_window"]
    powers = np.exp(segments)
    foreground = 1 - powers[..., -1] / powers.sum(-1)
    np.testing.assert_allclose(1 / (1 + np.exp(-relevance)), foreground, atol=1e-5)
    np.testing.assert_allclose(classes, segments.mean(axis=1)[:, :-1], atol=1e-6)


@pytest.mark.slow
def test_a_built_engine_starts_without_torch(tiny_bundle: Bundle, opened: EngineCache) -> None:
    """A process that finds its engine in the cache runs and never imports torch."""
    program = f"""
import sys
from pathlib import Path
from streamav.bundle import load_bundle
from streamav.config import ModelSettings
from streamav.engines import EngineCache, open_engine
from streamav.engines.samples import make_samples
cache = EngineCache(Path({str(opened.folder)!r}))
engine = open_engine(load_bundle({str(tiny_bundle.path)!r}), ModelSettings(engine="cpu", threads=1), cache)
engine.network("visual")(make_samples((112, 112), 0.001).pictures)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_importing_the_package_imports_nothing_heavy() -> None:
    """`import streamav.engines` and `streamav.features` import neither torch nor ONNX Runtime."""
    program = "import sys, streamav.engines, streamav.features; print(sorted({'torch', 'onnxruntime', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_an_engine_that_failed_its_comparison_is_not_used(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a failed comparison, auto goes on to the next engine with a warning; by name it is an error. The verdict is kept."""
    from streamav.engines import making
    from streamav.engines.parity import Parity

    bad = Parity(
        relative=dict.fromkeys(NETWORK_NAMES, 1.0),
        l2=dict.fromkeys(NETWORK_NAMES, 1.0),
        probability=0.4,
        decisions=0.5,
        relevant=0.4,
        passed=False,
    )
    monkeypatch.setattr(making, "compare", lambda *_: bad)
    cache = EngineCache(tmp_path)
    engine = open_engine(tiny_bundle, ModelSettings(threads=1), cache)
    assert engine.name == "torch-fp32"
    assert "differs from the float32 reference" in caplog.text
    monkeypatch.undo()
    with pytest.raises(EngineError, match="differs from the float32 reference"):
        open_engine(tiny_bundle, ModelSettings(engine="cpu", threads=1), cache)


@pytest.mark.parametrize("part", ["recipe", "vscg.py", "modules.py", "version", "libraries", "processor", "audio", "visual", "localizer"])
def test_whatever_an_engine_is_made_from_is_in_its_key(part: str, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of a tolerance, the networks' code, a version, the processor or one option of a network makes another engine."""
    from streamav.engines import cpu_engine, keys, machine

    recipe, card = load_recipe("cpu-fp32"), tiny_bundle.card

    def digest() -> str:
        request = EngineRequest(bundle=Bundle(card, tiny_bundle.path), settings=ModelSettings(), recipe=recipe)
        return engine_key(maker_of(recipe), request).digest

    before = digest()
    assert digest() == before
    if part == "recipe":
        recipe = recipe.model_copy(update={"tolerance": recipe.tolerance.model_copy(update={"relative": 0.5})})
    elif part.endswith(".py"):
        monkeypatch.setattr(keys, "file_sha256", lambda path: "f" * 64 if path.name == part else file_sha256(path))
    elif part == "version":
        monkeypatch.setattr(keys, "__version__", "99")
    elif part == "libraries":
        monkeypatch.setattr(machine, "library_version", lambda _: "99")
    elif part == "processor":
        monkeypatch.setattr(cpu_engine, "instructions", lambda: "abacus")
    else:
        own = getattr(card, part)
        card = card.model_copy(update={part: own.model_copy(update={"options": {**own.options, "other": 1}})})
    assert digest() != before


def test_code_that_only_reads_weight_files_is_in_no_key(tmp_path: Path) -> None:
    """A module of `networks/` is in the key; a module of `networks/files/` is not, since the weights that it reads are hashed."""
    from streamav.engines import keys

    package = tmp_path / "streamav"
    for part in ("networks", "engines"):
        shutil.copytree(keys._PACKAGE / part, package / part, ignore=shutil.ignore_patterns("__pycache__", "files"))
    (package / "networks" / "files").mkdir()
    digests = []
    for name in ("networks/files/unpickle.py", "networks/vscg.py", "networks/new.py", "engines/samples.py"):
        digests.append(keys._code_sha256(package))
        (package / name).write_text("changed = True\n")
    digests.append(keys._code_sha256(package))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


@pytest.mark.slow
def test_a_card_that_differs_asks_the_reference_again(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference's answers are kept for engines of one model; the same weights with another log-mel offset are another model."""
    from streamav.engines import making
    from streamav.engines.modules import build_modules

    monkeypatch.setattr(making, "_last_answers", {})
    modules = build_modules(tiny_bundle)
    recipe, settings = load_recipe("cpu-fp32"), ModelSettings(threads=1)
    first = EngineRequest(bundle=tiny_bundle, settings=settings, recipe=recipe)
    card = tiny_bundle.card.model_copy(update={"audio": tiny_bundle.card.audio.model_copy(update={"log_mel_offset": 0.01})})
    other = EngineRequest(bundle=Bundle(card, tiny_bundle.path), settings=settings, recipe=recipe)
    kept = making._reference_answers(first, modules)
    assert making._reference_answers(first, modules) is kept
    assert making._reference_answers(other, modules).samples.patches.min() == pytest.approx(np.log(0.01))


@pytest.mark.slow
def test_another_model_is_another_engine(tiny_bundle: Bundle, opened: EngineCache) -> None:
    """The key holds the hash of the weights, the recipe and the libraries."""
    recipe = load_recipe("cpu-fp32")
    request = EngineRequest(bundle=tiny_bundle, settings=ModelSettings(), recipe=recipe)
    key = engine_key(maker_of(recipe), request)
    assert key.parts["weights"] == tiny_bundle.sha256
    assert "onnxruntime" in key.parts["libraries"]
    assert opened.find(key) is not None


def test_missing_encoders_are_named(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """If a bundle names VGG-19 but does not hold it, the error tells where the file must be."""
    card = tiny_bundle.card.model_copy(update={"visual": tiny_bundle.card.visual.model_copy(update={"network": "vgg19", "external": True})})
    with pytest.raises(ModelError, match="vgg19"):
        open_engine(Bundle(card, tiny_bundle.path), ModelSettings(engine="torch", weights_dir=tmp_path), EngineCache(tmp_path))


@pytest.mark.slow
def test_the_commands_list_verify_and_clear(
    opened: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`streamav engines` lists the engines on disk, verifies them and removes them."""
    import shutil

    from streamav.cli import main

    shutil.copytree(opened.folder, tmp_path / "engines")
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    assert main(["engines", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["engines"]
    assert (row["model"], row["recipe"], row["parity"]["passed"]) == ("tiny", "cpu-fp32", True)
    assert main(["engines", "verify"]) == 0
    assert "passed" in capsys.readouterr().out
    assert main(["engines", "clear"]) == 0
    assert main(["engines", "list"]) == 0
    assert "none" in capsys.readouterr().out


@pytest.mark.slow
def test_verify_fails_when_an_engine_answers_otherwise(
    opened: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reference answers that differ from the engine's end in exit status 6."""
    import hashlib
    import shutil

    from streamav.cli import main

    shutil.copytree(opened.folder, tmp_path / "engines")
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    (entry,) = EngineCache().entries()
    path = entry.path / "reference.npz"
    arrays = dict(np.load(path))
    arrays["localize_window/out0"] = arrays["localize_window/out0"] + 1
    with path.open("wb") as file:
        np.savez(file, **arrays)
    tree = json.loads((entry.path / "entry.json").read_text())
    tree["files"]["reference.npz"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (entry.path / "entry.json").write_text(json.dumps(tree))
    assert main(["engines", "verify"]) == 6
    assert "1 of 1 engines failed" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_prints_what_scripts_rely_on(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`streamav bench --json` prints one row for the engine and one for the reference, measured in the same process."""
    environment = {**os.environ, "STREAMAV_HOME": str(tmp_path)}
    command = [
        sys.executable, "-c", "import sys; from streamav.cli import main; sys.exit(main())",
        "bench", "--json", "--profile", str(tiny_bundle.path), "--seconds", "0", "--threads", "1", "--frames", "2",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, env=environment)
    report = json.loads(done.stdout)
    fast, plain, small = report["rows"]
    assert report["threads"] == 1
    assert [row["recipe"] for row in report["rows"]] == ["cpu-fp32", "torch-fp32", "cpu-int8"]
    assert (fast["engine"], fast["precision"], plain["engine"]) == ("cpu", "fp32", "torch")
    assert 0 < fast["drift"] < small["drift"]
    wanted = {
        "profile",
        "precision",
        "batch",
        "second_ms",
        "window_ms",
        "realtime_factor",
        "drift",
        "decisions",
        "frame_ms",
        "event_p99_ms",
        "ratio_to_reference",
        "memory_mb",
        "streams",
    }
    assert wanted <= fast.keys()
    assert plain["ratio_to_reference"] == 1.0
    assert fast["drift"] < 1e-3
    assert 0 < fast["window_ms"] < fast["second_ms"]
