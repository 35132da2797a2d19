"""Checks own labels on clips that they were not learned from, chooses their thresholds, and says in words how good they are.

Clips of one recording stay together: each part of the recordings is judged by labels that were learned from the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.counting import said_events
from streamav.evaluation.recorded import JudgedRecording, figures_of, figures_of_label
from streamav.evaluation.recordings import Span
from streamav.thresholds import PartialThresholds, Thresholds
from streamav.training.clips.own_labels import final_scores, learn, with_own_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.bundle import DetectionCard, ModelCard
    from streamav.training.clips.recorded import OwnRecording

__all__ = ["Check", "LabelCheck", "checked", "events_in", "own_thresholds", "spans_in", "verdict"]

_FOLDS = 10
"""Most parts into which the recordings are dealt; with fewer recordings, each is a part of its own."""
_CANDIDATES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Thresholds that are tried for a label, beside that of the base model."""
_OFF_SHARE = 0.6
"""`off` as a share of `on`, as in the models of the package."""
_PRIOR_STRENGTH = 2.0
"""Events that it costs to move a threshold from the model's own by one logit: few clips do not move it."""
_SHORT_S = 1.5
"""A label whose median event lasts at most this long needs one segment only, at a threshold that is higher by `_SHORT_MORE`."""
_SHORT_MORE = 0.15
_FEW = 5
"""Recordings of a label below which its figures are called rough."""
_CLEARLY_BETTER = 0.02
"""Share of seconds above always saying background; a smaller lead may be luck."""


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """How one label did on clips that it was not learned from."""

    label: str
    recordings: int
    """Recordings (groups) that hold it."""
    measured: bool
    """False when only one recording holds the label: then nothing is left to learn it from."""
    named: int
    """Events that were named in time."""
    events: int
    false: int
    """False events in all clips."""


@dataclass(frozen=True, eq=False, slots=True)
class Check:
    """How own labels did on clips that they were not learned from."""

    labels: tuple[LabelCheck, ...]
    judged: tuple[JudgedRecording, ...]
    """Clips whose times are known, with the events of labels that could be measured."""
    scores: tuple[NDArray[np.float32], ...]
    """For each of these clips the scores of the measured labels, in the order of `labels`, shape (S, measured), 0 to 1."""
    right: float
    """Share of the seconds with the right label or background."""
    background: float
    """Share of the seconds that always saying background gets right."""
    detection: dict[str, PartialThresholds]
    """Thresholds of each label."""


def checked(recordings: Sequence[OwnRecording], slugs: Sequence[str], card: ModelCard, arrays: Mapping[str, NDArray[np.float32]]) -> Check:
    """Cross-validate own labels over recordings, and choose their thresholds on the results.

    Args:
        recordings: the clips.
        slugs: L labels, the columns of the truth.
        card: the base model, with evidence.
        arrays: the arrays of its evidence.
    """
    columns = _held_out(recordings, slugs, card, arrays)
    groups = [{one.group for one in recordings if one.truth[:, number].any()} for number in range(len(slugs))]
    thresholds = {
        slug: own_thresholds([(column[:, number], one, number) for column, one in zip(columns, recordings, strict=True)], card.detection)
        for number, slug in enumerate(slugs)
    }
    measured = [number for number in range(len(slugs)) if len(groups[number]) > 1]
    timed = [(one, column) for one, column in zip(recordings, columns, strict=True) if not one.somewhere.any()]
    judged = tuple(
        _judged(one, column, [(number, slugs[number], thresholds[slugs[number]]) for number in measured]) for one, column in timed
    )
    figures = figures_of(judged)
    seconds = sum(one.seconds for one in judged)
    empty = sum(one.true_labels.count(None) for one in judged)
    return Check(
        labels=tuple(
            _label_check(judged, slug, len(group), number in measured)
            for number, (slug, group) in enumerate(zip(slugs, groups, strict=True))
        ),
        judged=judged,
        scores=tuple(np.nan_to_num(column[:, measured]) for _, column in timed),
        right=figures.seconds_right.value or 0.0,
        background=empty / seconds if seconds else 0.0,
        detection={slug: PartialThresholds(**_plain(one)) for slug, one in thresholds.items()},
    )


def own_thresholds(held_out: Sequence[tuple[NDArray[np.float32], OwnRecording, int]], detection: DetectionCard) -> Thresholds:
    """Return the thresholds of one label: the fewest missed and false events, and near the model's own threshold when there are few.

    Args:
        held_out: for each clip the scores of the label (S,), the clip, and the label's column of the truth. NaN where it was not measured.
        detection: thresholds of the base model; they are the prior.
    """
    spans = [spans_in(one.truth[:, number], "") for _, one, number in held_out if not one.somewhere[number]]
    lengths = [span.offset_s - span.onset_s for group in spans for span in group]
    short = bool(lengths) and float(np.median(lengths)) <= _SHORT_S
    prior = min(0.95, detection.on + _SHORT_MORE) if short else detection.on
    segments = 1 if short else max(2, detection.min_segments)

    def thresholds(on: float) -> Thresholds:
        return Thresholds(on=on, off=round(_OFF_SHARE * on, 3), min_segments=segments, gap_segments=detection.gap_segments)

    def cost(on: float) -> float:
        wrong = 0
        for scores, one, number in held_out:
            if one.somewhere[number] or np.isnan(scores).any():
                continue
            judged = _judged(one, scores[:, None], [(0, "", thresholds(on))], truth=one.truth[:, [number]])
            wrong += len(judged.missed) + len(judged.false)
        return wrong + _PRIOR_STRENGTH * abs(_logit(on) - _logit(prior))

    return thresholds(min(sorted({*_CANDIDATES, prior}), key=lambda on: (cost(on), abs(on - prior))))


def events_in(scores: NDArray[np.float32], labels: Sequence[tuple[int, str, Thresholds]]) -> list[Span]:
    """Return the events that a live run would report from final scores (S, columns); a label is its column, slug and thresholds."""
    found = []
    for number, slug, thresholds in labels:
        column = np.stack([scores[:, number], 1.0 - scores[:, number]], axis=1)
        found += [
            Span(slug, one.start, one.end, float(scores[one.start : one.end, number].max())) for one in said_events(column, thresholds)
        ]
    return found


def spans_in(truth: NDArray[np.bool_], label: str) -> list[Span]:
    """Return the stretches of segments in which a label holds, from shape (S,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], truth, [False]]).astype(np.int8)))
    return [Span(label, float(start), float(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _held_out(
    recordings: Sequence[OwnRecording], slugs: Sequence[str], card: ModelCard, arrays: Mapping[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Return the scores of each label in each clip, learned from the other recordings, shape (S, L); NaN where no other holds the label."""
    groups = sorted({one.group for one in recordings})
    parts = min(_FOLDS, len(groups))
    found = [np.full(one.truth.shape, np.nan, np.float32) for one in recordings]
    for part in range(parts):
        out = set(groups[part::parts])
        others = [one for one in recordings if one.group not in out]
        if not any(one.truth.any() for one in others):
            continue
        learned = learn(others, slugs, card, arrays)
        whole, added = with_own_labels(card, arrays, learned)
        mine = [number for number, one in enumerate(recordings) if one.group in out]
        for number, scores in zip(mine, final_scores([recordings[number] for number in mine], whole, added), strict=True):
            for entry in learned.entries:
                found[number][:, slugs.index(entry.slug)] = scores[:, whole.slugs.index(entry.slug)]
    return found


def _judged(
    one: OwnRecording, columns: NDArray[np.float32], labels: Sequence[tuple[int, str, Thresholds]], truth: NDArray[np.bool_] | None = None
) -> JudgedRecording:
    held = one.truth if truth is None else truth
    true = [span for number, slug, _ in labels for span in spans_in(held[:, number], slug)]
    return JudgedRecording(one.file, one.group, len(held), tuple(true), tuple(events_in(np.nan_to_num(columns), labels)))


def _label_check(judged: Sequence[JudgedRecording], slug: str, recordings: int, measured: bool) -> LabelCheck:  # noqa: FBT001 - a fact, no mode
    figures = figures_of_label(judged, slug)
    events = figures.events_named
    return LabelCheck(slug, recordings, measured, int(events.part), int(events.whole), int(figures.false_events.part))


def _plain(one: Thresholds) -> dict[str, float | int]:
    return {"on": one.on, "off": one.off, "min_segments": one.min_segments, "gap_segments": one.gap_segments}


def _logit(value: float) -> float:
    return math.log(value / (1.0 - value))


def verdict(check: Check) -> list[str]:
    """Return the verdict in words: whether the labels beat always saying background, each label, and what to add."""
    measured = [one for one in check.labels if one.measured]
    lines = []
    if not measured:
        lines.append(
            "verdict: not measured: every label comes from one recording, so no clip is left to judge it; "
            "try it on a recording of another day"
        )
    else:
        figures = (
            f"{check.right:.1%} of the seconds are right on clips that were not learned from, "
            f"and always saying background is right in {check.background:.1%}"
        )
        if check.right <= check.background:
            lines.append(f"verdict: do not use these labels yet: {figures}")
        elif check.right < check.background + _CLEARLY_BETTER:
            lines.append(f"verdict: hardly better than background: {figures}")
        else:
            lines.append(f"verdict: better than background: {figures}")
    lines += [_told(one) for one in check.labels]
    return lines


def _told(one: LabelCheck) -> str:
    """Return one line on a label: what was found, and what to add."""
    if not one.measured:
        return f"  {one.label}: one recording, not measured; add recordings of other days or places"
    found = f"{one.named} of {one.events} events named, {one.false} false"
    advice = []
    if one.recordings < _FEW:
        advice.append(f"rough, from {one.recordings} recordings: add some to have {_FEW} or more")
    if one.named * 2 < one.events:
        advice.append("add recordings in which it is heard and seen plainly")
    if one.false > max(1, one.events // 4):
        advice.append("add recordings of what it is taken for, as none")
    return f"  {one.label}: {found}" + (f"; {'; '.join(advice)}" if advice else "")
