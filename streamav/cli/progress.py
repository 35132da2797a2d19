"""Shows on standard error how far a long command is and how much time is left, at a terminal only.

A pipe or a file receives nothing, so that logs stay short. The bar is removed when the work is done: the result of the command follows.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Task

__all__ = ["Update", "progress"]

_PACE_OVER_S: Final = 600.0
"""The pace is measured over this time (s): some steps, such as a trial of the benchmark, take half a minute each."""

_BAR: Final = 20
"""Columns of the bar."""
_BESIDE_NOTE: Final = _BAR + 30
"""Columns beside the name and the note: the bar, the share and the time left, and the gaps."""


class Update(Protocol):
    """Shows the state of the work."""

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Show how much is done.

        Args:
            done: work that is done, in any unit.
            total: all work, in the same unit; None while it is not known.
            note: what is being done now.
        """


@contextmanager
def progress(what: str, expected_s: float | None = None, console: Console | None = None) -> Iterator[Update]:
    """Show a bar with the time left while the context lasts, and yield its update.

    Args:
        what: what is counted or done, such as "clips".
        expected_s: how long the work is expected to take (s), for work that cannot count its steps; None for a count.
        console: output; None for standard error.
    """
    from rich.console import Console

    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield lambda done, total, note="": None  # noqa: ARG005 - the protocol names them
        return
    from rich.progress import BarColumn, Progress, TextColumn

    class Left(TextColumn):
        """The time left, or the time since the start while the time left is not known."""

        def __init__(self) -> None:
            super().__init__("")
            self.max_refresh = 0.5

        def render(self, task: Task) -> object:  # type: ignore[override] # a renderable text
            from rich.text import Text

            return Text(_left(task, expected_s))

    columns = TextColumn("{task.description}", markup=False), BarColumn(_BAR), Left(), TextColumn("{task.fields[note]}", markup=False)
    with Progress(*columns, console=console, transient=True, speed_estimate_period=_PACE_OVER_S) as bars:
        task = bars.add_task(what, total=None, note="")
        room = max(0, console.width - len(what) - _BESIDE_NOTE)  # rich would shorten the time left too

        def show(done: float, total: float | None, note: str = "") -> None:
            bars.update(task, completed=done, total=total, note=note if len(note) <= room else f"{note[: max(0, room - 1)]}…")

        yield show


def _left(task: Task, expected_s: float | None) -> str:
    """Return the time left as text; at first, or when work takes longer than expected, the time since the start."""
    passed_s = task.elapsed or 0.0
    left_s = task.time_remaining if expected_s is None else expected_s - passed_s
    if left_s is None or left_s < 0.0:
        return f"{timedelta(seconds=int(passed_s))} so far"
    share = "" if task.total is None else f"{100 * task.completed / max(task.total, 1e-9):3.0f} %, "
    return f"{share}{timedelta(seconds=round(left_s))} left"
