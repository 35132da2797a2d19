"""Finds the runs of a label: consecutive segments of high probability. It uses no clock and builds no events.

    probability   .1  .7  .8  .4  .1  .6  .2  .1      on 0.6, off 0.35, gap 1
    run               [----------(gap)--]             begins at `on`, goes on while at least `off`, continues over short pauses

A segment that a rule holds back (streamav.rules) counts as one below `off`, whatever its probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.rules import NO_RULES, Sight, held_back, zones_at
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from streamav.thresholds import Thresholds
    from streamav.tracker.options import LabelOptions
    from streamav.types import SegmentScores

__all__ = ["LabelSegment", "Run", "Seen", "followed", "segment_of"]


@dataclass(frozen=True, slots=True)
class LabelSegment:
    """One segment with the probability of one label."""

    index: int
    probability: float
    scores: SegmentScores
    counts: bool = True
    """False when a rule holds it back."""
    zones: tuple[str, ...] = ()
    """Zones that hold its place."""


Seen = tuple["SegmentScores", Sight | None]
"""A segment, and what the rules need to know of it; None while no label has rules."""


@dataclass(slots=True)
class Run:
    """Consecutive segments of one label, from the first at `on` or more to the last at `off` or more, pauses included."""

    start: int
    last: int
    """Newest segment that is not a pause."""
    held: int = 0
    """Number of segments at or above `on`."""
    recent: tuple[LabelSegment, ...] = ()
    """The last ten segments of the run."""
    pause: tuple[LabelSegment, ...] = ()
    """Segments below `off`, or held back, since `last`."""
    zones: tuple[str, ...] = ()
    """Zones that it has touched."""


def segment_of(seen: Seen, options: LabelOptions) -> LabelSegment:
    """Return what a segment is for a label."""
    scores, sight = seen
    probability, rules = float(scores.class_probabilities[options.place]), options.rules
    if sight is None or rules is NO_RULES:
        return LabelSegment(scores.index, probability, scores)
    zones = zones_at(rules.zones, sight.place, sight.grid) if "picture" in options.modalities else ()
    return LabelSegment(scores.index, probability, scores, counts=held_back(rules, sight) is None, zones=zones)


def followed(run: Run | None, segment: LabelSegment, thresholds: Thresholds, quiet_before: int) -> Run | None:
    """Return the run after one more segment: the run extended, a new run, or None when there is no run (any more).

    Args:
        run: the run so far, or None.
        segment: the next segment.
        thresholds: of the label.
        quiet_before: first segment at which a run may begin.
    """
    index = segment.index
    at_on = segment.counts and segment.probability >= thresholds.on
    if run is None:
        return Run(index, index, 1, (segment,), zones=segment.zones) if at_on and index >= quiet_before else None
    if segment.counts and segment.probability >= thresholds.off:
        recent = (*run.recent, *run.pause, segment)[-WINDOW_SEGMENTS:]
        zones = run.zones if set(segment.zones) <= set(run.zones) else tuple(dict.fromkeys((*run.zones, *segment.zones)))
        return Run(run.start, index, run.held + at_on, recent, zones=zones)
    if len(run.pause) >= thresholds.gap_segments:
        return None
    return Run(run.start, run.last, run.held, run.recent, (*run.pause, segment), run.zones)
