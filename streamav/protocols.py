"""The roles that stages play for each other; the loop knows these and nothing else.

They hold no behaviour. A role is filled by duck typing: nothing inherits from these classes.
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
        Segment,
        SegmentFeatures,
        SourceState,
        Telemetry,
        VideoFrame,
        Window,
        WindowScores,
    )

__all__ = ["Engine", "Extractor", "Localizer", "Network", "Sink", "Source"]


class Source(Protocol):
    """Sound and pictures of one place on one media clock (capture)."""

    @property
    def live(self) -> bool:
        """True when the world does not wait (device, network stream): a full queue drops; False when it does (file)."""

    @property
    def session(self) -> str:
        """What event ids are derived from: the content hash of a file, or a random word drawn when a live source opens."""

    @property
    def skew_ms(self) -> int | None:
        """Measured delay of sound against picture in ms, positive when sound is late; None when not measured."""

    def items(self) -> Iterator[AudioBlock | VideoFrame | SourceState]:
        """Yield sound and pictures, each kind in time order, and LOST / ONLINE when a live source goes and comes back.

        Blocks the calling thread. Ends at the end of a file or after close().

        Raises:
            CaptureError: when the source cannot be opened, or a file is damaged from its start.
        """

    def close(self) -> None:
        """Make items() end soon; may be called from another thread, and more than once."""


class Network(Protocol):
    """One network, loaded and ready; arrays in, arrays out, first axis is the batch."""

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network on float32 (or uint8, where the network says so) arrays with any batch size >= 1."""


class Engine(Protocol):
    """Runs the four networks of a model: "visual", "audio", "encode_segment", "localize_window"."""

    @property
    def name(self) -> str:
        """Backend and precision as published in events, such as "torch-fp32" or "onnxruntime-fp32"."""

    def network(self, name: str) -> Network:
        """Give the named network.

        Raises:
            EngineError: when there is no such network or it cannot be run.
        """


class Extractor(Protocol):
    """Turns segments into features (features)."""

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        """Give the features of one or more segments, possibly of several sources, as one batch."""


class Localizer(Protocol):
    """Scores every segment of windows (localizer)."""

    def localize(self, windows: Sequence[Window]) -> list[WindowScores]:
        """Give the scores of one or more windows, possibly of several sources, as one batch."""


class Sink(Protocol):
    """Takes what there is to publish; never blocks the loop, never raises for a peer that is away (publish)."""

    async def start(self) -> None:
        """Begin; returns at once even when the peer is away."""

    def event(self, event: Event, latency_s: float) -> None:
        """Take one message about an event, and the time from the end of its newest segment until now, in seconds."""

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Take a change of a source's state."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Take how a source is doing."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Take the final scores of one segment; they are for people who ask why there is an event, or none."""

    async def close(self) -> None:
        """Hand over what is left, within a bounded time, and end."""
