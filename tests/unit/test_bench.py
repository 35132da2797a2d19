"""Tests of the refusals and bounds of `streamav bench` and of the processes that it starts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from streamav.bench import process as measuring
from streamav.bench.bounds import check_bounds
from streamav.bench.process import ask
from streamav.cli import main
from streamav.errors import CaptureError, EngineError, SettingsError

PROGRAM = "from streamav.bench.process import give\nfrom streamav.errors import CaptureError\nimport sys, time\n"


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> str:
    """Write a module that is run as a program and return its name."""
    (folder / "measured.py").write_text(PROGRAM + lines)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(measuring.__file__).parents[2]}")
    return "measured"


def asked(module: str, limit_s: float = 60.0) -> Any:  # noqa: ANN401 - JSON
    return ask(module, {"number": 3}, what="counting", threads=1, limit_s=limit_s)


def test_a_result_comes_back_whatever_else_was_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of output is the answer; libraries may print before it."""
    module = program(tmp_path, monkeypatch, "print('hello')\ngive(lambda asked: [asked['number'] + 1])")
    assert asked(module) == [4]


def test_an_error_of_ours_comes_back_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the process keeps its class, and so its exit status; its message does not contain the class's name."""
    lines = "def fail(asked):\n    raise CaptureError('/a.mp4: there is no such file')\ngive(fail)"
    with pytest.raises(CaptureError, match=r"^counting: /a.mp4: there is no such file$"):
        asked(program(tmp_path, monkeypatch, lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "limit_s", "said"),
    [
        ("give(lambda asked: 1 / 0)", 60.0, "counting failed: ZeroDivisionError: division by zero"),
        ("sys.exit(9)", 60.0, "counting failed: it ended and printed nothing"),
        ("time.sleep(60)", 0.5, "counting must end within 0 s and did not"),
    ],
    ids=["bug", "silent", "hangs"],
)
def test_anything_else_is_one_sentence(lines: str, limit_s: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends without an answer gives an error, however it ends."""
    with pytest.raises(EngineError, match=f"^{said}"):
        asked(program(tmp_path, monkeypatch, lines), limit_s)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--engine", "nonsense"], 6, "there is no engine recipe 'nonsense'; choose one of: "),
        (["--engine", "cpu-fp32,"], 6, "there is no engine recipe ''"),
        (["--batch", "0"], 2, "--batch takes whole numbers from 1 to 256, separated by commas, got '0'"),
        (["--batch", "1000000"], 2, "got '1000000'"),
        (["--batch", "²"], 2, "got '²'"),
        (["--source", "scene", "--engine", "nonsense"], 6, "there is no engine recipe 'nonsense'"),
        (["--source", "scene", "--check"], 2, "--check works with the table of the networks only"),
        (["--streams", "2", "--check"], 2, "--check works with the table of the networks only"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_timed(
    options: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong option is refused before anything is measured."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was timed"))
    assert main(["bench", *options]) == status
    assert said in capsys.readouterr().err


def test_a_whole_run_is_of_the_engine_that_was_named(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--source` with `--engine` measures that engine."""
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    options = ["--source", "scene", "--duration", "2", "--profile", str(tiny_bundle), "--engine", "torch-fp32", "--threads", "1", "--json"]
    assert main(["bench", *options]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["engine"] == "torch-fp32"


def row(profile: str = "starter", precision: str = "fp32", batch: int = 1, **values: float) -> dict[str, Any]:
    known = {"second_ms": 10.0, "window_ms": 0.4 * batch, "realtime_factor": 0.01} | values
    return {"profile": profile, "engine": "cpu", "precision": precision, "batch": batch, **known}


def test_the_bounds_hold_each_profile_to_its_own() -> None:
    """A fast profile, precision or batch does not hide a slow one; the reference has no bound."""
    check_bounds([row(), row(batch=16), row("paper", "int8"), row() | {"engine": "torch", "second_ms": 900.0}])
    for slow, said in (
        (row(second_ms=61.0), "starter, one segment of one stream in float32, ms: at most 60.0, got 61"),
        (row("paper", "int8", realtime_factor=0.9), "paper in int8, real-time factor of the networks: at most 0.8, got 0.9"),
        (row("edge", window_ms=2.5), "localize_window of edge, one stream, ms: at most 2.0, got 2.5"),
        (row("edge", batch=16, window_ms=8.8), "localize_window of edge, 16 streams, ms a stream: at most 0.5, got 0.55"),
    ):
        with pytest.raises(EngineError, match=f"^{said}$"):
            check_bounds([slow, row(precision="int8"), row(batch=4), row("custom", batch=16)])


def test_a_check_of_nothing_is_no_success() -> None:
    """A check without any row that has a bound does not pass."""
    with pytest.raises(SettingsError, match="got none"):
        check_bounds([row() | {"engine": "torch"}])
    with pytest.raises(SettingsError, match="got none"):
        check_bounds([row(batch=4)])


def test_processes_that_measure_get_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process does not get the broker's password, as the engine builder does not."""
    monkeypatch.setenv("STREAMAV_MQTT_PASSWORD", "hunter2")
    module = program(tmp_path, monkeypatch, "import os\ngive(lambda asked: 'hunter2' in str(os.environ))")
    assert asked(module) is False
