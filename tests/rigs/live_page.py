"""Runs the live page alone, without a pipeline, and makes what a pipeline would hand to it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rigs.roles import EPOCH_NS, LABELS
from rigs.services import missing

from streamav.config import ViewSettings
from streamav.features import LogMelOptions
from streamav.publish import ModelEntry
from streamav.review import Desk, review_routes
from streamav.thresholds import Thresholds
from streamav.types import (
    SEGMENT_NS,
    EndReason,
    Event,
    EventPhase,
    Location,
    Observation,
    ScoredSegment,
    Segment,
    SegmentScores,
    StageTimes,
)
from streamav.view import LivePage, ShownLabel, Subject

__all__ = ["HOSTILE", "apart", "need_web", "observation", "read_until", "served", "shown_event", "subject"]

TIMES = StageTimes(capture_s=0.1, wait_s=0.01, features_s=0.05, model_s=0.02, publish_s=0.001)
HOSTILE = "<img src=x onerror=\"document.title='broken into'\"><script>document.title='broken into'</script>"


def need_web() -> None:
    """Skip the test when the extra web is not installed; fail in CI."""
    for name in ("starlette", "uvicorn", "websockets"):
        if importlib.util.find_spec(name) is None:
            missing(f"{name} is missing: pip install 'streamav[web]'")


def subject(source: str = "porch", names: Sequence[str] = LABELS, *, live: bool = False) -> Subject:
    """Return a source with the three classes of the fake localizer."""
    labels = tuple(
        ShownLabel(label=label, name=name, thresholds=Thresholds(on=0.7, off=0.3)) for label, name in zip(LABELS, names, strict=True)
    )
    return Subject(
        id=source, labels=labels, columns=tuple(range(len(labels))), latency_segments=4, live=live, front_end=LogMelOptions(offset=0.001)
    )


def observation(
    index: int,
    probability: float = 0.0,
    *,
    latency: int = 4,
    sound: NDArray[np.float32] | None = None,
    pictures: NDArray[np.uint8] | None = None,
) -> Observation:
    """Return the turn of one segment: its picture is as bright as its index, and its first class has a probability."""
    segment = Segment(
        index=index,
        start_ns=index * SEGMENT_NS,
        audio=np.zeros(16_000, np.float32) if sound is None else sound,
        frames=np.full((4, 32, 32, 3), index % 256, np.uint8) if pictures is None else pictures,
    )
    first = max(0, index - latency + 1)
    return Observation(
        segment=segment,
        scores=tuple(scores(one, index - one, latency, probability) for one in range(first, index + 1)) if index >= 9 else (),
        times=TIMES,
        busy_s=0.07,
        epoch_ns=EPOCH_NS,
        skew_ms=12,
        dropped_segments=0,
    )


def scores(index: int, age: int, latency: int, probability: float) -> SegmentScores:
    shares = np.array([probability, 0.0, 0.0, 1.0 - probability], np.float32)
    attention = np.full((7, 7), 0.01, np.float32)
    attention[2, 4] = 1.0 - 48 * 0.01
    return SegmentScores(
        index=index,
        age=age,
        final=age >= latency - 1,
        relevance=probability,
        class_probabilities=shares,
        agreement=0.5,
        attention=attention,
        level_dbfs=-30.0,
    )


def shown_event(
    source: str = "porch", start: int = 9, end: int | None = None, *, name: str = "Bark", identifier: str = "01M2FQ15JR5C4M5W1X2T7R3H6B"
) -> Event:
    """Return a message about an event: open without *end*, else ended."""
    newest = (end or start + 1) * SEGMENT_NS
    return Event(
        id=identifier,
        sequence=1,
        phase=EventPhase.NEW if end is None else EventPhase.END,
        source=source,
        label=LABELS[0],
        label_name=name,
        class_id=0,
        start_ns=start * SEGMENT_NS,
        end_ns=None if end is None else newest,
        newest_end_ns=newest,
        epoch_ns=EPOCH_NS,
        score=0.9,
        top_score=0.95,
        relevance=0.9,
        agreement=0.5,
        segments=(ScoredSegment(start_ns=start * SEGMENT_NS, score=0.9, relevance=0.9),),
        location=Location(grid=(7, 7), peak=(0.64, 0.36), box=(4 / 7, 2 / 7, 5 / 7, 3 / 7)),
        level_dbfs=-30.0,
        skew_ms=None,
        confirmed=True,
        end_reason=None if end is None else EndReason.ENDED,
    )


@contextmanager
def served(*subjects: Subject, settings: ViewSettings | None = None, name: str = "tiny", desk: Desk | None = None) -> Iterator[LivePage]:
    """Run the page until the block ends; with a desk a viewer may ask and say."""
    need_web()

    def model() -> ModelEntry:
        return ModelEntry(name=name, version="0", sha256="0" * 64, backend="torch-fp32")

    page = LivePage(
        settings or ViewSettings(enabled=True, port=0),
        model,
        subjects or (subject(),),
        further=None if desk is None else lambda moments, tokens: review_routes(desk, moments, tokens),
        offers=None if desk is None else {"changes": desk.given.change is not None, "journal": desk.given.journal is not None},
    )
    apart(page.start())
    try:
        yield page
    finally:
        apart(page.close())


def apart(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a loop of its own, in a thread: playwright keeps a loop running in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


def read_until(receive: Callable[[], str | bytes], holds: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Receive messages until one fulfils a condition; return all."""
    found: list[dict[str, Any]] = []
    while not found or not holds(found[-1]):
        found.append(json.loads(receive()))
    return found
