"""Trains the probes of a model: linear classifiers on its picture grid for what its encoder's own classes lack, and one for drawings.

    python -m streamav.training.starter.probes --model edge --weights data/weights --faces faces --material composite24
        --pictures pictures --work runs/probes --out probes.npz

    face          each cell of the grid, on pictures whose faces a detector marked (faces/faces.csv)
    helicopter    (and mandolin, fire) the soft maximum of the cells, on the photos of these classes against all other photos
    drawn         the mean of the grid, on drawings of the embedded scene against photos and flat pictures

The encoder stays as it is. `fusion` reads the file. Grids are kept in the work folder, and are not computed again when they are there.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from streamav.bundle import find_bundle
from streamav.config import ModelSettings
from streamav.engines import open_engine
from streamav.errors import DataError
from streamav.files import whole_file
from streamav.training.starter.probe_examples import Marked, drawings, flat_pictures, grids, material_photos, pictures_in, read_faces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.protocols import Network

__all__ = ["PHOTO_PROBES", "Linear", "fit_cells", "fit_means", "fit_pictures"]

_log = logging.getLogger(__name__)

PHOTO_PROBES = ("helicopter", "mandolin", "fire")
"""Classes of the material for which ImageNet has no class that shows them well."""
_CELL_EPOCHS, _CELL_BATCH, _CELL_RATE, _CELL_DECAY = 5, 64, 1e-3, 1e-4
_PHOTO_EPOCHS, _PHOTO_BATCH, _PHOTO_RATE, _PHOTO_DECAY = 5, 128, 2e-3, 1e-3
_MEAN_STEPS, _MEAN_RATE, _MEAN_DECAY, _DRAWN_WEIGHT = 150, 0.02, 3e-3, 3.0
_FACE, _NEAR_FACE = 0.6, 0.3
"""Shares of a cell that a face covers. Above `_FACE` the cell shows a face. Any other cell counts in training only when faces cover at most
`_NEAR_FACE` of it and of each cell beside it."""
_FIRST_BIAS, _FIRST_DRAWN_BIAS = -4.0, -6.0
"""Biases before training: faces and classes are rare, drawings rarer."""


@dataclass(frozen=True, slots=True)
class Linear:
    """P linear classifiers on V features."""

    weight: NDArray[np.float32]
    """Shape (P, V)."""
    bias: NDArray[np.float32]
    """Shape (P,)."""


def fit_cells(rows: NDArray[np.floating], covered: NDArray[np.float32], seed: int = 0) -> Linear:
    """Fit a classifier of single cells.

    Args:
        rows: grids, shape (N, G, G, V).
        covered: share of each cell that the thing covers, shape (N, G, G), 0 to 1.
        seed: of the order of the pictures.
    """
    truth = torch.from_numpy(covered)
    wanted = (truth > _FACE).float()
    beside = functional.max_pool2d(truth[:, None], 3, 1, 1)[:, 0]
    counts = torch.where((beside > _NEAR_FACE) & (truth <= _FACE), 0.0, 1.0)
    weight, bias = _parameters(1, rows.shape[-1], _FIRST_BIAS)
    optimizer = torch.optim.Adam([weight, bias], lr=_CELL_RATE)
    for chosen in _batches(len(rows), _CELL_BATCH, _CELL_EPOCHS, seed):
        logits = (_tensor(rows, chosen) @ weight.T + bias)[..., 0]
        fit = functional.binary_cross_entropy_with_logits(logits, wanted[chosen], reduction="none") * counts[chosen]
        _step(optimizer, fit.sum(dim=(1, 2)).mean() + _CELL_DECAY * 1280.0 / 100.0 * (weight**2).sum())
    return Linear(weight.detach().numpy(), bias.detach().numpy())


def fit_pictures(rows: NDArray[np.floating], truth: NDArray[np.bool_], seed: int = 0) -> Linear:
    """Fit classifiers of whole pictures by the logarithm of the mean of the exponentials over the cells.

    Args:
        rows: grids, shape (N, G, G, V).
        truth: shape (N, P).
        seed: of the order of the pictures.
    """
    wanted = torch.from_numpy(truth.astype(np.float32))
    weight, bias = _parameters(truth.shape[1], rows.shape[-1], _FIRST_BIAS)
    optimizer = torch.optim.Adam([weight, bias], lr=_PHOTO_RATE)
    for chosen in _batches(len(rows), _PHOTO_BATCH, _PHOTO_EPOCHS, seed):
        cells = _tensor(rows, chosen).flatten(1, 2) @ weight.T + bias
        logits = torch.logsumexp(cells, dim=1) - float(np.log(cells.shape[1]))
        fit = functional.binary_cross_entropy_with_logits(logits, wanted[chosen], reduction="none").sum(dim=1).mean()
        _step(optimizer, fit + _PHOTO_DECAY * 1280.0 * (weight**2).mean())
    return Linear(weight.detach().numpy(), bias.detach().numpy())


def fit_means(shown: NDArray[np.float32], others: NDArray[np.float32]) -> Linear:
    """Fit a classifier of the mean of the grid, shape (N, V) each: *shown* against *others*."""
    rows = torch.from_numpy(np.concatenate([shown, others]))
    wanted = torch.cat([torch.ones(len(shown)), torch.zeros(len(others))])
    mean, deviation = rows.mean(dim=0), rows.std(dim=0) + 0.05
    weight, bias = _parameters(1, rows.shape[1], _FIRST_DRAWN_BIAS)
    optimizer = torch.optim.Adam([weight, bias], lr=_MEAN_RATE)
    counts = torch.where(wanted > 0.0, _DRAWN_WEIGHT, 1.0)
    for _ in range(_MEAN_STEPS):
        logits = (((rows - mean) / deviation) @ weight.T + bias)[:, 0]
        _step(optimizer, functional.binary_cross_entropy_with_logits(logits, wanted, weight=counts) + _MEAN_DECAY * (weight**2).sum())
    slopes = weight.detach() / deviation
    return Linear(slopes.numpy(), (bias.detach() - slopes @ mean).numpy())


def _parameters(count: int, size: int, bias: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(count, size, requires_grad=True), torch.full((count,), bias, requires_grad=True)


def _tensor(rows: NDArray[np.floating], chosen: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(rows[chosen], dtype=np.float32))


def _batches(count: int, size: int, epochs: int, seed: int) -> list[NDArray[np.int64]]:
    orders = [np.random.default_rng([seed, epoch]).permutation(count) for epoch in range(epochs)]
    return [np.sort(order[first : first + size]) for order in orders for first in range(0, count, size)]


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _joined(parts: Sequence[Linear]) -> Linear:
    return Linear(np.concatenate([one.weight for one in parts]), np.concatenate([one.bias for one in parts]))


def _fit_drawn(network: Network, photos: Sequence[NDArray[np.floating]], count: int, side: int, work: Path) -> Linear:
    """Fit the probe of drawings on *count* of them, against the grids of photos and flat pictures."""
    scene, flat = (
        grids(network, pictures, side, work / f"{name}.npy").mean(axis=(1, 2), dtype=np.float32)
        for name, pictures in (("drawings", drawings(count, side)), ("flat", flat_pictures(count * 3 // 5, side)))
    )
    others = np.concatenate([flat, *(one.mean(axis=(1, 2), dtype=np.float32) for one in photos)])
    drawn = fit_means(scene, others)
    highest, lowest = ((rows @ drawn.weight[0] + drawn.bias[0]) for rows in (others, scene))
    _log.info("drawn: at most %.1f on %d photos and flat pictures, at least %.1f on drawings", highest.max(), len(others), lowest.min())
    return drawn


def main() -> None:
    """Read the command line, train the probes, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model whose picture encoder is used: a name, or the folder of a bundle")
    parser.add_argument("--weights", type=Path, help="folder with the encoders that the bundle does not contain")
    parser.add_argument("--faces", type=Path, required=True, help="folder with pictures and faces.csv: file,x,y,width,height in pixels")
    parser.add_argument(
        "--material", type=Path, required=True, help="folder with index.csv (docs/composites.md); its train photos are used"
    )
    parser.add_argument("--pictures", type=Path, required=True, help="folder of photos without any of the things, nor drawings")
    parser.add_argument("--drawings", type=int, default=500, help="number of drawn pictures")
    parser.add_argument("--work", type=Path, required=True, help="folder for the grids")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    bundle = find_bundle(given.model)
    network = open_engine(bundle, ModelSettings(name=given.model, weights_dir=given.weights)).network("visual")
    side, grid = bundle.card.visual.picture[0], bundle.card.visual.grid
    faces = read_faces(given.faces, grid)
    photos = material_photos(given.material)
    plain = [Marked(path) for path in pictures_in(given.pictures)]
    if not faces or not photos or not plain:
        msg = f"probes need marked faces, photos and further pictures, got {len(faces)}, {len(photos)} and {len(plain)}"
        raise DataError(msg)
    sources = {"faces": faces, "photos": photos, "pictures": plain}
    marked, shown, other = (grids(network, one, side, given.work / f"{name}.npy") for name, one in sources.items())
    covered = np.stack([np.zeros((grid, grid), np.float32) if one.covered is None else one.covered for one in faces])
    face = fit_cells(marked, covered)
    _log.info("face: fitted on %d pictures", len(faces))
    truth = np.array([[one.label == name for name in PHOTO_PROBES] for one in [*photos, *plain]])
    things = fit_pictures(np.concatenate([shown, other]), truth)
    _log.info("%s: fitted on %d photos", ", ".join(PHOTO_PROBES), len(truth))
    drawn = _fit_drawn(network, (marked, shown, other), given.drawings, side, given.work)
    probes = _joined([face, things])
    arrays: dict[str, Any] = {
        "names": np.array(["face", *PHOTO_PROBES]),
        "probes.weight": probes.weight,
        "probes.bias": probes.bias,
        "drawn.weight": drawn.weight,
        "drawn.bias": drawn.bias,
    }
    with whole_file(given.out) as path, path.open("wb") as opened:
        np.savez(opened, **arrays)


if __name__ == "__main__":
    main()
