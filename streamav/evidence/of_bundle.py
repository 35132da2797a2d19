"""The evidence of a model's bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.evidence.definitions import hidden_entries, model_columns
from streamav.evidence.labels import LabelEvidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.bundle.card import ClassEntry, EvidenceCard
    from streamav.evidence.definitions import Column

__all__ = ["evidence_of", "model_evidence"]


def evidence_of(
    bundle: Bundle, labels: Sequence[ClassEntry] | None = None, columns: Sequence[Column] | None = None
) -> LabelEvidence | None:
    """Return the evidence of a bundle's labels, or of *labels* with *columns*; None for a model whose localizer alone decides.

    Raises:
        SettingsError: when a label names a class that does not exist.
        ModelError: when the bundle lacks an array of the evidence.
    """
    card = bundle.card
    if card.evidence is None:
        return None
    if labels is None:
        return model_evidence(card.classes, card.evidence, bundle.weights("evidence"))
    return LabelEvidence(card.evidence, labels, bundle.weights("evidence"), columns=columns)


def model_evidence(classes: Sequence[ClassEntry], card: EvidenceCard, arrays: Mapping[str, NDArray[np.float32]]) -> LabelEvidence:
    """Return the evidence of a model's own classes; arguments and errors are those of `LabelEvidence`."""
    return LabelEvidence(card, (*classes, *hidden_entries(classes, card)), arrays, columns=model_columns(classes, card))
