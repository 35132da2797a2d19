"""Defines the values that pass between the stages. They are frozen; shapes and types are checked when a value is made.

They do not depend on a device, clock, network or broker. Shape letters used everywhere:
T segments of a window (10), C foreground classes, A audio feature size, G side of the visual grid,
V visual feature size, F frames of a segment, N samples of a segment (16 000).
Times are integer nanoseconds on the source's own media clock, whose zero is the first instant of the source.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from streamav.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "SAMPLES_PER_SEGMENT",
    "SAMPLE_RATE_HZ",
    "SEGMENT_NS",
    "WINDOW_SEGMENTS",
    "AudioBlock",
    "EndReason",
    "Event",
    "EventPhase",
    "FinalScores",
    "Location",
    "LookedAt",
    "Modality",
    "Observation",
    "PublishedState",
    "Quality",
    "ScoredSegment",
    "Segment",
    "SegmentFeatures",
    "SegmentScores",
    "Signs",
    "SourceContent",
    "SourceState",
    "StageTimes",
    "StateChange",
    "Telemetry",
    "VideoFrame",
    "Window",
    "WindowScores",
    "looked_places",
]

SAMPLE_RATE_HZ = 16_000
"""Sample rate of every sound inside streamav (VGGish and YAMNet take 16 kHz)."""
SAMPLES_PER_SEGMENT = 16_000
"""N: samples of one segment."""
SEGMENT_NS = 1_000_000_000
"""Length of a segment, 1 s."""
WINDOW_SEGMENTS = 10
"""T: segments of a full window (AVE, VSCG section III-A)."""


_MOST_PROBABLE = 1.0 + 1e-4
"""Largest accepted probability: sums of float32 shares may be rounded up."""


def _check(name: str, array: NDArray[np.generic], shape: tuple[int | None, ...], dtype: type[np.generic]) -> None:
    """Raise ShapeError unless *array* has *dtype* and *shape*, where None means any length of at least one."""
    fits = array.ndim == len(shape) and all(got >= 1 if want is None else got == want for got, want in zip(array.shape, shape, strict=True))
    if not fits or array.dtype != dtype:
        wanted = "(" + ", ".join("*" if n is None else str(n) for n in shape) + ")"
        msg = f"{name} must be {dtype.__name__} {wanted}, got {array.dtype} {array.shape}"
        raise ShapeError(msg)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AudioBlock:
    """A stretch of sound as capture delivers it."""

    start_ns: int
    """Time of the first sample."""
    samples: NDArray[np.float32]
    """Shape (n,), n >= 1: mono, 16 kHz, range [-1, 1]."""
    lone_channel: bool = False
    """True when it was mixed from two channels of which one is digitally silent and the other one is not."""

    def __post_init__(self) -> None:
        """Check the samples."""
        _check("AudioBlock.samples", self.samples, (None,), np.float32)

    @property
    def end_ns(self) -> int:
        """Time after the last sample. The block is complete from then on; a live source cannot deliver it earlier."""
        return self.start_ns + self.samples.size * SEGMENT_NS // SAMPLE_RATE_HZ


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class VideoFrame:
    """One picture as capture delivers it, already scaled to the size that the model takes."""

    start_ns: int
    """Time from which the picture is on display."""
    pixels: NDArray[np.uint8]
    """Shape (H, W, 3): RGB."""

    def __post_init__(self) -> None:
        """Check the pixels."""
        _check("VideoFrame.pixels", self.pixels, (None, None, 3), np.uint8)

    @property
    def end_ns(self) -> int:
        """Equal to `start_ns`. A picture stays until the next one, whose time is not known yet, and is complete when it is shown."""
        return self.start_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Signs by which a dead camera or microphone is recognised; None where there was nothing to measure."""

    novelty: float | None = None
    """Share of the picture that was not shown before in the last ten seconds, 0 to 1: mean over the new pictures of the segment."""
    detail: float | None = None
    """Differences of brightness between parts of the newest picture, 0 to 255: the level that nine of ten of them do not reach."""
    brightness: float | None = None
    """Mean of the newest picture, 0 to 255."""
    swing: float | None = None
    """Standard deviation of the samples, 0 to 1: 0 in digital silence, also where all samples have another value than 0."""
    offset: float = 0.0
    """Mean of the samples, -1 to 1."""
    clipped: float = 0.0
    """Share of the samples at full scale, 0 to 1."""
    lone_channel: bool = False
    """True when one of two channels is digitally silent and the other one is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How much of a segment was filled in because it never arrived, and what the rest is like."""

    missing_samples: int = 0
    """Samples of the segment that never arrived and are zero, 0 to 16 000."""
    repeated_frames: int = 0
    """Frames of the segment that repeat an older picture because no newer one arrived, 0 to F."""
    picture_missing: bool = False
    """True when every picture that could be shown is more than 2 s away: the frames are black."""
    signs: Signs = field(default=Signs(), compare=False)
    """What the sound and the pictures that arrived are like."""

    @property
    def sound_missing(self) -> bool:
        """True when the segment has no sound at all."""
        return self.missing_samples >= SAMPLES_PER_SEGMENT

    @property
    def one_sided(self) -> bool:
        """True when the segment has no sound at all or no picture: nothing is heard and seen in it, so it is background."""
        return self.picture_missing or self.sound_missing


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Segment:
    """One second of sound and picture, exactly."""

    index: int
    """Number of the segment since the source opened, from 0, without gaps."""
    start_ns: int
    """index * 1 s on the media clock."""
    audio: NDArray[np.float32]
    """Shape (16000,): mono, 16 kHz, range [-1, 1]."""
    frames: NDArray[np.uint8]
    """Shape (F, h, w, 3): RGB, the pictures on display at index + i / F seconds."""
    quality: Quality = field(default_factory=Quality)

    def __post_init__(self) -> None:
        """Check both arrays."""
        _check("Segment.audio", self.audio, (SAMPLES_PER_SEGMENT,), np.float32)
        _check("Segment.frames", self.frames, (None, None, None, 3), np.uint8)

    def looked_at(self, frames: int | None) -> Segment:
        """Return the segment with at most *frames* of its frames, each from the middle of an equal part of it; None keeps all.

        Raises:
            ShapeError: when *frames* is below 1.
        """
        if frames is not None and frames < 1:
            msg = f"the frames of a segment to look at must be at least 1, got {frames}"
            raise ShapeError(msg)
        available = len(self.frames)
        if frames is None or frames >= available:
            return self
        return replace(self, frames=self.frames[looked_places(frames, available)])


def looked_places(frames: int, available: int) -> list[int]:
    """Return the numbers of *frames* out of *available* frames of a segment, each from the middle of an equal part of it."""
    return [(2 * place + 1) * available // (2 * frames) for place in range(frames)] if frames < available else list(range(available))


@dataclass(frozen=True, slots=True, eq=False)
class LookedAt:
    """One picture and what the encoder gave for it."""

    pixels: NDArray[np.uint8]
    """Shape (h, w, 3)."""
    outputs: tuple[NDArray[np.float32], ...]
    """Grid (G, G, V), and the scores of the encoder's own classes where it has any."""


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True, kw_only=True)
class SegmentFeatures:
    """Features that the encoders computed for one segment; compared by identity, and may be referred to weakly."""

    index: int
    start_ns: int
    audio: NDArray[np.float32]
    """Shape (A,)."""
    visual: NDArray[np.float32]
    """Shape (G, G, V): rows from the top, columns from the left, mean over the segment's frames."""
    level_dbfs: float | None
    """RMS level of the sound, dBFS, at most 0; None in digital silence."""
    quality: Quality = field(default_factory=Quality)
    heard: NDArray[np.float32] | None = None
    """Shape (H,), range 0 to 1: scores of the audio encoder's own classes (AudioSet, H = 521); None when it has none."""
    seen: NDArray[np.float32] | None = None
    """Shape (K,), range 0 to 1: probabilities of the visual encoder's own classes (ImageNet, K = 1000), mean over the segment's frames;
    None when it has none."""
    motion: float = 0.0
    """Motion inside the segment (`streamav.features.motion`), above or below the usual; 0 when it was not measured."""

    def __post_init__(self) -> None:
        """Check the arrays."""
        _check("SegmentFeatures.audio", self.audio, (None,), np.float32)
        _check("SegmentFeatures.visual", self.visual, (None, None, None), np.float32)
        for name, scores in (("heard", self.heard), ("seen", self.seen)):
            if scores is not None:
                _check(f"SegmentFeatures.{name}", scores, (None,), np.float32)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Window:
    """Consecutive segments, oldest first: ten, or fewer only for a source shorter than ten segments."""

    segments: tuple[SegmentFeatures, ...]

    def __post_init__(self) -> None:
        """Check that there is a segment and that indices have no gap."""
        indices = [segment.index for segment in self.segments]
        if not indices or len(indices) > WINDOW_SEGMENTS or indices != list(range(indices[0], indices[0] + len(indices))):
            msg = f"a window must hold 1 to {WINDOW_SEGMENTS} consecutive segments, got indices {indices}"
            raise ShapeError(msg)

    @property
    def first_index(self) -> int:
        """Index of the oldest segment."""
        return self.segments[0].index


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class WindowScores:
    """Scores that the localizer gives to every segment of one window."""

    first_index: int
    relevance: NDArray[np.float32]
    """Shape (T,), range 0 to 1: confidence that the segment holds an audio-visual event (VSCG Eq. 14, sigmoid)."""
    class_probabilities: NDArray[np.float32]
    """Shape (T, columns + 1), range 0 to 1: the C classes of the network, then further labels; the last column is background. Rows sum to 1
    when all labels compete, as in a model without labels by definition. A label competes with its rivals only, and one that is only heard
    with none, so with such labels the sum may be above 1."""
    agreement: NDArray[np.float32]
    """Shape (T,), range -1 to 1: cosine similarity of sound and picture (VSCG Eq. 16)."""
    attention: NDArray[np.float32]
    """Shape (T, G, G), each grid sums to 1: where in the picture the sound comes from."""
    levels_dbfs: tuple[float | None, ...]
    """T levels, as in SegmentFeatures.level_dbfs."""

    def __post_init__(self) -> None:
        """Check shapes against each other."""
        length = len(self.levels_dbfs)
        _check("WindowScores.relevance", self.relevance, (length,), np.float32)
        _check("WindowScores.class_probabilities", self.class_probabilities, (length, None), np.float32)
        if not (self.class_probabilities >= 0.0).all() or not (self.class_probabilities <= _MOST_PROBABLE).all():
            msg = "WindowScores.class_probabilities must be 0 to 1, got others or NaN"
            raise ShapeError(msg)
        _check("WindowScores.agreement", self.agreement, (length,), np.float32)
        _check("WindowScores.attention", self.attention, (length, None, None), np.float32)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SegmentScores:
    """Scores of one segment, combined over all windows that have held it so far."""

    index: int
    age: int
    """Index of the newest segment minus this one, 0 to 9: at most age + 1 windows have scored the segment."""
    final: bool
    """True once the age has reached latency - 1, or the source has ended; the scores do not change afterwards."""
    relevance: float
    class_probabilities: NDArray[np.float32]
    """Shape (columns + 1,), as in WindowScores; the last entry is background."""
    agreement: float
    attention: NDArray[np.float32]
    """Shape (G, G), sums to 1."""
    level_dbfs: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalScores:
    """Final scores of one segment, by label; the events of the segment are decided on them."""

    start_ns: int
    """Start of the segment, media clock."""
    epoch_ns: int
    """UTC, ns since 1970, of the media clock's zero."""
    labels: Mapping[str, float]
    """Probability of each enabled label, 0 to 1."""
    background: float
    """Probability that the segment holds none of the model's classes, 0 to 1."""
    relevance: float
    agreement: float
    level_dbfs: float | None
    place: tuple[float, float] | None = None
    """x, y of the strongest attention in the segment, 0 to 1; None when the attention is flat."""


Modality = Literal["sound", "picture"]


class EventPhase(StrEnum):
    """Kind of message about an event (mqtt contract, section 5.2)."""

    NEW = "new"
    UPDATE = "update"
    END = "end"


class EndReason(StrEnum):
    """Why an event ended (mqtt contract, section 5.2)."""

    ENDED = "ended"
    RETRACTED = "retracted"
    SOURCE_LOST = "source_lost"
    DISABLED = "disabled"
    SHUTDOWN = "shutdown"
    RESTART = "restart"


PublishedState = Literal["warming_up", "online", "degraded", "lost", "disabled"]
"""States of a source in MQTT messages (mqtt contract, section 6)."""


class SourceState(StrEnum):
    """State of a source (mqtt contract, section 6)."""

    STARTING = "starting"
    """Nothing has arrived yet. The contract has no such word, so MQTT publishes it as `warming_up`."""
    WARMING_UP = "warming_up"
    ONLINE = "online"
    DEGRADED = "degraded"
    LOST = "lost"
    DISABLED = "disabled"

    @property
    def published(self) -> PublishedState:
        """The word that MQTT publishes."""
        return cast("PublishedState", "warming_up" if self is SourceState.STARTING else self.value)


@dataclass(frozen=True, slots=True)
class StateChange:
    """A source was lost, or is back."""

    state: SourceState
    reason: str = ""
    """Why, and what to do, for people; without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContent:
    """What a source consists of. A source that lacks one of the two says so before its first item; it has both until it says so."""

    sound: bool = True
    picture: bool = True

    @property
    def lacks(self) -> str:
        """Return "sound" or "picture", whichever it lacks; empty when it has both."""
        return "" if self.sound and self.picture else "picture" if self.sound else "sound"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSegment:
    """One segment of an event."""

    start_ns: int
    score: float
    relevance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Place in the picture; coordinates 0 to 1 from the top left corner."""

    grid: tuple[int, int]
    """Rows and columns of the attention; the place is not known more finely."""
    peak: tuple[float, float]
    """x, y of the strongest cell's centre."""
    box: tuple[float, float, float, float] | None
    """x0, y0, x1, y1 around the cells above threshold that touch the peak; None when attention is flat."""
    heat: tuple[tuple[float, ...], ...] = field(default=(), compare=False, repr=False)
    """The attention, row by row, summing to 1; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One message about one label at one source over consecutive segments; it can be read without the other messages."""

    id: str
    """ULID, 26 characters."""
    sequence: int
    """1, 2, 3 ... for each id."""
    phase: EventPhase
    source: str
    label: str
    label_name: str
    class_id: int | None
    """Number of the class in the model; None for a label that is none of the model's classes."""
    start_ns: int
    """Start of the first segment, media clock."""
    end_ns: int | None
    """End of the last segment, media clock; None while the event is active."""
    newest_end_ns: int
    """End of the newest segment that this message covers, media clock."""
    epoch_ns: int
    """UTC, ns since 1970, of the media clock's zero, as known when the event began: the only wall-clock time inside streamav."""
    score: float
    top_score: float
    relevance: float
    agreement: float
    segments: tuple[ScoredSegment, ...]
    """The last 1 to 10 segments of the event, oldest first."""
    location: Location | None
    level_dbfs: float | None
    skew_ms: int | None
    """Measured delay of sound against picture, positive when sound is late; None when not measured."""
    confirmed: bool
    end_reason: EndReason | None
    modalities: tuple[Modality, ...] = ("sound", "picture")
    """In what the event was found: heard and seen, or heard alone."""
    trained: bool = True
    """False for a label by definition, whose thresholds are less certain."""
    zones: tuple[str, ...] = ()
    """Names of the zones that the event has touched so far, in the order in which it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """State of a source in numbers, every ten seconds."""

    frames_per_second: float
    level_dbfs: float | None
    latency_s: float
    """From the end of the newest segment to the hand-over of its events."""
    skew_ms: int | None
    realtime_factor: float
    """Processing time over media time; below 1 the run keeps up."""
    dropped_segments: int
    """Segments dropped since the start."""
    looked_frames_per_second: float = 0.0
    """Frames of a segment that the networks process; fewer than the model's while the machine cannot process more."""
    thinned_segments: int = 0
    """Segments since the start of which the networks processed fewer frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Where the time from the end of a segment to the hand-over of its events was spent, s. The sum is the latency."""

    capture_s: float
    """From the end of the segment until it was complete in this process."""
    wait_s: float
    """In the queue, until the networks took it."""
    features_s: float
    """In the encoders, with the other segments of the batch."""
    model_s: float
    """In the localizer, the aggregation and the tracker."""
    publish_s: float
    """Until all sinks had taken the events."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Observation:
    """What one turn of the loop did for one source; for display only."""

    segment: Segment | None
    """The segment of this turn, with the frames that the networks processed; None when the turn only ended or lost the source."""
    scores: tuple[SegmentScores, ...]
    """Every segment that this turn scored, oldest first: provisional ones, and those that became final."""
    times: StageTimes | None
    """None without a segment."""
    busy_s: float
    """Processing time of the segment: its share of the batch, s. Divided by 1 s it is the real-time factor."""
    epoch_ns: int
    """UTC, ns since 1970, of the media clock's zero."""
    skew_ms: int | None
    """As in Telemetry."""
    dropped_segments: int
    """As in Telemetry."""
