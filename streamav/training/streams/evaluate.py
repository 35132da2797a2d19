"""Scores a model on the clips of a folder of features, and on streams made of these clips (`streamav eval`).

`run` runs the model and `streamav.evaluation` scores it. This module reads no options and prints nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from streamav.engines.modules import build_localizer
from streamav.errors import DataError
from streamav.evaluation.bootstrap import bootstrap
from streamav.evaluation.events import Collar, EventCounts, Overlap, count_events, spans_of_labels
from streamav.evaluation.gaps import score_gaps
from streamav.evaluation.manifest import ManifestOptions, parse_manifest
from streamav.evaluation.protocol import FixedThresholds, aligned_row, head_rows, over_seeds, persistence_row, tuned
from streamav.evaluation.scores import LATENCIES
from streamav.evaluation.segments import score_segments
from streamav.training.fit.selection import answers
from streamav.training.streams.run import manifest_of, run_aligned, run_streams
from streamav.training.streams.whole import WholeModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from streamav.bundle import Bundle
    from streamav.evaluation.ages import Combination
    from streamav.evaluation.manifest import Manifest
    from streamav.evaluation.protocol import Row
    from streamav.networks.options import Decision
    from streamav.networks.vscg import VSCG
    from streamav.thresholds import Thresholds
    from streamav.training.data.feature_set import Batch, FeatureSet
    from streamav.training.data.folder import AveData

__all__ = ["Figures", "StreamEvaluation", "clip_figures", "decision_of", "judged_model", "localizer_of", "streams_of"]

Figures = dict[str, object]
_Stream = TypeVar("_Stream")


def _ignore(*_: object) -> None:
    """Show nothing."""


def localizer_of(bundle: Bundle, data: AveData) -> VSCG:
    """Build the localizer of a bundle and check that the folder's features and classes fit it.

    Raises:
        DataError: when they do not fit.
    """
    network = build_localizer(bundle)
    options = network.options
    got = (int(data.val.audio.shape[2]), int(data.val.visual.shape[4]), int(data.val.visual.shape[2]), len(data.classes))
    wanted = (options.audio_size, options.visual_size, options.grid, options.classes)
    if got != wanted:
        msg = f"features and classes must have the model's sizes {wanted} (audio, visual, grid, classes), the folder has {got}"
        raise DataError(msg)
    if bundle.card.slugs != tuple(entry.slug for entry in data.classes):  # displayed names may differ
        msg = "the model's classes must be those of the folder, in the same order, and they are not; name another model or folder"
        raise DataError(msg)
    return network.eval()


def judged_model(bundle: Bundle, data: AveData, weights: Path | None = None, *, localizer_only: bool = False) -> VSCG | WholeModel:
    """Return what `eval` and `tune` judge: the whole model as it runs live if it has evidence, else its localizer.

    Args:
        bundle: the model.
        data: a folder of features. Its classes must be those of a localizer; a whole model may have more.
        weights: folder with the encoders that the bundle does not contain; a whole model needs them for the class scores.
        localizer_only: judge the localizer alone.

    Raises:
        DataError: when features or classes do not fit.
        ModelError: when weights are missing.
    """
    card = bundle.card
    if localizer_only or card.evidence is None:
        return localizer_of(bundle, data)
    shape = (int(data.val.audio.shape[2]), int(data.val.visual.shape[4]), int(data.val.visual.shape[2]))
    if shape != (card.audio.size, card.visual.size, card.visual.grid):
        wanted = (card.audio.size, card.visual.size, card.visual.grid)
        msg = f"features must have the model's sizes {wanted} (audio, visual, grid), the folder has {shape}"
        raise DataError(msg)
    labels = [entry.slug for entry in data.classes]
    if missing := [slug for slug in labels if slug not in card.slugs]:
        msg = f"the model must have the classes of the folder, {card.name} lacks {', '.join(missing)}; name another model or folder"
        raise DataError(msg)
    return WholeModel(bundle, weights, labels)


def clip_figures(network: VSCG | WholeModel, data: AveData, split: str, show: Callable[[int, int], object] = _ignore) -> Figures:
    """Score whole clips: accuracy as in the paper, and further figures that accuracy does not show.

    Args:
        network: what is scored.
        data: a folder of features.
        split: val or test.
        show: receives how many clips were run, and how many there are.
    """
    part = data.val if split == "val" else data.test
    decision, threshold = decision_of(network)
    said = answers(network, _counted(part, show), decision, threshold)
    background = part.background
    right = (said.truth == said.decided).sum(axis=1).astype(float)
    spread = bootstrap(right, np.full(len(right), float(said.truth.shape[1])))
    found = [(truth, spans_of_labels(label, background)) for truth, label in zip(said.truth, said.decided, strict=True)]
    wanted: dict[str, Collar | Overlap] = {
        "event_f1": Collar(),
        "event_f1_collar_2": Collar(onset=2.0, offset=2.0),
        "event_f1_overlap": Overlap(),
    }
    events = {
        name: sum((count_events(truth, spans, background, one) for truth, spans in found), EventCounts()).f1 for name, one in wanted.items()
    }
    scores = score_segments(said.truth, said.decided, background)
    return {
        "decision": "whole model" if isinstance(network, WholeModel) else decision,
        "clips": len(part),
        **scores.to_dict(),
        "accuracy_95": [spread.low, spread.high],
        **events,
        "right_class_never_background": 1.0 - scores.always_background,
    }


def _counted(part: FeatureSet, show: Callable[[int, int], object]) -> Iterator[Batch]:
    """Yield all clips in batches, and show how many were run."""
    done = 0
    for batch in part.batches(64):
        show(done, len(part))
        yield batch
        done += len(batch.labels)


def decision_of(network: VSCG | WholeModel) -> tuple[Decision, float]:
    """Return the rule by which a model decides on whole clips, and its threshold; a whole model takes the largest probability."""
    if isinstance(network, WholeModel):
        return "argmax29", 0.0
    return network.options.decision, network.options.decision_threshold


def streams_of(data: AveData, split: str, size: tuple[int, float, int], path: Path | None) -> Manifest:
    """Read the streams from a file, or make them at random and write them if a file is named.

    Args:
        data: the folder of features.
        split: val or test.
        size: number of streams, length of each in minutes, and seed.
        path: file of the streams; None for none.

    Raises:
        DataError: when the file is damaged, or holds streams of another split.
    """
    if path is not None and path.is_file():
        found = parse_manifest(path.read_text(encoding="utf-8"), str(path))
        if found.split != split:
            msg = f"{path} must hold streams of the {split} split, got {found.split}"
            raise DataError(msg)
        return found
    count, minutes, seed = size
    made = manifest_of(data, split, ManifestOptions(streams=count, seconds=round(60 * minutes), seed=seed))
    if path is not None:
        path.write_text(made.to_json(), encoding="utf-8")
    return made


@dataclass(frozen=True, slots=True)
class StreamEvaluation:
    """The systems to score on streams, and the choice of their thresholds."""

    network: VSCG | WholeModel
    bundle: Bundle
    data: AveData
    how: Combination
    thresholds: Literal["tuned", "card"]
    alarms: float
    baselines: bool
    ran: Callable[[], object] = _ignore
    """Is called after each stream that a system ran over."""

    def runs(self, manifests: Sequence[Manifest], tuning: Manifest | None) -> int:
        """Return how often `figures` will call `ran`: each system and the offline oracle run over every stream."""
        streams = sum(len(one.streams) for one in manifests) + (0 if tuning is None else len(tuning.streams))
        return streams * (len(self._heads()) + self.baselines)

    def figures(self, manifests: Sequence[Manifest], tuning: Manifest | None) -> Figures:
        """Fix all thresholds, then score the streams of every seed: per-segment head, the paper's head (one class a window), baselines."""
        heads = self._heads()
        systems = {system: self._fixed(tuning, head) for system, head in heads.items()}
        if self.baselines:
            systems["offline_oracle"] = self._fixed(tuning, next(iter(heads.values())), aligned=True)
        tables: dict[str, list[Row]] = {}
        shared: list[Row] = []
        found: Figures = {
            "aggregation": self.how,
            "thresholds": self._told(systems, manifests[0].split, tuning),
            "manifests": [{"split": one.split, "seed": one.seed, "streams": len(one.streams)} for one in manifests],
        }
        ages: Figures = {}
        gaps: dict[str, Figures] = {}
        for system, head in heads.items():
            rows, more = self._scored(system, head, manifests, systems)
            found[system], ages[system], by_latency = more
            for latency, figures in by_latency.items():
                gaps.setdefault(latency, {})[system] = figures
            for row in rows:
                (tables.setdefault(str(row.pooled.latency), []) if row.system == system else shared).append(row)
        found |= {"ages_over_seeds": ages, "gaps": gaps}
        found["tables"] = {latency: [row.to_dict() for row in [*rows, *shared]] for latency, rows in tables.items()}
        return found

    def _scored(
        self, system: str, head: Decision, manifests: Sequence[Manifest], systems: dict[str, FixedThresholds]
    ) -> tuple[list[Row], tuple[object, object, dict[str, object]]]:
        """Score one head, and with the first one the baselines; return rows, and figures of all streams, by age and by kind of gap."""
        fixed = systems[system]
        seeds = [self._run(run_streams, one, head) for one in manifests]
        pooled, single, rows = head_rows(system, seeds, fixed, self.how)
        if self.baselines and system in {"per_segment", "whole_model"}:
            rows.append(persistence_row(seeds, fixed.by_latency[LATENCIES[0]], self.how))
            whole = [self._run(run_aligned, one, head) for one in manifests]
            rows.append(aligned_row(whole, systems["offline_oracle"].by_latency[LATENCIES[0]]))
        ages = [over_seeds(same) for same in zip(*(one.ages for one in single), strict=True)]
        every = [stream for some in seeds for stream in some]
        kinds = [one.kinds(number) for one in manifests for number in range(len(one.streams))]
        gaps: dict[str, object] = {
            str(latency): [asdict(gap) for gap in score_gaps(every, kinds, latency, one, self.how)]
            for latency, one in fixed.by_latency.items()
        }
        return rows, (pooled.to_dict(), ages, gaps)

    def _heads(self) -> dict[str, Decision]:
        if isinstance(self.network, WholeModel):
            return {"whole_model": "argmax29"}
        heads: dict[str, Decision] = {"per_segment": "argmax29"}
        if self.network.options.supervision != "weakly":
            heads["two_stage"] = "two_stage"
        return heads

    def _fixed(self, tuning: Manifest | None, head: Decision, *, aligned: bool = False) -> FixedThresholds:
        """Return the card's thresholds, or tune them on validation streams that the same head scored in the same way."""
        if tuning is None:
            return FixedThresholds(source="card", by_latency=dict.fromkeys(LATENCIES, self._of_card()), within_limit={})
        if aligned:
            oracle = [one.windows() for one in self._run(run_aligned, tuning, head)]
            return tuned(oracle, self.alarms, self.how, LATENCIES[:1])
        return tuned(self._run(run_streams, tuning, head), self.alarms, self.how)

    def _run(self, over: Callable[..., Iterator[_Stream]], manifest: Manifest, head: Decision) -> list[_Stream]:
        """Run over every stream of a manifest, and tell after each."""
        found = []
        for one in over(self.network, self.data.val, manifest, head):
            found.append(one)
            self.ran()
        return found

    def _of_card(self) -> tuple[Thresholds, ...]:
        """Return the card's thresholds of the folder's classes."""
        return tuple(self.bundle.card.detection.thresholds(entry.slug) for entry in self.data.classes)

    def _told(self, systems: dict[str, FixedThresholds], split: str, tuning: Manifest | None) -> Figures:
        told: Figures = {"chosen": self.thresholds, "systems": {name: one.to_dict() for name, one in systems.items()}}
        if tuning is not None:
            told |= {"split": tuning.split, "seed": tuning.seed, "streams": len(tuning.streams), "alarms_per_hour": self.alarms}
            told["optimistic"] = tuning.split == split
        return told
