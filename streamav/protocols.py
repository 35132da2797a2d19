"""Defines the roles of the stages. The loop depends on these roles only.

They hold no behaviour. Roles use duck typing: no class inherits from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.types import (
        AudioBlock,
        Event,
        FinalScores,
        LookedAt,
        Observation,
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

__all__ = ["AheadExtractor", "Engine", "Extractor", "Localizer", "Network", "Observer", "Sink", "Source"]


class Source(Protocol):
    """Sound and pictures of one place on one media clock (capture)."""

    @property
    def live(self) -> bool:
        """True for a device or network stream, where a full queue drops segments; False for a file, where reading waits."""

    @property
    def session(self) -> str:
        """Text from which event ids are derived: the content hash of a file, or a random word drawn when a live source opens."""

    @property
    def skew_ms(self) -> int | None:
        """Measured delay of sound against picture in ms, positive when sound is late; None when not measured."""

    def items(self) -> Iterator[AudioBlock | VideoFrame | StateChange | SourceContent]:
        """Yield sound and pictures, each kind in time order, and a StateChange when a live source is lost and returns.

        A source that has only sound or only pictures yields a SourceContent before its first item, and when this changes.
        Blocks the calling thread. Ends at the end of a file or after close().

        Raises:
            CaptureError: when the source cannot be opened, or a file is damaged from its start.
        """

    def close(self) -> None:
        """Make items() end soon; may be called from another thread, and more than once."""


class Network(Protocol):
    """One network, loaded and ready. It takes and returns arrays; the first axis is the batch."""

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network on float32 arrays (uint8 for an input that requires it) with any batch size >= 1."""


class Engine(Protocol):
    """Runs the four networks of a model: "visual", "audio", "encode_segment", "localize_window"."""

    @property
    def name(self) -> str:
        """Backend and precision as published in events, such as "torch-fp32" or "onnxruntime-fp32"."""

    def network(self, name: str) -> Network:
        """Return the named network.

        Raises:
            EngineError: when there is no such network or it cannot be run.
        """


class Extractor(Protocol):
    """Turns segments into features (features)."""

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        """Return the features of one or more segments, possibly of several sources, as one batch."""


class AheadExtractor(Extractor, Protocol):
    """An extractor that can encode pictures before their segment is complete."""

    def look(self, pixels: NDArray[np.uint8]) -> list[LookedAt]:
        """Encode pictures, shape (n, h, w, 3), possibly of several sources, as one batch."""

    def extract(self, segments: Sequence[Segment], ahead: Sequence[Sequence[LookedAt]] | None = None) -> list[SegmentFeatures]:
        """Return the features of segments; pictures that look() has encoded are not encoded again."""


class Localizer(Protocol):
    """Scores every segment of windows (localizer)."""

    def localize(self, windows: Sequence[Window]) -> list[WindowScores]:
        """Return the scores of one or more windows, possibly of several sources, as one batch."""


class Observer(Protocol):
    """Sees what the loop computes, to show it (view). It runs on the loop: it must return at once and never raise."""

    def observe(self, source: str, observation: Observation) -> None:
        """Take what one turn did for a source. It is called after the events of the turn were handed to the sinks."""


class Sink(Protocol):
    """Receives what is to be published. It never blocks the loop and never raises when the peer is away (publish)."""

    async def start(self) -> None:
        """Start; return at once even when the peer is away."""

    def event(self, event: Event, latency_s: float) -> None:
        """Take one message about an event, and the time from the end of its newest segment until now, in seconds."""

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Take a change of a source's state."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Take the telemetry of a source."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Take the final scores of one segment. They help people to find out why there is an event, or none."""

    async def close(self) -> None:
        """Hand over what is left, within a bounded time, and stop."""
