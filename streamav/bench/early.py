"""Measures what early pictures (`model.early`) change: the time from a second's end to its scores, and the throughput of a full machine.

Each figure is a pair of trials of `streamav bench --streams`, with early pictures off and on. The throughput is the median of several
pairs, which begin with either in turn. Its sources wait for the networks, as files do. With live sources the frame budget would choose
fewer pictures after some seconds, a second sooner or later, which changes the pictures a second by more than early pictures do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from streamav.app.build import looks_early
from streamav.bench.process import ask
from streamav.bench.table import model_to_time
from streamav.bundle import find_bundle
from streamav.config import ModelSettings
from streamav.engines import open_engine
from streamav.engines.cache import EngineCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamav.bench.trial import TrialRequest

__all__ = ["EarlyRow", "measure_early"]

STREAMS = (1, 8)
FULL_LOAD = 2.0
"""A machine is full with as many streams as would need twice its time."""
MOST_STREAMS = 64
"""Most streams of a trial (our choice: as many as a run may have)."""
TURNS = 5
"""Pairs of trials for the throughput of a full machine; medians are taken, because a difference of 3 % matters there."""
_PATIENCE_S = 240.0
"""Time beyond the measured one after which a trial has failed, s: for loading, building and warming up (our choice)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyRow:
    """One model with a number of streams."""

    model: str
    engine: str
    streams: int
    full: bool
    """True for the trials on a full machine, in which the throughput counts."""
    late_p50_s: float | None
    """From the end of a second to its scores, all pictures encoded at the end."""
    late_p95_s: float | None
    early_p50_s: float | None
    early_p95_s: float | None
    late_looked_s: float
    """Pictures a second, all streams together."""
    early_looked_s: float
    late_picture_ms: float | None
    """Processor time of the whole process for a picture, ms. Other work on the machine hardly changes it."""
    early_picture_ms: float | None
    kept: float | None
    """Pictures a second early / late, median of the pairs; None unless `full`."""
    kept_by_processor: float | None
    """Processor time for a picture late / early, median of the pairs: the throughput kept, on a machine without other work."""
    auto: bool
    """Whether `model.early = "auto"` encodes early."""

    @property
    def words(self) -> str:
        """Return the row as a sentence, the late way first."""
        where = f"{self.model}, {self.engine}, {self.streams} stream{'' if self.streams == 1 else 's'}"
        looked = f"{_number(self.late_looked_s)} and {_number(self.early_looked_s)} pictures/s"
        if not self.full:
            return (
                f"{where}: p50 {_number(self.late_p50_s)} and {_number(self.early_p50_s)} s, p95 {_number(self.late_p95_s)} and "
                f"{_number(self.early_p95_s)} s, {looked}; auto is {'early' if self.auto else 'late'}"
            )
        return (
            f"{where}, full machine: {looked}, {_number(self.kept)} kept; {_number(self.late_picture_ms)} and "
            f"{_number(self.early_picture_ms)} ms of processor time a picture, {_number(self.kept_by_processor)} kept"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def measure_early(request: TrialRequest, told: Callable[[EarlyRow], None]) -> None:
    """Measure one model with 1 and 8 streams and on a full machine; call *told* with each row.

    When the weights of one of our models are absent, random weights of the same shapes are measured.

    Args:
        request: model, engine, threads and seconds of a trial; its number of streams is not used.
        told: takes each row when it is measured.

    Raises:
        StreamavError: as a trial.
    """
    with TemporaryDirectory() as folder:
        weights = None if request.weights_dir is None else Path(request.weights_dir)
        model = model_to_time(request.model, Path(folder), weights)
        name = request.model if model.note == "bundle" else f"{request.model}, random weights"
        placed = replace(request, model=str(model.folder), cache=None if model.cache is None else str(model.cache))
        _measure(placed, name, told, auto=_auto(placed))


def _auto(request: TrialRequest) -> bool:
    """Return whether `auto` encodes early; the engine is made here, so that the trials find it."""
    engine, _, precision = request.engine.partition("-")
    weights = None if request.weights_dir is None else Path(request.weights_dir)
    settings = ModelSettings.model_validate(
        {"engine": engine, "precision": precision or "auto", "threads": request.threads, "weights_dir": weights}
    )
    bundle = find_bundle(request.model)
    opened = open_engine(bundle, settings, None if request.cache is None else EngineCache(Path(request.cache)))
    return looks_early("auto", opened, bundle.card.visual.frames_per_second)


def _measure(request: TrialRequest, name: str, told: Callable[[EarlyRow], None], *, auto: bool) -> None:
    factor = 0.0
    for streams in STREAMS:
        pairs = [_pair(request.with_streams(streams))]
        if streams == 1:
            factor = float(pairs[0][0]["realtime_factor"])
        told(_row(request, name, streams, pairs, full=False, auto=auto))
    streams = max(2, min(MOST_STREAMS, round(FULL_LOAD / max(1e-3, factor))))
    full = replace(request.with_streams(streams), full=True)
    pairs = [_pair(full, early_first=bool(turn % 2)) for turn in range(TURNS)]
    told(_row(request, name, streams, pairs, full=True, auto=auto))


_Result = dict[str, float]


def _pair(request: TrialRequest, *, early_first: bool = False) -> tuple[_Result, _Result]:
    """Run a trial without and one with early pictures; return both in this order."""
    found = {early: _trial(replace(request, early=early)) for early in (early_first, not early_first)}
    return found[False], found[True]


def _trial(request: TrialRequest) -> _Result:
    found: _Result = ask(
        "streamav.bench.trial",
        asdict(request),
        what=f"a trial of {request.streams} streams with early pictures {'on' if request.early else 'off'}",
        threads=request.threads,
        limit_s=request.media_s + _PATIENCE_S,
    )
    return found


def _row(request: TrialRequest, name: str, streams: int, pairs: Sequence[tuple[_Result, _Result]], *, full: bool, auto: bool) -> EarlyRow:
    def middle(side: int, key: str) -> float | None:
        values = [pair[side][key] for pair in pairs if pair[side][key] is not None]
        return median(values) if values and not (full and key.startswith("latency")) else None

    looked_s = [middle(side, "looked_s") or 0.0 for side in (0, 1)]
    picture_ms = [_middle_of(_picture_ms(pair[side]) for pair in pairs) for side in (0, 1)]
    return EarlyRow(
        model=name,
        engine=str(pairs[0][0].get("engine", request.engine)),
        streams=streams,
        full=full,
        late_p50_s=middle(0, "latency_p50_s"),
        late_p95_s=middle(0, "latency_p95_s"),
        early_p50_s=middle(1, "latency_p50_s"),
        early_p95_s=middle(1, "latency_p95_s"),
        late_looked_s=looked_s[0],
        early_looked_s=looked_s[1],
        late_picture_ms=picture_ms[0],
        early_picture_ms=picture_ms[1],
        kept=_middle_of(early["looked_s"] / late["looked_s"] for late, early in pairs if late["looked_s"]) if full else None,
        kept_by_processor=_middle_of(_picture_ms(late) / _picture_ms(early) for late, early in pairs if _picture_ms(early))
        if full
        else None,
        auto=auto,
    )


def _picture_ms(trial: _Result) -> float:
    """Return the processor time for a picture, ms; 0 when there was none."""
    return 1e3 * trial["processor_s"] / trial["looked_s"] if trial["looked_s"] else 0.0


def _middle_of(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None
