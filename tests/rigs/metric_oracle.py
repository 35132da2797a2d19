"""Computes our metrics with two other libraries, sed_eval and sed_scores_eval (extra `oracle`), for tests of our code.

Run as a program (`PYTHONPATH=. python tests/rigs/metric_oracle.py`), it writes `tests/golden/stream_metrics.json`: synthetic streams
with the figures of these libraries.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamav.evaluation.counting import said_events
from streamav.evaluation.events import Collar, SaidEvent, Span, spans_of_labels
from streamav.evaluation.psds import PSDS1, PSDS2, PsdsOptions
from streamav.thresholds import Thresholds

GOLDEN = Path(__file__).parents[1] / "golden" / "stream_metrics.json"
THRESHOLDS = Thresholds(on=0.5, off=0.3, min_segments=1, gap_segments=1)
COLLARS = {"collar_1": Collar(), "collar_2": Collar(onset=2.0, offset=2.0)}


@dataclass(frozen=True, eq=False)
class Case:
    """Synthetic streams and the scores of one synthetic model for them."""

    classes: int
    truth: list[NDArray[np.int64]]
    scores: list[NDArray[np.float64]]

    def said(self) -> list[list[SaidEvent]]:
        return [said_events(scores, THRESHOLDS) for scores in self.scores]

    def occurring(self) -> list[int]:
        return [label for label in range(self.classes) if any((one == label).any() for one in self.truth)]


def draw(seed: int) -> Case:
    """Draw streams of events between background, and scores that follow them with noise; every third seed rounds scores to one digit."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 5))
    strength = random.uniform(0.2, 1.5)
    truth, scores = [], []
    for _ in range(int(random.integers(1, 4))):
        labels = np.repeat(random.integers(0, classes + 1, 30), random.integers(1, 9, 30))
        logits = strength * np.eye(classes + 1)[labels] + random.normal(size=(len(labels), classes + 1))
        soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        truth.append(labels)
        scores.append(np.round(soft, 1 if seed % 3 == 0 else 4))
    return Case(classes, truth, scores)


def reference(case: Case) -> dict[str, float]:
    """Return the figures of both libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of pkg_resources in dcase_util
        found = {name: _event_f1(case, collar) for name, collar in COLLARS.items()}
        return {**found, **_segments(case), "psds1": _psds(case, PSDS1), "psds2": _psds(case, PSDS2)}


def _event_f1(case: Case, collar: Collar) -> float:
    import sed_eval

    metrics = sed_eval.sound_event.EventBasedMetrics(
        event_label_list=[str(label) for label in range(case.classes)],
        t_collar=collar.onset,
        percentage_of_length=collar.offset_share,
        event_matching_type="optimal",
    )
    for number, (truth, said) in enumerate(zip(case.truth, case.said(), strict=True)):
        metrics.evaluate(_events(spans_of_labels(truth, case.classes), number), _events(said, number))
    return float(metrics.results_overall_metrics()["f_measure"]["f_measure"])


def _segments(case: Case) -> dict[str, float]:
    """Score the most probable label of each segment, with background as one more label."""
    import sed_eval

    metrics = sed_eval.sound_event.SegmentBasedMetrics([str(label) for label in range(case.classes + 1)], time_resolution=1.0)
    for number, (truth, scores) in enumerate(zip(case.truth, case.scores, strict=True)):
        one, other = (spans_of_labels(labels, -1) for labels in (truth, scores.argmax(axis=1)))
        metrics.evaluate(_events(one, number), _events(other, number))
    classwise = metrics.results_class_wise_metrics()
    measures = [classwise[str(label)]["f_measure"] for label in range(case.classes)]
    f1 = [one["f_measure"] for one in measures if not math.isnan(one["f_measure"])]
    return {"macro_f1": float(np.mean(f1)), "background_recall": float(classwise[str(case.classes)]["f_measure"]["recall"])}


def _events(spans: Sequence[Span], number: int) -> object:
    import dcase_util

    return dcase_util.containers.MetaDataContainer(
        [
            {"filename": f"{number}.wav", "event_label": str(span.label), "event_onset": float(span.start), "event_offset": float(span.end)}
            for span in spans
        ]
    )


def _psds(case: Case, options: PsdsOptions) -> float:
    from sed_scores_eval import intersection_based
    from sed_scores_eval.base_modules.scores import create_score_dataframe

    classes = case.occurring()
    names = [str(label) for label in classes]
    tables, truth, lengths = {}, {}, {}
    for number, (labels, scores) in enumerate(zip(case.truth, case.scores, strict=True)):
        name = str(number)
        tables[name] = create_score_dataframe(scores[:, classes], timestamps=np.arange(len(scores) + 1.0), event_classes=names)
        truth[name] = [(float(span.start), float(span.end), str(span.label)) for span in spans_of_labels(labels, case.classes)]
        lengths[name] = float(len(labels))
    found = intersection_based.psds(
        tables,
        truth,
        lengths,
        dtc_threshold=options.detection,
        gtc_threshold=options.truth,
        cttc_threshold=options.cross if options.cross_weight else None,
        alpha_ct=options.cross_weight,
        alpha_st=1.0 / math.sqrt(len(classes) - 1),
        unit_of_time="hour",
        max_efpr=options.most_alarms_per_hour,
    )
    return float(found[0])


def read_golden() -> list[tuple[Case, dict[str, float]]]:
    """Read the streams and the figures of the libraries from the golden file."""
    found = []
    for one in json.loads(GOLDEN.read_text(encoding="utf-8")):
        truth = [np.array(labels, dtype=np.int64) for labels in one["truth"]]
        found.append((Case(one["classes"], truth, [np.array(scores) for scores in one["scores"]]), one["reference"]))
    return found


def main() -> None:
    """Write the golden file again."""
    cases = [draw(seed) for seed in range(4)]
    tree = [
        {
            "classes": case.classes,
            "truth": [labels.tolist() for labels in case.truth],
            "scores": [scores.tolist() for scores in case.scores],
            "reference": reference(case),
        }
        for case in cases
    ]
    GOLDEN.write_text(json.dumps(tree, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
