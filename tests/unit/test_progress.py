"""Tests of the progress of long commands."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from streamav.cli.progress import progress


def _terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)


def _seen(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


def test_a_pipe_receives_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal, no byte of progress is written to either output."""
    with progress("clips") as show:
        show(1, 10, "a.mp4")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_terminal_sees_what_is_done_and_the_time_left() -> None:
    """At a terminal the share, the time left and the note are shown, on one line that fits, also with brackets in a file's name."""
    console = _terminal()
    with progress("clips", console=console) as show:
        for done in range(1, 6):
            show(done, 10, "[take 1] " + "long " * 30)
    text = _seen(console)
    assert re.search(r"clips .* 50 %, 0:00:0\d left \[take 1\]", text)
    assert all(len(line) <= 80 for line in text.splitlines())


def test_work_without_steps_shows_the_time_that_is_expected() -> None:
    """For work that cannot count its steps, the expected time runs down; work that takes longer shows the time so far."""
    console = _terminal()
    with progress("building", expected_s=100.0, console=console) as show:
        show(0, None)
    assert re.search(r"building .* 0:01:(40|39) left", _seen(console))
    late = _terminal()
    with progress("building", expected_s=0.0, console=late) as show:
        show(0, None)
    assert "so far" in _seen(late)


def test_the_bar_leaves_nothing_behind() -> None:
    """After the work the line of the bar is erased, so that the result stands alone."""
    console = _terminal()
    with progress("clips", console=console) as show:
        show(10, 10)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().rstrip("\n").endswith("\x1b[2K")


@pytest.mark.parametrize("module", sorted(path.stem for path in Path(__file__).parents[2].glob("streamav/cli/*.py")))
def test_bars_are_drawn_in_one_place(module: str) -> None:
    """No command draws a bar by itself, but the two with displays of their own: the training of several seeds, and localize."""
    text = (Path(__file__).parents[2] / "streamav" / "cli" / f"{module}.py").read_text(encoding="utf-8")
    assert module in {"progress", "training_progress", "localize"} or "rich.progress" not in text
