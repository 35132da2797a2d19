"""Trains one compact encoder over several stages, for any loss: balanced rows, learning rate, moving average of the weights.

It writes state_dicts and logs figures. It knows neither sounds nor pictures.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from streamav.files import whole_file
from streamav.networks.compact import COMPACT_SIDE
from streamav.training.precision import resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BalancedRows", "Steps", "Student", "fast_arithmetic", "fit_student", "followed", "schedule"]

_log = logging.getLogger(__name__)

NONE_SHARE, UNLABELLED_SHARE = 0.12, 0.15
"""Shares of a batch: examples of no class, and examples without a label, for which only the teacher gives a target."""
PEAK_RATE = 2.5e-3
"""Highest learning rate of AdamW."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A stage of training: a number of steps with one size of the pictures."""

    count: int
    side: int = COMPACT_SIDE
    """Side of the pictures, in pixels; small pictures first allow more steps in the same time (arXiv 2104.00298, section 4)."""


class Student(nn.Module):
    """An encoder with heads that are used in training only: for classes, and for projections onto the teacher's features."""

    def __init__(self, encoder: nn.Module, size: int, classes: int, teacher: int, grid: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.classify = nn.Linear(size, classes)
        self.project = nn.Linear(size, teacher)
        self.project_grid = nn.Linear(size, grid) if grid else None


class BalancedRows:
    """Draws rows such that all classes are equally likely; rows of no class and rows without a label have fixed shares."""

    def __init__(self, labels: NDArray[np.generic], seed: int) -> None:
        values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        named = (values >= 0) & (values < values.max())
        left = 1.0 - NONE_SHARE - (UNLABELLED_SHARE if values.min() < 0 else 0.0)
        weight = np.where(named, left / max(1, int(named.sum())), np.where(values < 0, UNLABELLED_SHARE, NONE_SHARE)) / counts
        self._chance = weight[inverse] / weight[inverse].sum()
        self._cumulative = np.cumsum(self._chance)
        self._rng = np.random.default_rng(seed)

    def draw(self, count: int) -> NDArray[np.int64]:
        """Return *count* random rows in rising order, because memory maps are read faster in order."""
        places = np.searchsorted(self._cumulative, self._rng.random(count) * self._cumulative[-1])
        return np.sort(places.clip(0, len(self._cumulative) - 1).astype(np.int64))


def schedule(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: it rises over the first 5 % of the steps, then falls along a cosine to 1 % of the peak."""
    rise = max(1, steps // 20)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (step - rise) / max(1, steps - rise)))))


def followed(average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    """Return the moving average after the *count*-th update; the averaged span grows to about 500 updates."""
    decay = min(0.998, float(count) / (float(count) + 10))
    return torch.lerp(average, now, 1.0 - decay) if average.is_floating_point() else now


def fast_arithmetic() -> torch.autocast:
    """Return a context for bfloat16 arithmetic if the processor has it; without it, bfloat16 is slower than float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=resolved("auto", torch.device("cpu")) == "bfloat16")


def fit_student(
    student: Student,
    loss: Callable[[NDArray[np.int64], int], Tensor],
    look: Callable[[slice, int], Tensor],
    labels: tuple[NDArray[np.generic], NDArray[np.generic]],
    out: Path,
    plan: tuple[Sequence[Steps], int, int],
) -> None:
    """Run AdamW over the stages, write the moving average of the encoder, and log its accuracy on val about ten times."""
    stretches, batch, seed = plan
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = BalancedRows(labels[0], seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.02)
    average = AveragedModel(student, avg_fn=followed, use_buffers=True)
    average.update_parameters(student)  # torch's first update copies, so the first weights are part of the average
    total, step = sum(stretch.count for stretch in stretches), 0
    for stretch in stretches:
        for _ in range(stretch.count):
            for group in optimizer.param_groups:
                group["lr"] = schedule(step, total, PEAK_RATE)
            student.train()
            value = loss(rows.draw(batch), stretch.side)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(student.parameters(), 2.0)
            optimizer.step()
            average.update_parameters(student)
            step += 1
            if step % max(1, total // 10) == 0 or step == total:
                told = _examined(student, average, look, labels[1], stretch.side)
                _log.info("%s step=%d/%d side=%d loss=%.3f %s", out.name, step, total, stretch.side, value.item(), told)
    whole = average.module.state_dict()
    encoder = {name.removeprefix("encoder."): tensor.contiguous() for name, tensor in whole.items() if name.startswith("encoder.")}
    with whole_file(
        out.with_suffix(".safetensors"), durable=True, alone=True
    ) as part:  # the result of a long training; its name marks the stage as done
        save_file(encoder, part)


def _examined(student: Student, average: AveragedModel, look: Callable[[slice, int], Tensor], truth: NDArray[np.generic], side: int) -> str:
    """Return a text with the accuracy of the averaged network on val; then restore the running weights."""
    running = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
    student.load_state_dict(average.module.state_dict())
    student.eval()
    with torch.no_grad():
        guess = torch.cat([look(slice(start, start + 128), side).argmax(1) for start in range(0, len(truth), 128)])
    student.load_state_dict(running)
    return _describe(guess.numpy(), truth.astype(np.int64))


def _describe(guess: NDArray[np.int64], truth: NDArray[np.int64]) -> str:
    kept = truth >= 0
    recall = [float((guess[truth == c] == c).mean()) for c in np.unique(truth[kept])]
    worst = sorted((r, int(c)) for r, c in zip(recall, np.unique(truth[kept]), strict=True))[:5]
    shown = [(c, round(r, 2)) for r, c in worst]
    right = (guess[kept] == truth[kept]).mean()
    return f"accuracy={right:.4f} balanced={np.mean(recall):.4f} none={recall[-1]:.3f} worst={shown}"
