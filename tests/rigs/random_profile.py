"""The networks of a profile with random weights, and random inputs for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from streamav.bench.random_models import write_random_bundle
from streamav.bundle import Bundle
from streamav.engines.modules import build_modules
from streamav.networks.options import VSCGOptions


@dataclass(frozen=True, eq=False)
class Profile:
    """A model of true shapes."""

    bundle: Bundle
    modules: dict[str, nn.Module]

    def inputs(self, count: int) -> dict[str, tuple[NDArray[np.generic], ...]]:
        """Return random inputs of every network."""
        generator, card = np.random.default_rng(0), self.bundle.card
        size = VSCGOptions.from_dict(card.localizer.options).segment_size
        grid = (count, card.visual.grid, card.visual.grid, card.visual.size)
        return {
            "visual": (generator.integers(0, 256, (count, *card.visual.picture, 3), np.uint8),),
            "audio": (generator.standard_normal((count, 96, 64), np.float32),),
            "encode_segment": (generator.standard_normal((count, card.audio.size), np.float32), generator.random(grid, np.float32)),
            "localize_window": tuple(generator.standard_normal((count, 10, size), np.float32) for _ in range(2)),
        }


def random_profile(name: str, folder: Path) -> Profile:
    """Write a bundle of a profile into *folder* and build its networks."""
    bundle = write_random_bundle(name, folder / name)
    return Profile(bundle, build_modules(bundle))
