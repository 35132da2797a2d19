"""Evidence arrays of a small bundle, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.vocabulary import class_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HEARD", "SEEN", "arrays"]

HEARD, SEEN = len(class_names("hear")), len(class_names("see"))


def arrays(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return evidence arrays with 40 reference segments; features have four numbers."""
    rng = np.random.default_rng(seed)
    seen = rng.gamma(0.1, 1.0, (40, SEEN))
    return {
        "probes.weight": np.eye(2, 4, dtype=np.float32),
        "probes.bias": np.zeros(2, np.float32),
        "drawn.weight": np.zeros((1, 4), np.float32),
        "drawn.bias": np.full(1, -20.0, np.float32),
        "reference.heard": rng.uniform(0, 0.1, (40, HEARD)).astype(np.float32),
        "reference.seen": (seen / seen.sum(axis=1, keepdims=True)).astype(np.float32),
        "reference.probed": rng.normal(-3, 1, (40, 2)).astype(np.float32),
    }
