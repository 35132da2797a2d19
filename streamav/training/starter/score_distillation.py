"""Teaches the compact encoders the class scores of public networks, from encoders that have learned the features.

The classifier and the probes are linear on what the encoder gives. Classes that a label or a preset uses count more. It writes
state_dicts and the probes, and renders no examples.
Source of the idea: arXiv 1503.02531 (soft targets of a teacher, one of them at a higher temperature).
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
from streamav.networks.compact import CompactAudio, CompactVisual
from streamav.networks.regions import region_means
from streamav.training.composite.picture import photometry
from streamav.training.starter.degradation import degraded
from streamav.training.starter.student import fast_arithmetic, followed, schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Examples = Mapping[str, NDArray[np.generic]]

__all__ = ["ScorePlan", "class_weights", "teach_audio_scores", "teach_visual_scores"]

_log = logging.getLogger(__name__)

HEAD_RATE = 3.0
"""Learning rate of the linear layers as a multiple of the encoder's."""
RELATED_WEIGHT = 6.0
"""Weight of an AudioSet class that a label uses; the others have 1."""
ACTIVE_SCORE, ACTIVE_WEIGHT = 0.08, 6.0
"""A class with at least this score counts this much more: nearly all of the 521 are silent in nearly every segment."""
LEAST_LOGIT = -9.0
"""Logits below are equal to the student: their differences say nothing."""
LEAST_PROBABILITY = 1e-4
"""Added to probabilities before their logarithm."""
_TEMPERATURE = 2.0
"""The higher temperature of one of the two divergences. Source: arXiv 1503.02531, section 2."""
_MIRRORED = [2, 1, 0, 5, 4, 3, 8, 7, 6]
"""The nine regions of a mirrored picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePlan:
    """Amount of training of one encoder."""

    steps: int
    heads_only: int = 200
    """Steps at the start in which only the linear layers learn."""
    batch: int = 64
    rate: float = 1e-3
    """Highest learning rate of the encoder."""
    seed: int = 0


def class_weights(groups: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Return the weight of each class, shape (classes,): `RELATED_WEIGHT` for members of a group, 1 for others."""
    weights = torch.ones(classes)
    for group in groups:
        weights[list(group)] = RELATED_WEIGHT
    return weights


class _AudioStudent(nn.Module):
    def __init__(self, encoder: CompactAudio, size: int, teacher: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.project = nn.Linear(size, teacher)


class _VisualStudent(nn.Module):
    def __init__(self, encoder: CompactVisual, size: int, probes: int, cells: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.probes = nn.Linear(size, probes)
        self.cells = nn.Linear(size, cells)


def audio_score_loss(logits: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of AudioSet logits (B, 521) against the teacher's: cross-entropy of the scores, and distance of the logits.

    The distance is there because the labels' evidence is a logit: it must be right far below a score of one half.
    """
    scores = torch.sigmoid(wanted)
    active = 1 + ACTIVE_WEIGHT * (scores > ACTIVE_SCORE).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, scores, reduction="none") * weights * active
    distance = functional.smooth_l1_loss(logits.clamp_min(LEAST_LOGIT), wanted.clamp_min(LEAST_LOGIT), reduction="none")
    near = weights * (1 + 3 * torch.sigmoid(wanted + 4))
    return 0.3 * entropy.sum(-1).mean() + 6 * (distance * near).sum(-1).mean() / weights.sum()


def picture_score_loss(logits: Tensor, wanted: Tensor, members: Tensor) -> Tensor:
    """Return the loss of ImageNet logits (B, 9, 1000) against the teacher's probabilities: divergences, and distance of evidence.

    Args:
        logits: of each region.
        wanted: probabilities of each region.
        members: (K, 1000), 1 where a class belongs to a label; the evidence of a label is the logarithm of its classes' probability.
    """
    lines = torch.log_softmax(logits, -1)
    plain = (wanted * ((wanted + 1e-9).log() - lines)).sum(-1).mean()
    flat = wanted ** (1 / _TEMPERATURE)
    flat = flat / flat.sum(-1, keepdim=True)
    flatter = (flat * ((flat + 1e-9).log() - torch.log_softmax(logits / _TEMPERATURE, -1))).sum(-1).mean()
    said, truth = ((p.mean(1) @ members.T + LEAST_PROBABILITY).log() for p in (lines.exp(), wanted))
    seen = 1 + 2 * (truth > np.log(0.01)).float()
    groups = (functional.smooth_l1_loss(said, truth, reduction="none") * seen).mean() if len(members) else torch.zeros(())
    return plain + _TEMPERATURE * flatter + 1.5 * groups


def teach_audio_scores(
    start: Mapping[str, Tensor], train: Examples, noises: Tensor, out: Path, plan: ScorePlan, groups: Sequence[Sequence[int]]
) -> float:
    """Teach the AudioSet scores and write audio.safetensors (encoder and classifier) into *out*; return the last loss.

    The student hears noise, rooms and narrow bands that the teacher did not hear.

    Args:
        start: state_dict of a CompactAudio without classifier.
        train: examples of `score_examples.render_scored_sounds`.
        noises: patches of `degradation.noise_patches`.
        out: folder.
        plan: amount of training.
        groups: AudioSet indices of each label.
    """
    torch.manual_seed(plan.seed)
    size, classes = int(start["embedding.weight"].shape[0]), int(train["logits"].shape[1])
    encoder = CompactAudio(size, classes)
    encoder.load_state_dict(dict(start), strict=False)
    student = _AudioStudent(encoder, size, int(train["embeddings"].shape[1]))
    some = torch.from_numpy(train["embeddings"][:3000].astype(np.float32))
    mean, spread = some.mean(0), some.std(0) + 0.05
    weights = class_weights(groups, classes)
    generator = torch.Generator().manual_seed(plan.seed)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        patches = degraded(_blurred(torch.from_numpy(train["patches"][rows].astype(np.float32)), generator), noises, generator)
        with fast_arithmetic():
            vector = encoder(patches).float()
        assert encoder.classifier is not None  # noqa: S101 - built with classes above
        target = (torch.from_numpy(train["embeddings"][rows].astype(np.float32)) - mean) / spread
        alike = 1 - functional.cosine_similarity(student.project(vector), target).mean()
        wanted = torch.from_numpy(train["logits"][rows].astype(np.float32))
        return audio_score_loss(encoder.classifier(vector), wanted, weights) + 1.5 * alike

    whole, last = _teach(student, encoder, loss, len(train["logits"]), plan)
    _save({name: value for name, value in whole.items() if not name.startswith("project")}, out / "audio.safetensors")
    return last


def teach_visual_scores(
    start: Mapping[str, Tensor],
    train: Examples,
    out: Path,
    plan: ScorePlan,
    groups: Sequence[Sequence[int]],
    names: Sequence[str] = (),
    size: int = 256,
) -> float:
    """Teach the ImageNet scores; write visual.safetensors (encoder and classifier) and probes.npz into *out*; return the last loss.

    Args:
        start: state_dict of a CompactVisual without classifier.
        train: examples of `score_examples.render_scored_pictures`.
        out: folder.
        plan: amount of training.
        groups: ImageNet indices of each label that has some.
        names: of the probes, in the order of the examples; probes.npz has them with `w` (P, V) and `b` (P,).
        size: V, channels of a cell.
    """
    torch.manual_seed(plan.seed)
    classes = int(train["probabilities"].shape[2])
    encoder = CompactVisual(size, classes)
    encoder.load_state_dict(dict(start), strict=False)
    student = _VisualStudent(encoder, size, int(train["probes"].shape[-1]), int(train["cells"].shape[-1]))
    spread = torch.from_numpy(train["cells"][:1500].astype(np.float32)).flatten(0, 2).std(0) + 1e-3
    members = torch.zeros(len(groups), classes)
    for row, group in enumerate(groups):
        members[row, list(group)] = 1
    generator = torch.Generator().manual_seed(plan.seed)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        pictures = torch.from_numpy(train["pictures"][rows]).permute(0, 3, 1, 2).float()
        wanted, cells, probes = (torch.from_numpy(train[name][rows].astype(np.float32)) for name in ("probabilities", "cells", "probes"))
        mirrored = torch.rand(len(rows), generator=generator) < 0.5  # noqa: PLR2004
        pictures[mirrored], wanted[mirrored] = pictures[mirrored].flip(3), wanted[mirrored][:, _MIRRORED]
        cells[mirrored], probes[mirrored] = cells[mirrored].flip(2), probes[mirrored].flip(2)
        changed = torch.rand(len(rows), generator=generator) < 0.6  # noqa: PLR2004 - the others stay as the teacher saw them
        pictures[changed] = photometry(pictures[changed], generator)
        with fast_arithmetic():
            grid = encoder(pictures.permute(0, 2, 3, 1)).float()
        assert encoder.classifier is not None  # noqa: S101 - built with classes above
        value = picture_score_loss(encoder.classifier(region_means(grid)), wanted, members)
        value = value + 0.7 * functional.mse_loss(student.cells(grid), cells / spread)
        return value + _probe_loss(student.probes(grid), probes) if names else value

    whole, last = _teach(student, encoder, loss, len(train["cells"]), plan)
    weight, bias = whole.pop("probes.weight"), whole.pop("probes.bias")
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "probes.npz") as part, part.open("wb") as file:
        np.savez(file, names=np.array(list(names), dtype=str), w=weight.numpy(), b=bias.numpy())
    _save({name: value for name, value in whole.items() if not name.startswith("cells")}, out / "visual.safetensors")
    return last


def _probe_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross-entropy of probes (B, 7, 7, P) in the cells and in the regions."""
    cells = functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(wanted), reduction="none").sum((1, 2)).mean()
    said, truth = region_means(logits), region_means(wanted)
    return 0.5 * cells + 0.5 * functional.binary_cross_entropy_with_logits(said, torch.sigmoid(truth), reduction="none").sum(-1).mean()


def _blurred(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise to a third of the patches, and blank a few bands of a fifth to their mean."""
    x = patches.clone()
    noisy = torch.rand(len(x), generator=generator) < 0.3  # noqa: PLR2004
    x[noisy] += torch.empty_like(x[noisy]).normal_(generator=generator) * 0.25
    width = int(torch.randint(1, 7, (1,), generator=generator))
    first = int(torch.randint(0, x.shape[2] - width, (1,), generator=generator))
    blank = torch.rand(len(x), generator=generator) < 0.2  # noqa: PLR2004
    band = x[blank, :, first : first + width]
    x[blank, :, first : first + width] = band.mean(2, keepdim=True).expand_as(band)
    return x


def _teach(
    student: nn.Module, encoder: nn.Module, loss: Callable[[NDArray[np.int64]], Tensor], count: int, plan: ScorePlan
) -> tuple[dict[str, Tensor], float]:
    """Run AdamW; return the moving average of the weights, the encoder's names without prefix, and the loss's running mean."""
    rng = np.random.default_rng(plan.seed)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    held = {id(p) for name, p in encoder.named_parameters() if not name.startswith("classifier")}
    trunk = [p for p in student.parameters() if id(p) in held]
    heads = [p for p in student.parameters() if id(p) not in held]
    optimizer = torch.optim.AdamW([{"params": trunk}, {"params": heads}], weight_decay=0.01)
    average = AveragedModel(student, avg_fn=followed, use_buffers=True)
    average.update_parameters(student)
    mean = float("nan")
    for step in range(plan.steps):
        frozen = step < plan.heads_only
        student.train()
        if frozen:
            encoder.eval()
        rate = schedule(step, plan.steps, plan.rate)
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 0.0 if frozen else rate, rate * HEAD_RATE
        for parameter in trunk:
            parameter.requires_grad_(not frozen)
        value = loss(np.sort(rng.integers(0, count, plan.batch)))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimizer.step()
        average.update_parameters(student)
        mean = value.item() if step == 0 else 0.95 * mean + 0.05 * value.item()
        if (step + 1) % max(1, plan.steps // 20) == 0:
            _log.info("scores step=%d/%d loss=%.3f", step + 1, plan.steps, mean)
    state = {name.removeprefix("encoder."): tensor.detach().contiguous() for name, tensor in average.module.state_dict().items()}
    return state, mean


def _save(state: dict[str, Tensor], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file, durable=True, alone=True) as part:  # the result of a long training; its name marks the stage as done
        save_file(state, part)
