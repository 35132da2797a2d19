"""Trains the compact encoders from scratch on rendered examples: the teacher's features and the classes, together.

It writes state_dicts and logs numbers; how examples are made, scenes, windows and the localizer are elsewhere.
Source of the idea: arXiv 2106.05237 (a patient and consistent teacher); arXiv 2104.00298, section 4 (small pictures first).
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from streamav.networks.compact import COMPACT_SIDE, CompactAudio, CompactVisual
from streamav.training.composite.picture import photometry
from streamav.training.encoder_examples import GRID_DIMENSIONS, OFFSET
from streamav.training.trainer import follow

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streamav.training.encoder_examples import Examples

__all__ = ["train_audio", "train_visual"]

_log = logging.getLogger(__name__)

NONE_SHARE = 0.12
"""Share of a batch that shows or plays none of the classes."""


class _Student(nn.Module):
    """An encoder with its heads for training only: classes, and projections onto the teacher's features."""

    def __init__(self, encoder: nn.Module, size: int, classes: int, teacher: int, grid: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.classify = nn.Linear(size, classes)
        self.project = nn.Linear(size, teacher)
        self.project_grid = nn.Linear(size, grid) if grid else None


def _resume(student: _Student, place: Path) -> None:
    """Go on from the averaged network that an earlier training wrote, if there is one."""
    if Path(f"{place}.safetensors").is_file():
        encoder = {f"encoder.{name}": tensor for name, tensor in load_file(f"{place}.safetensors").items()}
        student.load_state_dict({**encoder, **load_file(f"{place}-heads.safetensors")})
        _log.info("%s goes on from %s.safetensors", place.name, place)


def _schedule(step: int, steps: int, peak: float) -> float:
    """Rise over the first 5 %, then fall by a cosine to 1 % of the peak."""
    rise = max(1, steps // 20)
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (step - rise) / max(1, steps - rise)))))


class _Average:
    """Exponential moving average of a network's state: the one that is kept."""

    def __init__(self, network: nn.Module) -> None:
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self.count = 0

    def update(self, network: nn.Module) -> None:
        self.count += 1
        decay = min(0.998, self.count / (self.count + 10))
        follow(self.state, network.state_dict(), decay)


def _balanced(labels: NDArray[np.int64], none_share: float, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Draw *count* rows such that classes are equally likely; the highest label (none) has its own share; -1 counts as a class."""
    values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weight = np.where(values == values.max(), none_share, (1 - none_share) / (len(values) - 1)) / counts
    share = weight[inverse]
    return rng.choice(len(labels), count, p=share / share.sum())


def train_visual(
    train: Examples,
    val: Examples,
    out: Path,
    minutes: float,
    *,
    batch: int = 48,
    seed: int = 0,
    side: int = COMPACT_SIDE,
) -> None:
    """Train CompactVisual for a time; writes visual.safetensors (encoder) and visual-heads.safetensors into *out*.

    What already lies there is trained on. A smaller *side* than 112 pixels first, then 112, gives more steps for the same time
    (progressive resizing: arXiv 2104.00298, section 4).
    """
    torch.manual_seed(seed)
    classes = int(train["labels"].max()) + 1
    encoder = CompactVisual()
    student = _Student(encoder, 256, classes, 1280, GRID_DIMENSIONS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _resume(student, out / "visual")
    pooled = torch.from_numpy(train["pooled"].astype(np.float32))
    pooled_mean, pooled_scale = pooled.mean(0), pooled.std(0) + 0.1
    opinion = _probe((pooled - pooled_mean) / pooled_scale, train["labels"], classes)
    cells_mean, cells_scale = _moments(train["grid"][:3000])
    del pooled
    generator = torch.Generator().manual_seed(seed)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        flip = bool(torch.rand(1, generator=generator) < 0.5)  # noqa: PLR2004
        pictures = torch.from_numpy(train["pictures"][rows]).permute(0, 3, 1, 2).float()
        pictures = pictures.flip(3) if flip else pictures
        changed = int(0.6 * len(pictures))  # the rest stays as it is: few steps do not suffice to learn from hard pictures alone
        pictures = torch.cat([photometry(pictures[:changed], generator), pictures[changed:]])
        if side != COMPACT_SIDE:
            pictures = functional.interpolate(pictures, (side, side), mode="bilinear", antialias=True)
        grid = encoder(pictures.permute(0, 2, 3, 1))
        wanted = torch.from_numpy(train["grid"][rows].astype(np.float32))
        wanted = (wanted - cells_mean) / cells_scale
        wanted = wanted.flip(2) if flip else wanted
        if grid.shape[1] != wanted.shape[1]:
            wanted = functional.adaptive_avg_pool2d(wanted.permute(0, 3, 1, 2), grid.shape[1:3]).permute(0, 2, 3, 1)
        pooled = grid.mean(dim=(1, 2))
        target = (torch.from_numpy(train["pooled"][rows].astype(np.float32)) - pooled_mean) / pooled_scale
        alike = 1 - functional.cosine_similarity(student.project(pooled), target).mean()
        cells = functional.mse_loss(student.project_grid(grid), wanted) if student.project_grid is not None else torch.zeros(())
        truth = functional.one_hot(torch.from_numpy(train["labels"][rows]), classes)
        named = functional.cross_entropy(student.classify(pooled), 0.5 * truth + 0.5 * opinion[rows])
        return named + 3.0 * alike + 0.5 * cells

    def accuracy() -> str:
        guess = []
        with torch.no_grad():
            for start in range(0, len(val["labels"]), 64):
                pictures = torch.from_numpy(val["pictures"][start : start + 64])
                if side != COMPACT_SIDE:
                    small = functional.interpolate(pictures.permute(0, 3, 1, 2).float(), (side, side), mode="bilinear", antialias=True)
                    pictures = small.permute(0, 2, 3, 1)
                guess.append(student.classify(encoder(pictures).mean(dim=(1, 2))).argmax(1))
        return _describe(torch.cat(guess).numpy(), val["labels"].astype(np.int64))

    _fit(student, loss, accuracy, train["labels"], out / "visual", (minutes, batch, seed))


def train_audio(train: Examples, val: Examples, out: Path, minutes: float, *, batch: int = 64, seed: int = 0) -> None:
    """Train CompactAudio for a time; writes audio.safetensors (encoder) and audio-heads.safetensors into *out*."""
    torch.manual_seed(seed)
    classes = int(train["labels"].max()) + 1
    encoder = CompactAudio()
    student = _Student(encoder, 128, classes, 1024).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = torch.from_numpy(train["embeddings"].astype(np.float32)).mean(0)
    generator = torch.Generator().manual_seed(seed)
    quiet = np.flatnonzero(train["labels"] == classes - 1)

    def loss(rows: NDArray[np.int64]) -> Tensor:
        patches = torch.from_numpy(train["patches"][rows].astype(np.float32))
        other = torch.from_numpy(train["patches"][np.random.default_rng(int(rows[0])).choice(quiet, len(rows))].astype(np.float32))
        vector = encoder(_changed(patches, other, generator))
        target = torch.from_numpy(train["embeddings"][rows].astype(np.float32)) - mean
        alike = 1 - functional.cosine_similarity(student.project(vector), target).mean()
        labels = torch.from_numpy(train["labels"][rows])
        named = functional.cross_entropy(student.classify(vector), labels, label_smoothing=0.1, ignore_index=-1)
        return named + 3.0 * alike

    def accuracy() -> str:
        starts = range(0, len(val["labels"]), 64)
        with torch.no_grad():
            parts = [torch.from_numpy(val["patches"][start : start + 64].astype(np.float32)) for start in starts]
            guess = [student.classify(encoder(part)).argmax(1) for part in parts]
        return _describe(torch.cat(guess).numpy(), val["labels"].astype(np.int64))

    _fit(student, loss, accuracy, train["labels"], out / "audio", (minutes, batch, seed))


def _moments(cells: NDArray[np.generic]) -> tuple[Tensor, Tensor]:
    """Give mean and scale of each principal component: the small ones tell classes apart as much as the large ones."""
    flat = torch.from_numpy(cells.astype(np.float32)).flatten(0, 2)
    return flat.mean(0), flat.std(0) + 1e-3


def _probe(features: Tensor, labels: NDArray[np.generic], classes: int, ridge: float = 300.0, sharpness: float = 8.0) -> Tensor:
    """Give what a linear reader of the teacher's features thinks of every example, shape (n, classes), rows sum to 1."""
    truth = functional.one_hot(torch.from_numpy(labels.astype(np.int64)), classes).float()
    truth = truth - truth.mean(0)
    weights = torch.linalg.solve(features.T @ features + ridge * torch.eye(features.shape[1]), features.T @ truth)
    return torch.softmax(sharpness * (features @ weights), dim=1)


def _changed(patches: Tensor, ambience: Tensor, generator: torch.Generator) -> Tensor:
    """Change level, add ambience, and blank a band and a stretch of log-mel patches.

    Sounds are added as magnitudes, which is near enough.
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
    loss: Callable[[NDArray[np.int64]], Tensor],
    accuracy: Callable[[], str],
    labels: NDArray[np.generic],
    out: Path,
    plan: tuple[float, int, int],
) -> None:
    """Run Adam for minutes on batches from a seed (*plan*), keep the moving average, log the accuracy on val now and then."""
    minutes, batch, seed = plan
    out.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.02)
    average = _Average(student)
    begun, step, last = time.monotonic(), 0, 0.0
    total = minutes * 60.0
    while (spent := time.monotonic() - begun) < total:
        # The rate follows the clock, not a count of steps: the machine is shared.
        for group in optimizer.param_groups:
            group["lr"] = _schedule(int(spent / total * 1000), 1000, 2.5e-3)
        student.train()
        value = loss(_balanced(labels, NONE_SHARE, rng, batch))  # type: ignore[arg-type]
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 2.0)
        optimizer.step()
        average.update(student)
        step += 1
        if spent - last > total / 8:
            last = spent
            _report(student, average, accuracy, out, f"step={step} minutes={spent / 60:.1f} loss={value.item():.3f}")
    _report(student, average, accuracy, out, f"step={step} minutes={minutes:.1f} done")


def _report(student: _Student, average: _Average, accuracy: Callable[[], str], out: Path, what: str) -> None:
    """Measure and write the averaged network, then go on with the running one."""
    averaged = {name: tensor.contiguous() for name, tensor in average.state.items()}
    running = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
    student.load_state_dict(average.state)
    student.eval()
    _log.info("%s %s %s", out.name, what, accuracy())
    save_file({n.removeprefix("encoder."): t for n, t in averaged.items() if n.startswith("encoder.")}, f"{out}.safetensors")
    save_file({n: t for n, t in averaged.items() if not n.startswith("encoder.")}, f"{out}-heads.safetensors")
    student.load_state_dict(running)
