"""Writes the report of a training run: Markdown, JSON, and plots (`plots`).

No score computed here is used for selection. Plots need matplotlib (the extra `train`); without it the report has a note instead.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle.classes import AVE_CLASSES
from streamav.evaluation.bootstrap import bootstrap, mean_and_deviation
from streamav.evaluation.reliability import reliability
from streamav.training.experiments.ablations import PUBLISHED_ONLY
from streamav.training.experiments.latex import latex_table
from streamav.training.experiments.plots import draw
from streamav.view.markdown_page import write_beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import ClassEntry
    from streamav.evaluation.reliability import Reliability
    from streamav.training.experiments.ablations import TableName
    from streamav.training.experiments.experiment import Outcome
    from streamav.training.fit.selection import Answers

__all__ = ["confusion", "write_report", "write_table"]

_HONEST = "Models are selected on the validation split; the test split is read once. The published numbers were selected on the test split."
_TEST_SELECTED = (
    "Models are selected on the validation split; the column test-selected is the best of all evaluations on the test split, which is how "
    "the published numbers were selected."
)
_NOT_AVE = "These data have {classes} classes and are not AVE: the published numbers stand for AVE only, and cannot be compared with ours."
_ONE_SEED = "n = 1: a single seed has no spread, and another seed may differ by a point or two. Report five seeds or more."
_HINT = "No plots: matplotlib is not installed; run: pip install 'streamav[train]'"


def confusion(said: Answers, background: int) -> NDArray[np.int64]:
    """Count segments, shape (C + 1, C + 1): rows are the truth, columns the answers, background is last."""
    size = background + 1
    flat = said.truth.reshape(-1) * size + said.decided.reshape(-1)
    return np.bincount(flat, minlength=size * size).reshape(size, size)


def write_report(folder: Path, outcome: Outcome, classes: Sequence[ClassEntry], command: str) -> Path:
    """Write report.md, report.html, report.json and, with matplotlib, the plots (see `plots`); return the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix = confusion(outcome.chosen.test, len(classes))
    trust = reliability(outcome.chosen.test.probabilities, outcome.chosen.test.truth)
    drawn = draw(folder, outcome, matrix, trust, [*(entry.slug for entry in classes), "background"])
    lines = [
        f"# {outcome.experiment.name}",
        "",
        *_lead(outcome, matrix, trust, classes),
        "",
        "## Scores",
        "",
        f"Made by `{command}`.",
        _protocol(outcome),
        "",
        *_scores(outcome),
        "",
        *_seeds(outcome),
        "",
        *(["![loss and validation accuracy by epoch](curves.png)"] if drawn else [_HINT]),
        "",
        "## Classes",
        "",
        *(["![confusion matrix: truth by answer](confusion.png)", ""] if drawn else []),
        *_classes(matrix, classes),
        "",
        "## Reliability of the scores",
        "",
        *(["![accuracy by score](reliability.png)", ""] if drawn else []),
        *_reliability(trust),
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(outcome.experiment.to_dict(), indent=1),
        "```",
    ]
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_beside(path)
    (folder / "report.json").write_text(json.dumps(_tree(outcome, matrix, trust, command), indent=1) + "\n", encoding="utf-8")
    return path


def write_table(path: Path, title: TableName, outcomes: Sequence[Outcome], command: str) -> None:
    """Write one of the paper's tables as Markdown, HTML and LaTeX: the published accuracies beside those measured here."""
    experiment = outcomes[0].experiment
    shown, supervision = experiment.train.test_selected, experiment.network.supervision
    heads = ["row", "supervision", "seeds", "accuracy", "macro-F1", "background recall", *(["test-selected"] if shown else []), "published"]
    rows = [_table_row(outcome, shown=shown) for outcome in outcomes]
    measured = len(rows)
    if title == "I":
        blank = ["-"] * (len(heads) - 3)
        rows += [[name, supervision, *blank, _published(pair[supervision == "weakly"])] for name, *pair in PUBLISHED_ONLY]
    about = [
        "Segment accuracy in percent on the test split, mean and standard deviation over the seeds.",
        _TEST_SELECTED if shown else _HONEST,
        *([_NOT_AVE.format(classes=classes)] if (classes := experiment.network.classes) != len(AVE_CLASSES) else []),
        *([_ONE_SEED] if any(len(outcome.seeds) == 1 for outcome in outcomes) else []),
    ]
    lines = [f"# Table {title}", "", f"Made by `{command}`. {about[0]}", *about[1:], ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    label = f"tab:{title}-{supervision}"
    path.with_suffix(".tex").write_text(
        latex_table(heads, rows, caption=" ".join(about), label=label, rule_before=measured), encoding="utf-8"
    )
    write_beside(path)


def _table_row(outcome: Outcome, *, shown: bool) -> list[str]:
    told = {name: _percent(*values) for name, values in outcome.summary().items()}
    experiment, count = outcome.experiment, len(outcome.seeds)
    cells = [experiment.name, experiment.network.supervision, "n = 1" if count == 1 else str(count), told["accuracy"], told["macro_f1"]]
    cells.append(told["background_recall"])
    if shown:
        cells.append(_percent(*mean_and_deviation([one.test_selected for one in outcome.seeds])))
    return [*cells, _published(experiment.published)]


def _published(percent: float) -> str:
    return "-" if math.isnan(percent) else f"{percent:.1f}"


def _percent(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.2f}" if math.isnan(deviation) else f"{100 * mean:.2f} ± {100 * deviation:.2f}"


def _lead(outcome: Outcome, matrix: NDArray[np.int64], trust: Reliability, classes: Sequence[ClassEntry]) -> list[str]:
    """Return at most ten lines that say what matters; the details follow below."""
    said, told = outcome.chosen.test, {name: _percent(*values) for name, values in outcome.summary().items()}
    constant = max(outcome.chosen.scores.majority, outcome.chosen.scores.always_background)
    names = [*(entry.slug for entry in classes), "background"]
    totals = matrix.sum(axis=1)
    recalls = {names[index]: matrix[index, index] / totals[index] for index in np.flatnonzero(totals).tolist()}
    weakest = sorted(recalls, key=lambda name: recalls[name])[:3]
    side = "too high" if trust.overconfidence > 0 else "too low"
    lines = [
        f"- Test accuracy **{told['accuracy']} %** ({_of_seeds(len(outcome.seeds))}), {len(said.truth)} clips.",
        f"- One constant answer is right in {100 * constant:.1f} %.",
        f"- Macro-F1 {told['macro_f1']} %, recall on background {told['background_recall']} %.",
        f"- Weakest: {', '.join(f'{name} ({100 * recalls[name]:.0f} % found)' for name in weakest)}.",
        f"- Scores are {side} by {100 * abs(trust.overconfidence):.1f} points on average.",
        f"- Kept: seed {outcome.chosen.seed}, epoch {outcome.chosen.result.best_epoch}, the best on validation.",
    ]
    if not math.isnan(outcome.experiment.published):
        lines.append(f"- Published, selected on the test split: {outcome.experiment.published:.1f} %.")
    return [*lines, *([f"- {_ONE_SEED}"] if len(outcome.seeds) == 1 else [])]


def _of_seeds(count: int) -> str:
    return "n = 1" if count == 1 else f"{count} seeds: mean ± sd"


def _scores(outcome: Outcome) -> list[str]:
    """Return the lines of the test scores, with the confidence interval of the accuracy (bootstrap over clips)."""
    said = outcome.chosen.test
    right = (said.truth == said.decided).sum(axis=1).astype(np.float64)
    spread = bootstrap(right, np.full(len(right), said.truth.shape[1], dtype=np.float64))
    rows = [f"| {name.replace('_', ' ')} | {_percent(*values)} |" for name, values in outcome.summary().items()]
    return [
        f"| test score, % ({_of_seeds(len(outcome.seeds))}) | |",
        "|---|---|",
        *rows,
        "",
        f"Kept seed: accuracy {100 * spread.mean:.2f} %, 95 % bootstrap over clips {100 * spread.low:.2f} to {100 * spread.high:.2f}.",
        *_test_selected(outcome),
    ]


def _seeds(outcome: Outcome) -> list[str]:
    rows = [
        f"| {one.seed}{' (kept)' if one is outcome.chosen else ''} | {len(one.result.history)} | {one.result.best_epoch} "
        f"| {_percent(one.result.best_score, math.nan)} | {_percent(one.scores.accuracy, math.nan)} |"
        for one in outcome.seeds
    ]
    return ["| seed | epochs | best epoch | validation accuracy, % | test accuracy, % |", "|---|---|---|---|---|", *rows]


def _protocol(outcome: Outcome) -> str:
    if outcome.experiment.train.test_selected:
        return (
            "Weights were selected on the validation split. The test split was also scored at every evaluation, as requested, "
            "only for the figure labelled test-selected."
        )
    return "Weights were selected on the validation split. The test split was read once, after the selection."


def _test_selected(outcome: Outcome) -> list[str]:
    """Return the lines of the paper's figure if it was requested; the label shows that it is not the result."""
    if not outcome.experiment.train.test_selected:
        return []
    looks = sum(record.shown is not None for record in outcome.seeds[0].result.history)
    told = _percent(*mean_and_deviation([one.test_selected for one in outcome.seeds]))
    return [
        "",
        (
            f"**Test-selected accuracy, as the paper reports it: {told} %.** This is the best of {looks} evaluations on the test split "
            "in each seed. It is only for comparison with published figures, and does not measure the model on new clips. "
            "It selected no weights."
        ),
    ]


def _reliability(trust: Reliability) -> list[str]:
    """Return the calibration of the scores, as a sentence and as a table."""
    side = "too high" if trust.overconfidence > 0 else "too low"
    lines = [
        (
            "Score of the most likely label of each segment (the per-segment scores, which streams use too), kept seed, test split. "
            f"Expected calibration error {100 * trust.calibration_error:.1f} % in {len(trust.counts)} bins; on average the scores are "
            f"{side} by {100 * abs(trust.overconfidence):.1f} points."
        ),
        "",
        "| score | segments | mean score, % | right, % |",
        "|---|---|---|---|",
    ]
    width = 1.0 / len(trust.counts)
    for place, count in enumerate(trust.counts):
        if count:
            cells = f"{100 * trust.confidence[place]:.1f} | {100 * trust.accuracy[place]:.1f}"
            lines.append(f"| {place * width:.2f} to {(place + 1) * width:.2f} | {count} | {cells} |")
    return lines


def _classes(matrix: NDArray[np.int64], classes: Sequence[ClassEntry]) -> list[str]:
    """Return a table of recall, precision and the most frequent mistake of each class that occurs."""
    names = [*(entry.slug for entry in classes), "background"]
    lines = ["| class | segments | recall, % | precision, % | most often confused with |", "|---|---|---|---|---|"]
    for index, name in enumerate(names):
        total, said = int(matrix[index].sum()), int(matrix[:, index].sum())
        if not total and not said:
            continue
        wrong = matrix[index].copy()
        wrong[index] = 0
        recall = f"{100 * matrix[index, index] / total:.1f}" if total else "-"
        precision = f"{100 * matrix[index, index] / said:.1f}" if said else "-"
        lines.append(f"| {name} | {total} | {recall} | {precision} | {names[int(wrong.argmax())] if wrong.any() else '-'} |")
    return lines


def _tree(outcome: Outcome, matrix: NDArray[np.int64], trust: Reliability, command: str) -> dict[str, object]:
    """Return the report for scripts; NaN and infinite values become null."""
    return {
        "command": command,
        "experiment": outcome.experiment.to_dict(),
        "test": {name: [_finite(mean), _finite(sd)] for name, (mean, sd) in outcome.summary().items()},
        "seeds": [
            {
                "seed": one.seed,
                "best_epoch": one.result.best_epoch,
                "validation_accuracy": _finite(one.result.best_score),
                "stopped_early": one.result.stopped_early,
                "test": {name: _finite(value) for name, value in one.scores.to_dict().items()},
                "test_selected_accuracy": _finite(one.test_selected),
                "history": [
                    {
                        "epoch": record.epoch,
                        "learning_rate": record.learning_rate,
                        "loss": record.loss,
                        "parts": record.parts,
                        "validation": {name: _finite(value) for name, value in (record.validation or {}).items()},
                    }
                    for record in one.result.history
                ],
            }
            for one in outcome.seeds
        ],
        "confusion": matrix.tolist(),
        "reliability": {
            "calibration_error": trust.calibration_error,
            "seconds": trust.counts.tolist(),
            "mean_score": [_finite(value) for value in trust.confidence.tolist()],
            "accuracy": [_finite(value) for value in trust.accuracy.tolist()],
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
