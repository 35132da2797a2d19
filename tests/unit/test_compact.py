from __future__ import annotations

import pytest
import torch

from streamav.networks.compact import COMPACT_GRID, COMPACT_SIDE, CompactAudio, CompactVisual

MOST_PARAMETERS = 5_000_000
"""In half precision, both encoders have at most 10 MB of the bundle's 12 MB."""


@pytest.mark.parametrize("batch", [1, 3])
def test_audio_gives_one_bounded_vector_a_second(batch: int) -> None:
    """Log-mel patches become vectors of the requested size, with numbers from -1 to 1."""
    vectors = CompactAudio(size=128).eval()(torch.randn(batch, 96, 64) * 3)
    assert vectors.shape == (batch, 128)
    assert vectors.abs().max() <= 1.0


@pytest.mark.parametrize("batch", [1, 3])
def test_visual_gives_a_grid_that_is_nowhere_negative(batch: int) -> None:
    """RGB pictures become a 7 x 7 grid of vectors of the requested size."""
    pictures = torch.randint(0, 256, (batch, COMPACT_SIDE, COMPACT_SIDE, 3), dtype=torch.uint8)
    grid = CompactVisual(size=256).eval()(pictures)
    assert grid.shape == (batch, COMPACT_GRID, COMPACT_GRID, 256)
    assert grid.min() >= 0.0


def test_a_change_in_a_corner_changes_that_corner_most() -> None:
    """The grid keeps positions: rows from the top, columns from the left."""
    torch.manual_seed(0)
    network = CompactVisual().eval()
    plain = torch.full((1, COMPACT_SIDE, COMPACT_SIDE, 3), 128, dtype=torch.uint8)
    changed = plain.clone()
    changed[:, :16, -16:] = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
    difference = (network(changed) - network(plain)).abs().sum(dim=3)[0]
    assert difference[0, -1] > 10 * difference[-1, 0]
    assert difference[0, -1] > difference[-1, -1]


def test_a_picture_does_not_depend_on_its_batch() -> None:
    """In eval mode the output for one picture is the same alone and in a batch."""
    network = CompactVisual().eval()
    pictures = torch.randint(0, 256, (4, COMPACT_SIDE, COMPACT_SIDE, 3), dtype=torch.uint8)
    torch.testing.assert_close(network(pictures)[2:3], network(pictures[2:3]), atol=1e-5, rtol=1e-4)


def test_both_fit_the_package() -> None:
    """Both encoders leave room for the localizer in 12 MB of half-precision numbers."""
    count = sum(p.numel() for network in (CompactAudio(), CompactVisual()) for p in network.parameters())
    assert count < MOST_PARAMETERS
