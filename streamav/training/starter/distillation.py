"""Trains the compact encoders from scratch on rendered examples, to fit both the teacher's features and the classes.

It writes state_dicts and logs figures. It renders no examples and trains no localizer.
Source of the idea: arXiv 2106.05237 (a patient and consistent teacher); arXiv 2104.00298, section 4 (small pictures first).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from streamav.files import whole_file
from streamav.networks.compact import COMPACT_SIDE, CompactAudio, CompactVisual
from streamav.training.composite.picture import photometry
from streamav.training.precision import resolved
from streamav.training.starter.sound_examples import OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Examples = Mapping[str, NDArray[np.generic]]

__all__ = ["Steps", "fast_arithmetic", "followed", "schedule", "train_audio", "train_visual"]

_log = logging.getLogger(__name__)

NONE_SHARE, UNLABELLED_SHARE = 0.12, 0.15
"""Shares of a batch: examples of no class, and examples without a label, for which only the teacher gives a target."""
PEAK_RATE = 2.5e-3
"""Highest learning rate of AdamW."""
TRUTH_SHARE = 0.5
"""Share of the label in an example's target; the rest is the answer of a linear classifier on the teacher's features."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A stage of training: a number of steps with one size of the pictures."""

    count: int
    side: int = COMPACT_SIDE
    """Side of the pictures, in pixels; small pictures first allow more steps in the same time (arXiv 2104.00298, section 4)."""


class _Student(nn.Module):
    """An encoder with heads that are used in training only: for classes, and for projections onto the teacher's features."""

    def __init__(self, encoder: nn.Module, size: int, classes: int, teacher: int, grid: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.classify = nn.Linear(size, classes)
        self.project = nn.Linear(size, teacher)
        self.project_grid = nn.Linear(size, grid) if grid else None


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


class _Balanced:
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


def train_visual(
    train: Examples, val: Examples, out: Path, plan: Sequence[Steps], *, size: int = 256, batch: int = 128, seed: int = 0
) -> None:
    """Train CompactVisual and write visual.safetensors (the encoder) into *out*.

    Args:
        train: examples of `picture_examples.render_pictures`.
        val: the same, from other photos; used for the log only.
        out: folder.
        plan: stages, one after another, under one schedule of the learning rate.
        size: V, channels of a cell.
        batch: pictures in a step.
        seed: seed of weights, order and changes.
    """
    torch.manual_seed(seed)
    classes = int(train["labels"].max()) + 1
    encoder = CompactVisual(size)
    student = _Student(encoder, size, classes, train["pooled"].shape[1], train["grid"].shape[-1])
    student = student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pooled = torch.from_numpy(train["pooled"].astype(np.float32))
    pooled_mean, pooled_scale = pooled.mean(0), pooled.std(0) + 0.1
    opinion = _opinions((pooled - pooled_mean) / pooled_scale, train["labels"], classes)
    cells_mean, cells_scale = _moments(train["grid"][:3000])
    del pooled
    generator = torch.Generator().manual_seed(seed)

    def loss(rows: NDArray[np.int64], side: int) -> Tensor:
        mirrored = torch.rand(len(rows), generator=generator) < 0.5  # noqa: PLR2004
        pictures = torch.from_numpy(train["pictures"][rows]).permute(0, 3, 1, 2).float()
        wanted = (torch.from_numpy(train["grid"][rows].astype(np.float32)) - cells_mean) / cells_scale
        pictures[mirrored], wanted[mirrored] = pictures[mirrored].flip(3), wanted[mirrored].flip(2)
        some = torch.rand(len(rows), generator=generator) < 0.75  # noqa: PLR2004 - the others stay as the teacher saw them
        pictures[some] = photometry(pictures[some], generator)
        with fast_arithmetic():
            grid = encoder(_scaled(pictures, side).permute(0, 2, 3, 1)).float()
        if grid.shape[1] != wanted.shape[1]:
            wanted = functional.adaptive_avg_pool2d(wanted.permute(0, 3, 1, 2), grid.shape[1:3]).permute(0, 2, 3, 1)
        seen = grid.mean(dim=(1, 2))
        target = (torch.from_numpy(train["pooled"][rows].astype(np.float32)) - pooled_mean) / pooled_scale
        alike = 1 - functional.cosine_similarity(student.project(seen), target).mean()
        cells = functional.mse_loss(student.project_grid(grid), wanted) if student.project_grid is not None else torch.zeros(())
        return _named(student.classify(seen), train["labels"][rows], opinion[rows]) + 3.0 * alike + 0.5 * cells

    def look(rows: slice, side: int) -> Tensor:
        pictures = torch.from_numpy(np.array(val["pictures"][rows])).permute(0, 3, 1, 2).float()
        with fast_arithmetic():
            grid = encoder(_scaled(pictures, side).permute(0, 2, 3, 1)).float()
        logits: Tensor = student.classify(grid.mean(dim=(1, 2)))
        return logits

    _fit(student, loss, look, (train["labels"], val["labels"]), out / "visual", (plan, batch, seed))


def train_audio(
    train: Examples, val: Examples, out: Path, plan: Sequence[Steps], *, size: int = 128, batch: int = 128, seed: int = 0
) -> None:
    """Train CompactAudio and write audio.safetensors (the encoder) into *out*.

    Args:
        train: examples of `sound_examples.render_segments`.
        val: the same, from other recordings; used for the log only.
        out: folder.
        plan: stages, one after another, under one schedule of the learning rate.
        size: A, numbers in a segment's features.
        batch: segments in a step.
        seed: seed of weights, order and changes.
    """
    torch.manual_seed(seed)
    classes = int(train["labels"].max()) + 1
    encoder = CompactAudio(size)
    student = _Student(encoder, size, classes, train["embeddings"].shape[1])
    student = student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    embeddings = torch.from_numpy(train["embeddings"].astype(np.float32))
    mean, spread = embeddings.mean(0), embeddings.std(0) + 0.05
    opinion = _opinions((embeddings - mean) / spread, train["labels"], classes)
    del embeddings
    generator = torch.Generator().manual_seed(seed)
    quiet = np.flatnonzero(train["labels"] == classes - 1)
    rng = np.random.default_rng([seed, 1])

    def loss(rows: NDArray[np.int64], side: int) -> Tensor:  # noqa: ARG001 - sounds have one size
        patches = torch.from_numpy(train["patches"][rows].astype(np.float32))
        other = torch.from_numpy(train["patches"][np.sort(rng.choice(quiet, len(rows)))].astype(np.float32))
        changed = _changed(patches, other[torch.randperm(len(other), generator=generator)], generator)
        with fast_arithmetic():
            vector = encoder(changed).float()
        target = (torch.from_numpy(train["embeddings"][rows].astype(np.float32)) - mean) / spread
        alike = 1 - functional.cosine_similarity(student.project(vector), target).mean()
        return _named(student.classify(vector), train["labels"][rows], opinion[rows]) + 3.0 * alike

    def look(rows: slice, side: int) -> Tensor:  # noqa: ARG001
        with fast_arithmetic():
            vector = encoder(torch.from_numpy(val["patches"][rows].astype(np.float32))).float()
        logits: Tensor = student.classify(vector)
        return logits

    _fit(student, loss, look, (train["labels"], val["labels"]), out / "audio", (plan, batch, seed))


def fast_arithmetic() -> torch.autocast:
    """Return a context for bfloat16 arithmetic if the processor has it; without it, bfloat16 is slower than float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=resolved("auto", torch.device("cpu")) == "bfloat16")


def _scaled(pictures: Tensor, side: int) -> Tensor:
    """Resize pictures (B, 3, S, S) without aliasing."""
    if pictures.shape[2] == side:
        return pictures
    return functional.interpolate(pictures, (side, side), mode="bilinear", antialias=True)


def _named(logits: Tensor, labels: NDArray[np.generic], opinion: Tensor) -> Tensor:
    """Return the cross-entropy against a mix of label and teacher's opinion; without a label, against the opinion only."""
    given = torch.from_numpy(labels.astype(np.int64))
    truth = functional.one_hot(given.clamp_min(0), logits.shape[1]).float()
    share = torch.where(given >= 0, TRUTH_SHARE, 0.0)[:, None]
    return functional.cross_entropy(logits, share * truth + (1 - share) * opinion)


def _moments(cells: NDArray[np.generic]) -> tuple[Tensor, Tensor]:
    """Return mean and scale of each principal component, for scaling: small ones separate classes as well as large ones."""
    flat = torch.from_numpy(cells.astype(np.float32)).flatten(0, 2)
    return flat.mean(0), flat.std(0) + 1e-3


def _opinions(features: Tensor, labels: NDArray[np.generic], classes: int, ridge: float = 300.0, sharpness: float = 8.0) -> Tensor:
    """Return the class probabilities of a linear classifier on the teacher's features, shape (n, classes); each row sums to 1."""
    kept = torch.from_numpy(labels.astype(np.int64) >= 0)
    truth = functional.one_hot(torch.from_numpy(labels.astype(np.int64))[kept], classes).float()
    truth = truth - truth.mean(0)
    known = features[kept]
    weights = torch.linalg.solve(known.T @ known + ridge * torch.eye(features.shape[1]), known.T @ truth)
    return torch.softmax(sharpness * (features @ weights), dim=1)


def _changed(patches: Tensor, ambience: Tensor, generator: torch.Generator) -> Tensor:
    """Change the level of log-mel patches, add ambience, tilt the spectrum, and blank a stretch of time and a band.

    Sounds are added as magnitudes, an approximation that is good enough here.
    """
    count = len(patches)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1).uniform_(low, high, generator=generator)

    magnitude = (patches.exp() - OFFSET.offset).clamp_min(0) * torch.exp(uniform(-1.4, 1.4))
    some = (torch.rand(count, 1, 1, generator=generator) < 0.3).float()  # noqa: PLR2004
    louder = magnitude.mean(dim=(1, 2), keepdim=True)
    added = (ambience.exp() - OFFSET.offset).clamp_min(0)
    added = added / added.mean(dim=(1, 2), keepdim=True).clamp_min(1e-5) * louder * torch.exp(uniform(-3.0, 0.3))
    tilt = torch.linspace(-1, 1, patches.shape[2])[None, None, :] * uniform(-0.7, 0.7)
    x = ((magnitude + some * added) * torch.exp(tilt) + OFFSET.offset).log()
    for axis, widest in ((1, 24), (2, 12)):
        width = int(torch.randint(0, widest, (1,), generator=generator))
        start = int(torch.randint(0, patches.shape[axis] - width, (1,), generator=generator))
        hit = torch.rand(count, generator=generator) < 0.4  # noqa: PLR2004
        if width:
            x[hit] = x[hit].slice_scatter(torch.full_like(x[hit].narrow(axis, start, width), -6.0), axis, start, start + width)
    return x


def _describe(guess: NDArray[np.int64], truth: NDArray[np.int64]) -> str:
    kept = truth >= 0
    recall = [float((guess[truth == c] == c).mean()) for c in np.unique(truth[kept])]
    worst = sorted((r, int(c)) for r, c in zip(recall, np.unique(truth[kept]), strict=True))[:5]
    shown = [(c, round(r, 2)) for r, c in worst]
    right = (guess[kept] == truth[kept]).mean()
    return f"accuracy={right:.4f} balanced={np.mean(recall):.4f} none={recall[-1]:.3f} worst={shown}"


def _fit(
    student: _Student,
    loss: Callable[[NDArray[np.int64], int], Tensor],
    look: Callable[[slice, int], Tensor],
    labels: tuple[NDArray[np.generic], NDArray[np.generic]],
    out: Path,
    plan: tuple[Sequence[Steps], int, int],
) -> None:
    """Run AdamW over the stages, write the moving average of the encoder, and log its accuracy on val about ten times."""
    stretches, batch, seed = plan
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = _Balanced(labels[0], seed)
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


def _examined(
    student: _Student, average: AveragedModel, look: Callable[[slice, int], Tensor], truth: NDArray[np.generic], side: int
) -> str:
    """Return a text with the accuracy of the averaged network on val; then restore the running weights."""
    running = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
    student.load_state_dict(average.module.state_dict())
    student.eval()
    with torch.no_grad():
        guess = torch.cat([look(slice(start, start + 128), side).argmax(1) for start in range(0, len(truth), 128)])
    student.load_state_dict(running)
    return _describe(guess.numpy(), truth.astype(np.int64))
