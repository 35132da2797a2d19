"""Tests of frozen networks as functions of arrays."""

from __future__ import annotations

import numpy as np
import torch

from streamav.networks.compact import CompactAudio
from streamav.training.composite.frozen import session


def test_a_frozen_network_answers_any_batch_as_torch_does() -> None:
    """The function gives the network's first result, as float32, for batches of one, three and the traced two."""
    network = CompactAudio(8, 5).eval()
    hear = session(network, torch.zeros(2, 96, 64))
    for count in (1, 2, 3):
        patches = np.random.default_rng(count).standard_normal((count, 96, 64), np.float32)
        with torch.no_grad():
            wanted = network(torch.from_numpy(patches))
        got = hear(patches)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4)
