"""Stand-ins for the roles of the loop, and a tiny model with random weights that runs like a real model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamav.clock import Clock
from streamav.pipeline.feed import Feed, SourceSetup
from streamav.pipeline.inbox import Finished
from streamav.protocols import Source
from streamav.segmenter import SegmenterOptions
from streamav.types import (
    SAMPLE_RATE_HZ,
    SEGMENT_NS,
    AudioBlock,
    Event,
    FinalScores,
    Segment,
    SegmentFeatures,
    SourceContent,
    SourceState,
    StateChange,
    Telemetry,
    VideoFrame,
    Window,
    WindowScores,
)

EPOCH_NS = 1_789_381_200_000_000_000
"""2026-09-14T10:20:00Z."""
PICTURE = (4, 4)
LABELS = ("bark", "bird", "siren")
_ALTERNATING = np.resize(np.array([1.0, -1.0], np.float32), SAMPLE_RATE_HZ)


@dataclass
class FakeClock:
    """A clock that advances by a fixed step at each read and by the length of each wait; with a step of 0 only waits advance it."""

    step_ns: int = 1_000_000
    now_ns: int = 0
    epoch_ns: int = EPOCH_NS
    pauses: list[float] = field(default_factory=list)
    """Length of every wait, s."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def monotonic_ns(self) -> int:
        with self._lock:
            self.now_ns += self.step_ns
            return self.now_ns

    def utc_ns(self) -> int:
        return self.epoch_ns + self.now_ns

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        with self._lock:
            self.pauses.append(seconds)
            self.now_ns += round(seconds * 1e9)
        return stop.is_set()


class FakeSource:
    """Yields the given items; raises an item that is an exception, and waits for an item that is a threading.Event."""

    def __init__(
        self,
        items: Iterable[AudioBlock | VideoFrame | SourceState | StateChange | SourceContent | Exception | threading.Event],
        *,
        live: bool = False,
    ) -> None:
        self._items = items
        self.live = live
        self.session = "session"
        self.skew_ms: int | None = None
        self.closed = threading.Event()

    def items(self) -> Iterator[AudioBlock | VideoFrame | StateChange | SourceContent]:
        for item in self._items:
            if isinstance(item, SourceState):
                yield StateChange(item)
                continue
            if isinstance(item, Exception):
                raise item
            if isinstance(item, threading.Event):
                while not item.wait(0.01) and not self.closed.is_set():
                    pass
                continue
            if self.closed.is_set():
                return
            yield item

    def close(self) -> None:
        self.closed.set()


def second(index: int, loudness: float = 0.1, block_samples: int = SAMPLE_RATE_HZ) -> list[AudioBlock | VideoFrame]:
    """Return the items of one segment: one picture and sound of constant loudness, without an offset."""
    items: list[AudioBlock | VideoFrame] = [VideoFrame(start_ns=index * SEGMENT_NS, pixels=np.full((*PICTURE, 3), index % 256, np.uint8))]
    for start in range(0, SAMPLE_RATE_HZ, block_samples):
        size = min(block_samples, SAMPLE_RATE_HZ - start)
        start_ns = index * SEGMENT_NS + start * SEGMENT_NS // SAMPLE_RATE_HZ
        items.append(AudioBlock(start_ns=start_ns, samples=np.float32(loudness) * _ALTERNATING[:size]))
    return items


def seconds(loudnesses: Sequence[float], first: int = 0, block_samples: int = SAMPLE_RATE_HZ) -> list[AudioBlock | VideoFrame]:
    """Return the items of one segment per loudness, and the picture that ends the last segment."""
    items = [item for index, loudness in enumerate(loudnesses, first) for item in second(index, loudness, block_samples)]
    end = first + len(loudnesses)
    return [*items, VideoFrame(start_ns=end * SEGMENT_NS, pixels=np.zeros((*PICTURE, 3), np.uint8))]


def make_feed(source: Source, options: SegmenterOptions, duration_s: float | None = None, clock: Clock | None = None) -> Feed:
    """Build the capture thread of one source; its inbox holds 60 segments."""
    setup = SourceSetup(
        id="porch", source=source, segmenter=options, labels=(), latency_segments=1, queue_segments=60, paced=False, duration_s=duration_s
    )
    return Feed(setup, clock or FakeClock(), threading.Condition())


def read_feed(feed: Feed) -> list[Segment]:
    """Run a capture thread until its source ends or its limit is reached; return its segments, at most 60."""
    feed.start()
    assert feed.join(60.0)
    segments: list[Segment] = []
    with feed.inbox._ready:
        while (given := feed.inbox.take()) is not None:
            if isinstance(given.item, Segment):
                segments.append(given.item)
            elif isinstance(given.item, Finished) and given.item.error is not None:
                raise given.item.error
    return segments


class FakeExtractor:
    """Returns the mean size of the samples of a segment as its only audio feature."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.frames: list[int] = []
        self.error: Exception | None = None

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        if self.error is not None:
            raise self.error
        self.batches.append(len(segments))
        self.frames += [segment.frames.shape[0] for segment in segments]
        return [features(segment.index, float(np.abs(segment.audio).mean()), segment) for segment in segments]


def features(index: int, loudness: float = 0.0, segment: Segment | None = None) -> SegmentFeatures:
    """Return the features of a segment with a loudness as the only audio feature."""
    audio, visual = np.array([loudness], np.float32), np.zeros((2, 2, 1), np.float32)
    if segment is None:
        return SegmentFeatures(index=index, start_ns=index * SEGMENT_NS, audio=audio, visual=visual, level_dbfs=-20.0)
    return SegmentFeatures(index=index, start_ns=segment.start_ns, audio=audio, visual=visual, level_dbfs=-20.0, quality=segment.quality)


class FakeLocalizer:
    """Uses the loudness as the probability of the first of three classes, 0 for a one-sided segment; the other two have probability 0."""

    def localize(self, windows: Sequence[Window]) -> list[WindowScores]:
        return [
            window_scores(window.first_index, [0.0 if one.quality.one_sided else float(one.audio[0]) for one in window.segments])
            for window in windows
        ]


def window_scores(first_index: int, probabilities: Sequence[float], classes: int = len(LABELS)) -> WindowScores:
    """Return scores in which only the first class varies."""
    length = len(probabilities)
    shares = np.zeros((length, classes + 1), np.float32)
    shares[:, 0] = probabilities
    shares[:, -1] = 1.0 - shares[:, 0]
    return WindowScores(
        first_index=first_index,
        relevance=np.array(probabilities, np.float32),
        class_probabilities=shares,
        agreement=np.full(length, 0.5, np.float32),
        attention=np.full((length, 2, 2), 0.25, np.float32),
        levels_dbfs=(-20.0,) * length,
    )


class RecordingSink:
    """Records everything that it receives, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.latencies_s: list[float] = []
        self.states: list[tuple[SourceState, str]] = []
        self.told: list[object] = []
        """(phase, end reason) of events, and states, in the order of arrival."""
        self.telemetries: list[Telemetry] = []
        self.finals: list[FinalScores] = []
        self.started = self.closed = 0
        self.heard = asyncio.Event()
        """Set at the first event."""

    async def start(self) -> None:
        self.started += 1

    def event(self, event: Event, latency_s: float) -> None:
        self.events.append(event)
        self.latencies_s.append(latency_s)
        self.told.append((event.phase, event.end_reason))
        self.heard.set()

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        self.states.append((state, reason))
        self.told.append(state)

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        self.telemetries.append(telemetry)

    def scores(self, source: str, scores: FinalScores) -> None:
        self.finals.append(scores)

    async def close(self) -> None:
        self.closed += 1


def write_tiny_bundle(folder: Path, labels: Sequence[str] = LABELS) -> Path:
    """Write a bundle of compact networks with random weights; its first class nearly always has the highest score.

    It is not a useful model. Tests use it when every part of a run must be real.
    """
    import torch

    from streamav.bundle import AudioCard, ClassEntry, DetectionCard, LocalizerCard, ModelCard, VisualCard, write_bundle
    from streamav.networks.compact import CompactAudio, CompactVisual
    from streamav.networks.options import VSCGOptions
    from streamav.networks.vscg import VSCG

    sizes = {"audio_size": 8, "visual_size": 8, "classes": len(labels), "hidden": 8, "attention_size": 8, "front_size": 8}
    options = VSCGOptions.corrected("fully", **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {"audio": CompactAudio(8), "visual": CompactVisual(8), "localizer": VSCG(options)}
    tensors = {f"{part}.{key}": value.numpy() for part, module in modules.items() for key, value in module.state_dict().items()}
    floats = {key: value for key, value in tensors.items() if value.dtype == np.float32}
    outer = np.full_like(floats["localizer.heads.segment.outer.weight"], -0.2)
    outer[0] = 0.2  # its inputs are never negative
    floats["localizer.heads.segment.outer.weight"] = outer
    card = ModelCard(
        name="tiny",
        version="0",
        profile="custom",
        classes=tuple(ClassEntry(slug=label, name=label.title()) for label in labels),
        audio=AudioCard(network="compact_audio", log_mel_offset=0.001, size=8),
        visual=VisualCard(network="compact_visual", picture=(112, 112), frames_per_second=2, size=8, grid=7),
        localizer=LocalizerCard(options={key: value for key, value in vars_of(options).items() if value is not None}),
        detection=DetectionCard(on=0.5, off=0.3),
        licence_note="Random numbers.",
    )
    write_bundle(folder, card, floats)
    return folder


def vars_of(options: object) -> dict[str, object]:
    """Return the fields of a dataclass as a dictionary."""
    from dataclasses import asdict

    return asdict(options)  # type: ignore[call-overload, no-any-return]
