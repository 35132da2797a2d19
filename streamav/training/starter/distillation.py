"""Trains the compact encoders from scratch on rendered examples, to fit both the teacher's features and the classes.

It defines the losses; `student` runs the steps. It renders no examples and trains no localizer.
Source of the idea: arXiv 2106.05237 (a patient and consistent teacher); arXiv 2104.00298, section 4 (small pictures first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamav.networks.compact import CompactAudio, CompactVisual
from streamav.training.composite.picture import photometry
from streamav.training.starter.sound_examples import OFFSET
from streamav.training.starter.student import Student, fast_arithmetic, fit_student

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.training.starter.student import Steps

    Examples = Mapping[str, NDArray[np.generic]]

__all__ = ["train_audio", "train_visual"]

TRUTH_SHARE = 0.5
"""Share of the label in an example's target; the rest is the answer of a linear classifier on the teacher's features."""


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
    student = Student(encoder, size, classes, train["pooled"].shape[1], train["grid"].shape[-1])
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

    fit_student(student, loss, look, (train["labels"], val["labels"]), out / "visual", (plan, batch, seed))


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
    student = Student(encoder, size, classes, train["embeddings"].shape[1])
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

    fit_student(student, loss, look, (train["labels"], val["labels"]), out / "audio", (plan, batch, seed))


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
