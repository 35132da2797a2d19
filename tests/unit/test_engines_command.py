"""Tests of `streamav engines`: list, verify, build and clear the engines on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from streamav.bundle import load_bundle
from streamav.cli import main
from streamav.config import ModelSettings
from streamav.engines import EngineCache, keys, machine, open_engine
from streamav.engines.cache import EntryKey
from streamav.engines.cpu_engine import CpuMaker


@pytest.fixture(scope="module")
def built(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder with the CPU engine of the tiny model."""
    folder = tmp_path_factory.mktemp("built")
    open_engine(load_bundle(tiny_bundle), ModelSettings(engine="cpu", threads=1), EngineCache(folder))
    return folder


@pytest.fixture
def cache(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    """Return the user's cache with that engine in it."""
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    shutil.copytree(built, tmp_path / "engines")
    return EngineCache()


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["engines", "list", "--json"]) == 0
    tree: dict[str, Any] = json.loads(capsys.readouterr().out)
    return tree


def lay_another_model(cache: EngineCache) -> None:
    """Add an engine whose model is gone."""
    facts = {"model": "other", "recipe": "cpu-fp32", "bundle": "/nowhere/other", "parity": {"passed": True}}
    cache.get(EntryKey("cpu", "fp32", {"weights": "abc"}), lambda _: facts)  # type: ignore[arg-type,return-value]


def test_an_empty_cache_is_listed_verified_and_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first build there is nothing to list, verify or remove, and none of this is an error."""
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    tree = listed(capsys)
    assert (tree["engines"], tree["damaged"]) == ([], {})
    assert main(["engines", "verify"]) == 0
    assert main(["engines", "clear"]) == 0
    assert "removed 0 engines" in capsys.readouterr().out


@pytest.mark.slow
def test_list_shows_what_each_costs_and_how_far_it_is_off(cache: EngineCache, capsys: pytest.CaptureFixture[str]) -> None:
    """`list` shows key, model, recipe, size, seconds to build, time of a segment, comparison, and that the engine would be used."""
    (row,) = listed(capsys)["engines"]
    (entry,) = cache.entries()
    assert (row["key"], row["model"], row["recipe"], row["stale"]) == (entry.digest[:16], "tiny", "cpu-fp32", None)
    assert main(["engines", "list"]) == 0
    text = capsys.readouterr().out
    for words in (
        entry.digest[:16],
        "tiny",
        "cpu-fp32",
        "MB",
        "built in",
        "ms per segment",
        "current",
        "parity passed",
        "relative error",
        "equal decisions 1",
    ):
        assert words in text


@pytest.mark.slow
def test_list_says_why_an_engine_is_stale(cache: EngineCache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`list` reports an engine of other libraries, another version or a missing model as stale, and `verify` does not run it."""
    lay_another_model(cache)
    monkeypatch.setattr(keys, "__version__", "99")
    monkeypatch.setattr(CpuMaker, "parts", lambda *_: {"libraries": "onnxruntime 99", "processor": machine.instructions()})
    stale = {str(row["model"]): row["stale"] for row in listed(capsys)["engines"]}
    assert stale["tiny"] == "made from another libraries, streamav"
    assert "is gone" in str(stale["other"])
    assert main(["engines", "verify"]) == 0
    assert capsys.readouterr().out.count("stale, not checked") == 2


@pytest.mark.slow
def test_list_says_what_this_machine_cannot_run(
    cache: EngineCache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`list` names engines that this machine cannot run, with the reason; an engine built for one of them is stale."""
    monkeypatch.setattr(CpuMaker, "problem", lambda *_: "no processor")
    assert main(["engines", "list"]) == 0
    text = capsys.readouterr().out
    assert "stale: this machine cannot run it: no processor" in text
    _, _, last = text.partition("engines that this machine cannot run:\n")
    assert "  cpu-fp32       no processor\n" in last
    assert "torch-fp32" not in last


@pytest.mark.slow
def test_verify_fails_on_a_damaged_engine(cache: EngineCache, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` ends with exit status 6, the key and the damage; `list` names the engine too, and the next use builds it again."""
    (entry,) = cache.entries()
    (entry.path / "audio.onnx").write_bytes(b"nonsense")
    assert main(["engines", "verify"]) == 6
    out, err = capsys.readouterr()
    assert f"{entry.digest[:16]}  damaged: audio.onnx is damaged" in out
    assert "1 of 1 engines failed" in err
    assert listed(capsys)["damaged"] == {entry.digest[:16]: "audio.onnx is damaged"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], []),
        (["--stale"], ["tiny"]),
        (["--model", "other"], ["tiny"]),
        (["--model", "tiny"], ["other"]),
        (["--stale", "--model", "tiny"], ["other", "tiny"]),
        (["--model", "nobody"], ["other", "tiny"]),
    ],
)
def test_clear_removes_what_was_named(
    cache: EngineCache, capsys: pytest.CaptureFixture[str], arguments: list[str], left: list[str]
) -> None:
    """`clear` removes all engines, the stale ones, those of a model, or the stale ones of a model, and prints how many."""
    lay_another_model(cache)
    assert main(["engines", "clear", *arguments]) == 0
    assert capsys.readouterr().out == f"removed {2 - len(left)} engines\n"
    assert sorted(str(entry.facts["model"]) for entry in cache.entries()) == left


@pytest.mark.slow
def test_clear_stale_removes_the_damaged(cache: EngineCache, capsys: pytest.CaptureFixture[str]) -> None:
    """`clear --stale` also removes damaged engines, since they cannot be used."""
    (entry,) = cache.entries()
    (entry.path / "entry.json").write_text("{}", encoding="utf-8")
    assert main(["engines", "clear", "--stale"]) == 0
    assert not entry.path.exists()


@pytest.mark.slow
def test_build_goes_where_it_is_told_and_anew_when_forced(
    tiny_bundle: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`build` keeps an existing engine; with --force it builds the same key again."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(built, folder)
    command = ["engines", "build", "--model", str(tiny_bundle), "--engine", "cpu", "--cache", str(folder)]
    (before,) = EngineCache(folder).entries()
    inode = before.path.stat().st_ino, (before.path / "entry.json").stat().st_mtime_ns
    assert main(command) == 0
    assert capsys.readouterr().out.endswith(f"-fp32 is ready for model {tiny_bundle}\n")
    assert (before.path.stat().st_ino, (before.path / "entry.json").stat().st_mtime_ns) == inode
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"].endswith("-fp32")
    assert main([*command, "--force"]) == 0
    (after,) = EngineCache(folder).entries()
    assert after.digest == before.digest
    assert (after.path / "entry.json").stat().st_mtime_ns > inode[1]


@pytest.mark.slow
def test_a_forced_build_that_fails_is_no_success(
    tiny_bundle: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed forced build the old engine is still there, and the command does not report success."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(built, folder)
    (before,) = EngineCache(folder).entries()

    def fail(*_: object) -> dict[str, object]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CpuMaker, "compile", fail)
    command = ["engines", "build", "--model", str(tiny_bundle), "--engine", "cpu", "--cache", str(folder), "--force"]
    assert main(command) == 6
    out, err = capsys.readouterr()
    assert "ready" not in out
    assert "No space left on device" in err
    assert EngineCache(folder).entries() == [before]


def test_building_nothing_is_no_success(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When auto can build nothing, a run would use torch, and build ends with an error status."""

    def fail(*_: object) -> dict[str, object]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CpuMaker, "compile", fail)
    assert main(["engines", "build", "--model", str(tiny_bundle), "--cache", str(tmp_path)]) == 6
    out, err = capsys.readouterr()
    assert "ready" not in out
    assert f"no engine could be built for model {tiny_bundle}, so plain torch would run it" in err


def test_build_ends_with_6_when_there_is_no_such_engine(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the existing engines."""
    assert main(["engines", "build", "--model", str(tiny_bundle), "--engine", "torch", "--precision", "int8"]) == 6
    assert "there is no engine torch with precision int8" in capsys.readouterr().err
