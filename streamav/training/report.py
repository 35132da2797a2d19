"""Writes what a training run came to: Markdown and JSON for reading, curves and a confusion matrix as pictures.

It computes no score that selects anything. Pictures need matplotlib (the extra `train`); without it the text says so.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.bootstrap import bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import ClassEntry
    from streamav.training.experiment import Outcome
    from streamav.training.selection import Answers

__all__ = ["confusion", "write_report", "write_table"]

_HINT = "No pictures: matplotlib is not installed; run: pip install 'streamav[train]'"


def confusion(said: Answers, background: int) -> NDArray[np.int64]:
    """Count segments, (C + 1, C + 1): row is the truth, column the answer, background last."""
    size = background + 1
    flat = said.truth.reshape(-1) * size + said.decided.reshape(-1)
    return np.bincount(flat, minlength=size * size).reshape(size, size)


def write_report(folder: Path, outcome: Outcome, classes: Sequence[ClassEntry], command: str) -> Path:
    """Write report.md, report.json, and where matplotlib is there curves.png and confusion.png; give the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix = confusion(outcome.chosen.test, len(classes))
    drawn = _draw(folder, outcome, matrix, [*(entry.slug for entry in classes), "background"])
    lines = [
        f"# {outcome.experiment.name}",
        "",
        f"Made by `{command}`.",
        "Weights were selected on the validation split; the test split was read once, after that.",
        "",
        *_scores(outcome),
        "",
        *_seeds(outcome),
        "",
        *(["![curves](curves.png)", "", "![confusion](confusion.png)"] if drawn else [_HINT]),
        "",
        *_classes(matrix, classes),
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(outcome.experiment.to_dict(), indent=1),
        "```",
    ]
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(_tree(outcome, matrix, command), indent=1) + "\n", encoding="utf-8")
    return path


def write_table(path: Path, title: str, outcomes: Sequence[Outcome], command: str) -> None:
    """Write one of the paper's tables: what it published beside what came out here."""
    lines = [
        f"# Table {title}",
        "",
        f"Made by `{command}`. Segment accuracy in percent on the test split, mean and standard deviation over the seeds.",
        "Here the validation split selects and the test split is read once; the published numbers were selected on the test split.",
        "",
        "| row | supervision | seeds | accuracy | macro-F1 | background recall | published |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        told = {name: _percent(*values) for name, values in outcome.summary().items()}
        experiment = outcome.experiment
        cells = [experiment.name, experiment.network.supervision, str(len(outcome.seeds)), told["accuracy"], told["macro_f1"]]
        lines.append(f"| {' | '.join([*cells, told['background_recall'], f'{experiment.published:.1f}'])} |")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _percent(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.2f}" if math.isnan(deviation) else f"{100 * mean:.2f} ± {100 * deviation:.2f}"


def _scores(outcome: Outcome) -> list[str]:
    """Tell the test scores, and how far the accuracy could be off for the choice of clips."""
    said = outcome.chosen.test
    right = (said.truth == said.decided).sum(axis=1).astype(np.float64)
    spread = bootstrap(right, np.full(len(right), said.truth.shape[1], dtype=np.float64))
    rows = [f"| {name.replace('_', ' ')} | {_percent(*values)} |" for name, values in outcome.summary().items()]
    return [
        f"| test score, % ({len(outcome.seeds)} seeds: mean ± sd) | |",
        "|---|---|",
        *rows,
        "",
        f"Kept seed: accuracy {100 * spread.mean:.2f} %, 95 % bootstrap over clips {100 * spread.low:.2f} to {100 * spread.high:.2f}.",
    ]


def _seeds(outcome: Outcome) -> list[str]:
    rows = [
        f"| {one.seed}{' (kept)' if one is outcome.chosen else ''} | {len(one.result.history)} | {one.result.best_epoch} "
        f"| {_percent(one.result.best_score, math.nan)} | {_percent(one.scores.accuracy, math.nan)} |"
        for one in outcome.seeds
    ]
    return ["| seed | epochs | best epoch | validation accuracy, % | test accuracy, % |", "|---|---|---|---|---|", *rows]


def _classes(matrix: NDArray[np.int64], classes: Sequence[ClassEntry]) -> list[str]:
    """Tell recall, precision and the commonest mistake of each class that occurs."""
    names = [*(entry.slug for entry in classes), "background"]
    lines = ["| class | segments | recall, % | precision, % | most often taken for |", "|---|---|---|---|---|"]
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


def _tree(outcome: Outcome, matrix: NDArray[np.int64], command: str) -> dict[str, object]:
    """Give the report for scripts; what is not a number is null."""
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
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _draw(folder: Path, outcome: Outcome, matrix: NDArray[np.int64], names: list[str]) -> bool:
    """Draw curves and confusion without a display; give False when matplotlib is not there."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    curves = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(curves)
    left, right = curves.subplots(1, 2)
    for one in outcome.seeds:
        history = one.result.history
        looked = [record for record in history if record.validation]
        left.plot([record.epoch for record in history], [record.loss for record in history], label=f"seed {one.seed}")
        right.plot(
            [record.epoch for record in looked], [record.validation["accuracy"] for record in looked if record.validation], marker="."
        )
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation accuracy")
    left.legend()
    curves.savefig(folder / "curves.png", dpi=120)
    side = 2.0 + 0.28 * len(names)
    shown = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(shown)
    axes = shown.subplots()
    axes.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), vmin=0.0, vmax=1.0, cmap="Blues")
    axes.set(xlabel="answer", ylabel="truth", xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names, rotation=90, fontsize=7)
    axes.set_yticklabels(names, fontsize=7)
    shown.savefig(folder / "confusion.png", dpi=120)
    return True
