"""What makes a run a worker of a cluster: it publishes under a lease, and its sources come and go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.app.setups import SetupMaker
    from streamav.pipeline import Pipeline, SourceSetup
    from streamav.publish import EventMessage
    from streamav.publish.mqtt import MqttSink

__all__ = ["ChangingSources", "Membership"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """How a run belongs to a cluster."""

    worker: str
    """Name of the worker: one topic level."""
    permit: Callable[[], bool]
    """Whether the worker may publish now."""


@dataclass(slots=True)
class ChangingSources:
    """Adds and releases the sources of a worker while it runs. Its methods may be called from any thread, by one at a time."""

    maker: SetupMaker
    pipeline: Pipeline
    mqtt: MqttSink
    _setups: dict[str, SourceSetup] = field(default_factory=dict)

    def add(self, source: str, begin_s: int, epoch: int | None, left_open: Sequence[EventMessage] = ()) -> None:
        """Start a source.

        Args:
            source: id of one of the sources in the settings.
            begin_s: where a file starts, s; ignored for a live source.
            epoch: epoch of its lease; None starts it muted, while another worker still publishes it.
            left_open: newest messages of the events that its last worker left open.

        Raises:
            SettingsError: when there is no such source, or its settings are wrong.
            CaptureError: when a file cannot be read.
        """
        one = next((one for one in self.maker.settings.each_source() if one.id == source), None)
        if one is None:
            msg = f"a source of a worker must be one of the settings, got {source!r}"
            raise SettingsError(msg)
        setup = self.maker.setup(one)
        if begin_s and not setup.source.live and not one.loop:
            setup = self.maker.setup(
                one.model_copy(update={"begin_s": one.begin_s + begin_s, "duration_s": _rest(one.duration_s, begin_s)})
            )
        self._setups[source] = setup
        self.pipeline.sources.add(setup, None if epoch is None else lambda: self._take_over(source, epoch, left_open))

    def speak(self, source: str, epoch: int, left_open: Sequence[EventMessage] = ()) -> None:
        """Let a muted source publish."""
        self.pipeline.sources.speak(source, lambda: self._take_over(source, epoch, left_open))

    def release(self, source: str, *, quiet: bool = False) -> None:
        """End a source; *quiet* leaves it alone while it has an open event."""
        self.pipeline.sources.release(source, lambda: self.mqtt.release(source), quiet=quiet)

    def _take_over(self, source: str, epoch: int, left_open: Sequence[EventMessage]) -> None:
        labels = [label.label for label in self._setups[source].labels]
        self.mqtt.take_over(source, labels, epoch, left_open)


def _rest(duration_s: float | None, begin_s: int) -> float | None:
    """Return what is left of a file after *begin_s*; at least one segment."""
    return None if duration_s is None else max(1.0, duration_s - begin_s)
