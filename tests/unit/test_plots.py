"""Tests of the plots of a training report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from streamav.training.experiments import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.mark.parametrize("epochs", [1, 5])
def test_the_curves_show_whole_epochs_in_percent(epochs: int) -> None:
    """The axis has whole epochs only, accuracies are in percent as in the text beside, and a training of one epoch is a dot."""
    figure_module = pytest.importorskip("matplotlib.figure")
    figure: Figure = figure_module.Figure()
    history = [SimpleNamespace(epoch=one, loss=1.0 / one, validation={"accuracy": 0.5}) for one in range(1, epochs + 1)]
    outcome: Any = SimpleNamespace(seeds=[SimpleNamespace(seed=0, result=SimpleNamespace(history=history))])
    plots._curves(figure, outcome)
    loss, accuracy = figure.axes
    assert all(float(tick).is_integer() for tick in loss.get_xticks())
    assert (loss.lines[0].get_marker() == ".") == (epochs == 1)
    assert list(accuracy.lines[0].get_ydata()) == [50.0] * epochs  # type: ignore[arg-type]
