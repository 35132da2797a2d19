"""Finds how many paced sources one process carries on this machine (`streamav bench --streams N`).

It doubles the number of sources until a trial fails, then halves the gap. Each trial runs in a separate process
(`streamav.bench.trial`), so that its memory is measured alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from streamav.bench.process import ask
from streamav.bench.trial import Trial, TrialRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Search", "find_most", "memory_per_stream_mb", "search"]

_PATIENCE_S = 120.0
"""A trial that takes this much longer than its media is stopped, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The result of the search."""

    most: int
    """Largest number of sources that was carried; 0 when not even one was."""
    open_ended: bool
    """True when all sources that were asked for were carried: the machine may carry more."""
    memory_per_stream_mb: float | None
    """Slope of the memory over the number of sources, 10^6 bytes for each source; None after a single trial."""
    trials: tuple[Trial, ...]


def find_most(carries: Callable[[int], bool], most: int, first: int = 1) -> int:
    """Return the largest number that *carries*, by doubling from *first* and then halving the gap; 0 when 1 is not carried.

    It assumes that a machine that carries n also carries fewer. It tries no number twice and none above *most*.
    """
    good, bad, number = 0, most + 1, min(first, most)
    while number < bad:
        if carries(number):
            good = number
        else:
            bad = number
        number = min(2 * number, most) if bad > most and number < most else (good + bad) // 2
        if number == good:
            break
    return good


def memory_per_stream_mb(trials: Sequence[Trial]) -> float | None:
    """Return the slope of a line through memory over sources, by least squares; None when all trials have the same number of sources."""
    if len({trial.streams for trial in trials}) < 2:  # noqa: PLR2004 - a line has two points
        return None
    mean_streams = sum(trial.streams for trial in trials) / len(trials)
    mean_mb = sum(trial.memory_mb for trial in trials) / len(trials)
    above = sum((trial.streams - mean_streams) * (trial.memory_mb - mean_mb) for trial in trials)
    return above / sum((trial.streams - mean_streams) ** 2 for trial in trials)


def search(
    request: TrialRequest, first: int, told: Callable[[Trial], None], begins: Callable[[int], object] = lambda _streams: None
) -> Search:
    """Search for the largest number of sources, up to `request.streams`.

    Args:
        request: the trial; its number of sources is the largest that is tried.
        first: number of sources of the first trial.
        told: called with each trial when it ends.
        begins: called with the number of sources before each trial.

    Raises:
        StreamavError: when a trial fails for another reason than that the machine cannot carry it.
    """
    trials: list[Trial] = []

    def carries(streams: int) -> bool:
        begins(streams)
        trials.append(_trial(request.with_streams(streams)))
        told(trials[-1])
        return trials[-1].carried

    most = find_most(carries, request.streams, first)
    return Search(most=most, open_ended=most == request.streams, memory_per_stream_mb=memory_per_stream_mb(trials), trials=tuple(trials))


def _trial(request: TrialRequest) -> Trial:
    """Run one trial in a separate process with pinned threads."""
    trial = ask(
        "streamav.bench.trial",
        asdict(request),
        what=f"a trial of {request.streams} stream{'' if request.streams == 1 else 's'}",
        threads=request.threads,
        limit_s=request.media_s + _PATIENCE_S,
    )
    return Trial(**trial)
