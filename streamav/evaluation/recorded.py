"""Counts what was found in labelled recordings: clips named, false events an hour, seconds right, each with a bootstrap interval.

It is pure: it runs no model and prints nothing. Recordings of one group (one source) are drawn together, as they resemble each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.bootstrap import Interval, bootstrap
from streamav.evaluation.recordings import labels_of
from streamav.evaluation.tuning.quiet import upper_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamav.evaluation.recordings import Span

__all__ = ["LATEST_S", "Figures", "JudgedRecording", "Rate", "figures_of", "figures_of_label", "labels_in", "split_by_truth"]

LATEST_S = 2.0
"""An event names a true event when it begins at most this long after the true onset, seconds."""
_HOUR = 3600.0
_Counted = tuple[str, float, float]
"""Group, numerator and denominator of one recording."""


@dataclass(frozen=True)
class JudgedRecording:
    """One recording: what is true and what was found."""

    file: str
    group: str
    seconds: int
    truth: tuple[Span, ...]
    found: tuple[Span, ...]
    off_screen: bool = False
    """Whether its notes say that something is heard off screen."""

    @cached_property
    def named(self) -> tuple[Span, ...]:
        """The true events that an event of their label overlaps which begins at most `LATEST_S` after their onset."""
        return tuple(true for true in self.truth if any(_overlap(true, one) and _in_time(true, one) for one in self.found))

    @property
    def missed(self) -> tuple[Span, ...]:
        """The true events that no event names."""
        return tuple(true for true in self.truth if true not in self.named)

    @cached_property
    def false(self) -> tuple[Span, ...]:
        """The events that overlap no true event of their label."""
        return tuple(one for one in self.found if not any(_overlap(true, one) for true in self.truth))

    @cached_property
    def true_labels(self) -> list[str | None]:
        """The true label of each second; None is background."""
        return labels_of(self.truth, self.seconds)

    @cached_property
    def right(self) -> list[bool]:
        """Whether each second has the right label, or is background where nothing is."""
        return [true == found for true, found in zip(self.true_labels, labels_of(self.found, self.seconds), strict=True)]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share or a rate with its 95 % interval."""

    part: float
    """Number of what was counted."""
    whole: float
    """What it was counted in: clips, events, hours or seconds."""
    value: float | None
    """None when *whole* is 0."""
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a set of recordings."""

    recordings: int
    clips_named: Rate
    """Recordings with a true event in which at least one is named."""
    events_named: Rate
    false_events: Rate
    """An hour."""
    seconds_right: Rate


def figures_of(recordings: Sequence[JudgedRecording]) -> Figures:
    """Return the figures of recordings over all labels."""
    events = [one for one in recordings if one.truth]
    return Figures(
        recordings=len(recordings),
        clips_named=_rate((one.group, bool(one.named), 1) for one in events),
        events_named=_rate((one.group, len(one.named), len(one.truth)) for one in events),
        false_events=_hourly([(one.group, len(one.false), one.seconds / _HOUR) for one in recordings]),
        seconds_right=_rate((one.group, sum(one.right), one.seconds) for one in recordings),
    )


def figures_of_label(recordings: Sequence[JudgedRecording], label: str) -> Figures:
    """Return the figures of one label: its clips and events, its false events in all recordings, and its true seconds."""
    named = [(one.group, _count(one.named, label), _count(one.truth, label)) for one in recordings]
    named = [one for one in named if one[2]]
    seconds = [
        (
            one.group,
            sum(right for right, true in zip(one.right, one.true_labels, strict=True) if true == label),
            one.true_labels.count(label),
        )
        for one in recordings
    ]
    return Figures(
        recordings=len(named),
        clips_named=_rate((group, found > 0, 1) for group, found, _ in named),
        events_named=_rate(named),
        false_events=_hourly([(one.group, _count(one.false, label), one.seconds / _HOUR) for one in recordings]),
        seconds_right=_rate(seconds),
    )


def labels_in(recordings: Sequence[JudgedRecording]) -> list[str]:
    """Return the labels that are true or falsely found in at least one recording, sorted."""
    return sorted({span.label for one in recordings for span in (*one.truth, *one.false)})


def split_by_truth(recordings: Sequence[JudgedRecording]) -> dict[str, list[JudgedRecording]]:
    """Return the recordings with an event, those without, and of these the ones with a sound off screen; empty sets are left out."""
    without = [one for one in recordings if not one.truth]
    parts = {
        "with an event": [one for one in recordings if one.truth],
        "without an event": without,
        "without an event, sound off screen": [one for one in without if one.off_screen],
    }
    return {name: part for name, part in parts.items() if part}


def _overlap(true: Span, found: Span) -> bool:
    return true.label == found.label and found.onset_s < true.offset_s and true.onset_s < found.offset_s


def _in_time(true: Span, found: Span) -> bool:
    return found.onset_s <= true.onset_s + LATEST_S


def _count(spans: Sequence[Span], label: str) -> int:
    return sum(span.label == label for span in spans)


def _rate(counted: Iterable[_Counted]) -> Rate:
    """Return the ratio of the sums, with the interval over groups."""
    groups: dict[str, list[float]] = {}
    for group, part, whole in counted:
        sums = groups.setdefault(group, [0.0, 0.0])
        sums[0] += part
        sums[1] += whole
    parts, wholes = np.array(list(groups.values()), dtype=np.float64).reshape(-1, 2).T
    if not wholes.sum() > 0:
        return Rate(float(parts.sum()), 0.0, None, None, None)
    found: Interval = bootstrap(parts, wholes)
    return Rate(float(parts.sum()), float(wholes.sum()), found.mean, found.low, found.high)


def _hourly(counted: Sequence[_Counted]) -> Rate:
    """Return a rate an hour. Where nothing was found, the upper end is 3 / hours: drawing again from zeros would give 0."""
    rate = _rate(counted)
    if rate.part or not rate.whole:
        return rate
    return Rate(rate.part, rate.whole, 0.0, 0.0, upper_rate(0, rate.whole))
