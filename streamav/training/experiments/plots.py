"""Draws the results of a training run, without a display: curves, confusion matrix, reliability of the scores.

It computes no score. matplotlib is in the extra `train`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from streamav.evaluation.reliability import Reliability
    from streamav.training.experiments.experiment import Outcome

__all__ = ["draw"]

_DPI = 120


def draw(folder: Path, outcome: Outcome, matrix: NDArray[np.int64], trust: Reliability, names: list[str]) -> bool:
    """Write curves.png, confusion.png and reliability.png; return False if matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    side = 2.0 + 0.28 * len(names)
    sizes = {"curves": (9.0, 3.5), "confusion": (side, side), "reliability": (4.5, 4.5)}
    figures: dict[str, Figure] = {name: Figure(figsize=size, layout="constrained") for name, size in sizes.items()}
    _curves(figures["curves"], outcome)
    _confusion(figures["confusion"], matrix, names)
    _reliability(figures["reliability"], trust)
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        figure.savefig(folder / f"{name}.png", dpi=_DPI)
    return True


def _curves(figure: Figure, outcome: Outcome) -> None:
    """Draw loss and validation accuracy by epoch, one line for each seed."""
    from matplotlib.ticker import MaxNLocator

    left, right = figure.subplots(1, 2)
    for one in outcome.seeds:
        history = one.result.history
        looked = [record for record in history if record.validation]
        dot = "." if len(history) == 1 else None  # a line of one point cannot be seen
        left.plot([record.epoch for record in history], [record.loss for record in history], marker=dot, label=f"seed {one.seed}")
        accuracies = [100 * record.validation["accuracy"] for record in looked if record.validation]
        right.plot([record.epoch for record in looked], accuracies, marker=".")
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation accuracy, %")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # there is no half epoch
    left.legend()


def _confusion(figure: Figure, matrix: NDArray[np.int64], names: list[str]) -> None:
    """Draw, for each true class, the share of its segments that got each answer."""
    axes = figure.subplots()
    axes.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), vmin=0.0, vmax=1.0, cmap="Blues")
    axes.set(xlabel="answer", ylabel="truth", xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names, rotation=90, fontsize=7)
    axes.set_yticklabels(names, fontsize=7)


def _reliability(figure: Figure, trust: Reliability) -> None:
    """Draw the share of right answers against the score; on the diagonal the score equals this share."""
    axes = figure.subplots()
    full = trust.counts > 0
    edges = np.arange(len(trust.counts)) / len(trust.counts)
    axes.bar(
        edges, trust.counts / trust.counts.sum(), width=1.0 / len(trust.counts), align="edge", color="lightgrey", label="share of segments"
    )
    axes.plot([0.0, 1.0], [0.0, 1.0], linestyle="--", color="grey", linewidth=1.0)
    axes.plot(trust.confidence[full], trust.accuracy[full], marker="o", label="right")
    axes.set(xlabel="score", ylabel="share", xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    axes.set_title(f"expected calibration error {100 * trust.calibration_error:.1f} %", fontsize=10)
    axes.legend(loc="upper left")
