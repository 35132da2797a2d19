"""Tests of engines made beside the run: builders that crash, hang or print without end, the takeover, and leftovers."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs.gpu_engines import World
from rigs.services import wait_until

from streamav.bundle import load_bundle
from streamav.engines import EngineCache, SwapEngine, swap
from streamav.engines.builder import build_command, run_builder
from streamav.engines.making import open_made
from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.swap import Coming
from streamav.protocols import Engine, Network

NAME = "tensorrt-fp16"
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
SLEEP = "import time; time.sleep(600)"


class Counting:
    """A stand-in engine; a test may make each network wait in the middle of a call."""

    def __init__(self, name: str, value: float, inside: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._value = value
        self._inside = inside

    def network(self, name: str) -> Network:
        def run(*inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
            self._inside()
            return (np.full(len(inputs[0]), self._value, np.float32),)

        return run


@pytest.fixture
def world(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(load_bundle(tiny_bundle), EngineCache(tmp_path / "engines")).install(monkeypatch)


def swapping(world: World, first: Engine | None = None, limit_s: float = 60.0) -> SwapEngine:
    coming = Coming(world.makers["tensorrt"], world.request(NAME), world.cache)
    return SwapEngine(Counting("first", 1.0) if first is None else first, coming, limit_s)


def builder(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: str) -> None:
    """Replace the builder by this program."""
    monkeypatch.setattr(swap, "build_command", lambda *_: [sys.executable, "-c", program, *arguments])


def turn(engine: SwapEngine) -> list[float]:
    """Run the four networks as a turn does; return the answer of each."""
    return [float(engine.network(name)(np.zeros((1, 1), np.float32))[0].flat[0]) for name in NETWORK_NAMES]


def running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pid_in(path: Path) -> int:
    wait_until(f"a number in {path.name}", lambda: path.exists() and path.read_text(encoding="ascii").strip().isdigit())
    return int(path.read_text(encoding="ascii"))


# The builder


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", None),
        (CRASH, "the builder was ended by SIGSEGV"),
        (
            "import sys; sys.exit('streamav: no engine can run model tiny')",
            "the builder ended with status 1: streamav: no engine can run model tiny",
        ),
        ("import sys; sys.exit(6)", "the builder ended with status 6: it printed nothing"),
        (r"import os, sys; os.write(2, b'\xff\x00\x1b[31mno' * 1_000_000 + b'\n\n'); sys.exit(3)", None),
    ],
    ids=["well", "segfault", "error", "silent", "nonsense"],
)
def test_what_a_builder_leaves_is_one_sentence(program: str, reason: str | None) -> None:
    """The reason of a failure is one bounded sentence, however the builder ends, also after megabytes of control characters."""
    said = run_builder([sys.executable, "-c", program], threading.Event())
    if "1_000_000" in program:
        assert said is not None
        assert said.startswith("the builder ended with status 3: ")
        assert len(said) < 400
        assert said.isprintable()
    else:
        assert said == reason


def test_a_builder_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """After its time limit neither the builder nor its child processes run."""
    program = f"import subprocess, sys, pathlib; child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); "
    program += "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); child.wait()"
    done: list[str | None] = []
    stop = threading.Event()
    command = [sys.executable, "-c", program, str(tmp_path / "child")]
    thread = threading.Thread(target=lambda: done.append(run_builder(command, stop)))
    thread.start()
    child = pid_in(tmp_path / "child")
    assert running(child)
    stop.set()
    thread.join(10)
    assert done == ["the run ended first"]
    wait_until("the end of the builder's child", lambda: not running(child))
    assert run_builder([sys.executable, "-c", SLEEP], threading.Event(), limit_s=0.2) == "the builder took longer than 0 s"


def test_a_builder_that_cannot_start() -> None:
    """A missing program is reported as a reason."""
    said = run_builder(["/nowhere/python"], threading.Event())
    assert said is not None
    assert said.startswith("the builder cannot be started")


def test_a_builder_steps_back() -> None:
    """The builder runs at a lower priority than this process."""
    program = "import os, sys, time\n"
    program += "for _ in range(1000):\n if os.nice(0) > int(sys.argv[1]): sys.exit(0)\n time.sleep(0.01)\nsys.exit('never')"
    own = os.nice(0)
    if own == 19:
        pytest.skip("this process has the lowest priority already")
    assert run_builder([sys.executable, "-c", program, str(own)], threading.Event()) is None


@pytest.mark.slow
def test_a_builder_does_not_outlive_a_killed_run(tmp_path: Path) -> None:
    """SIGKILL of the process that wanted the engine also ends the builder."""
    inner = "import os, pathlib, sys, time; from streamav.engines.builder import end_with_parent; end_with_parent(); "
    inner += "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    outer = "import sys, threading; from streamav.engines.builder import run_builder; "
    outer += f"run_builder([sys.executable, '-c', {inner!r}, sys.argv[1]], threading.Event())"
    with subprocess.Popen([sys.executable, "-c", outer, str(tmp_path / "pid")]) as run:
        child = pid_in(tmp_path / "pid")
        assert running(child)
        run.kill()
    wait_until("the end of the builder", lambda: not running(child))


def test_a_builder_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder does not get the broker's password and source URLs; it gets the home folder and what libraries need."""
    monkeypatch.setenv("STREAMAV_MQTT_PASSWORD", "hunter2")
    monkeypatch.setenv("STREAMAV_SOURCES_0_URI", "rtsp://user:hunter2@camera")
    monkeypatch.setenv("STREAMAV_HOME", "/srv/streamav")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    program = "import os, sys; e = os.environ; own = sorted(n for n in e if n.startswith('STREAMAV_'))\n"
    program += "sys.exit(0 if own == ['STREAMAV_HOME'] and e['OMP_NUM_THREADS'] == '3' and 'hunter2' not in str(e) else str(own))"
    assert run_builder([sys.executable, "-c", program], threading.Event()) is None


def test_a_builder_imports_nothing_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder imports nothing from the working folder when the run does not, since a file there may be anybody's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger.py").write_text("print('hello')")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert "No module named stranger" in str(run_builder([sys.executable, "-m", "stranger"], threading.Event()))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert run_builder([sys.executable, "-m", "stranger"], threading.Event()) is None


def test_the_command_names_everything(world: World) -> None:
    """The command line names model, engine, precision and cache, and `streamav engines build` accepts all of them."""
    command = build_command(world.request(NAME), world.cache)
    assert command[1:5] == ["-m", "streamav", "engines", "build"]
    pairs = dict(zip(command[5:-1:2], command[6:-1:2], strict=True))
    assert pairs == {
        "--model": str(world.bundle.path),
        "--engine": "tensorrt",
        "--precision": "fp16",
        "--cache": str(world.cache.folder),
    }
    assert command[-1] == "--with-parent"


# Taking over


def test_the_other_engine_takes_over_where_a_turn_begins(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Networks that were returned before the takeover use the new engine, and the four networks of a turn use one engine."""
    builder(monkeypatch, "")
    monkeypatch.setattr(swap, "open_ready", lambda *_: Counting("second", 2.0))
    engine = swapping(world)
    kept = {name: engine.network(name) for name in NETWORK_NAMES}
    one = np.zeros((1, 1), np.float32)
    assert turn(engine) == [1.0] * 4
    with caplog.at_level(logging.INFO):
        kept["visual"](one)
        engine.start()
        assert engine.wait(30)
        assert [float(kept[name](one)[0][0]) for name in NETWORK_NAMES[1:]] == [1.0] * 3  # in the middle of a turn
        assert engine.name == "first"
        assert [float(kept[name](one)[0][0]) for name in NETWORK_NAMES] == [2.0] * 4
    assert engine.name == "second"
    assert "second takes over from first" in caplog.text
    engine.close()


def test_no_call_is_changed_in_its_middle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that runs while the other engine becomes ready ends on the engine on which it began."""
    builder(monkeypatch, "")
    monkeypatch.setattr(swap, "open_ready", lambda *_: Counting("second", 2.0))
    entered, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        go_on.wait(30)

    engine = swapping(world, Counting("first", 1.0, wait))
    results: list[float] = []
    thread = threading.Thread(target=lambda: results.append(float(engine.network("visual")(np.zeros((1, 1)))[0][0])))
    thread.start()
    entered.wait(30)
    engine.start()
    assert engine.wait(30)
    assert engine.name == "first"
    go_on.set()
    thread.join(30)
    assert results == [1.0]
    assert turn(engine) == [2.0] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (CRASH, "the builder was ended by SIGSEGV"),
        ("print('all is well')", f"no usable engine {NAME} for model tiny"),
        (
            "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.mkdir(parents=True); (p / 'entry.json').write_text('nonsense')",
            "no usable",
        ),
        (SLEEP, "the builder took longer than 1 s"),
    ],
    ids=["segfault", "nothing built", "nonsense built", "hangs"],
)
def test_a_failed_build_is_one_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str, reason: str
) -> None:
    """After a failed build the run goes on with its engine; nothing is built in this process, and no build is tried again."""
    from streamav.engines.keys import engine_key

    place = world.cache.folder / engine_key(world.makers["tensorrt"], world.request(NAME)).digest
    builder(monkeypatch, program, str(place))
    engine = swapping(world, limit_s=1.0 if program == SLEEP else 60.0)
    engine.start()
    assert engine.wait(30)
    engine.start()
    assert turn(engine) == [1.0] * 4
    (warning,) = [record.getMessage() for record in caplog.records if "could not be built" in record.getMessage()]
    assert warning.startswith(f"engine: {NAME} could not be built; first continues to run model tiny: ")
    assert reason in warning
    assert world.makers["tensorrt"].compiled == []


@pytest.mark.slow
def test_what_was_built_is_compared_again_before_it_is_used(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that passed in the builder but answers differently here never takes over; a right engine does, after a warm-up."""
    builder(monkeypatch, "")
    maker = world.makers["tensorrt"]
    open_made(maker, world.request(NAME), world.cache)
    right = maker.load

    class Off:
        """The right engine, except for one network with an error of a tenth."""

        name = "wrong"

        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def network(self, name: str) -> Network:
            network, factor = self._engine.network(name), 1.1 if name == "localize_window" else 1.0
            return lambda *inputs: tuple(np.float32(factor) * array for array in network(*inputs))

    monkeypatch.setattr(maker, "load", lambda *arguments: Off(right(*arguments)))
    engine = swapping(world)
    engine.start()
    assert engine.wait(30)
    assert turn(engine) == [1.0] * 4
    assert "passed when it was built, but not in this process" in caplog.text
    monkeypatch.setattr(maker, "load", right)
    engine = swapping(world)
    warmed: list[str] = []
    engine.start(lambda one: warmed.append(one.name))
    assert engine.wait(30)
    assert warmed == [f"stand-in-{NAME}"]
    engine.of_this_call("visual")
    assert engine.name == f"stand-in-{NAME}"


def test_a_comparison_that_failed_in_the_builder_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that failed its comparison does not take over, whatever exit status the builder has."""
    builder(monkeypatch, "")
    world.lay(NAME, 1.0, passed=False)
    engine = swapping(world)
    engine.start()
    assert engine.wait(30)
    assert "differs from the float32 reference" in caplog.text
    assert engine.of_this_call("visual").name == "first"


@pytest.mark.slow
def test_one_build_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second build waits for the first; both end without a warning when they are closed, and leave no process."""
    program = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(600)"
    (tmp_path / "pids").mkdir()
    builder(monkeypatch, program, str(tmp_path / "pids"))
    engines = [swapping(world), swapping(world)]
    engines[0].start()
    wait_until("a builder", lambda: len(list((tmp_path / "pids").iterdir())) == 1)
    (pid,) = (int(path.name) for path in (tmp_path / "pids").iterdir())
    engines[1].start()
    assert not engines[1].wait(1.0)
    engines[1].close()
    assert running(pid)
    engines[0].close()
    assert not running(pid)
    assert [path.name for path in (tmp_path / "pids").iterdir()] == [str(pid)]
    assert "could not be built" not in caplog.text


def test_an_engine_that_is_closed_before_it_began_builds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After close() no build starts."""
    monkeypatch.setattr(swap, "build_command", lambda *_: pytest.fail("it was built"))
    engine = swapping(world)
    engine.close()
    engine.start()
    assert not engine.wait(0.3)
    assert turn(engine) == [1.0] * 4
