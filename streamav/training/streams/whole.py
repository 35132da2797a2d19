"""Runs a whole model over features: the localizer, and the evidence of its labels from the class scores of the encoders.

Class scores are computed from the features, which are means over the pictures of a segment. A live run takes the mean of the scores of
single pictures; the difference is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from streamav.engines.modules import ScoringEncoder, build_modules
from streamav.errors import ModelError
from streamav.evaluation.counting import ScoredStream
from streamav.evidence import evidence_of
from streamav.networks.heads import LocalizerOutput, segment_probabilities
from streamav.training.streams.run import features_of, score_windows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.evaluation.manifest import StreamSegments
    from streamav.evidence import Sensed
    from streamav.networks.vscg import VSCG
    from streamav.training.data.feature_set import FeatureSet

__all__ = ["WholeModel"]

_LEAST = 1e-12
"""Floor of a probability before the logarithm."""


class WholeModel(nn.Module):
    """Localizer and evidence of a bundle. Its answers are the columns of the labels that a folder has, in the folder's order."""

    def __init__(self, bundle: Bundle, weights: Path | None, labels: Sequence[str] | None = None) -> None:
        """Build the networks.

        Args:
            bundle: a model with evidence.
            weights: folder with the encoders that the bundle does not contain.
            labels: labels whose probabilities are returned; None for those of the model.

        Raises:
            ModelError: when the bundle has no evidence, or weights are missing.
        """
        super().__init__()
        modules, evidence = build_modules(bundle, weights), evidence_of(bundle)
        audio, visual = modules["audio"], modules["visual"]
        if evidence is None or not isinstance(audio, ScoringEncoder) or not isinstance(visual, ScoringEncoder):
            msg = f"the model must have evidence, got {bundle.card.name} without"
            raise ModelError(msg)
        self._evidence, self._audio, self._visual = evidence, audio.encoder, visual.encoder
        self.localizer: VSCG = modules["localize_window"].localizer  # type: ignore[assignment] # torch types attributes as Tensor | Module
        slugs = bundle.card.slugs
        self._columns = [*(slugs.index(slug) for slug in (slugs if labels is None else labels)), len(slugs)]

    @torch.inference_mode()
    def run_stream(self, features: FeatureSet, stream: StreamSegments) -> ScoredStream:
        """Score every window of a stream: each segment is encoded once, as in a live run."""
        heard, seen = [], []
        sensed: list[Sensed] = []
        for audio, visual in features_of(features, stream):
            a, v, _ = self.localizer.encode_segment(audio, visual)
            heard.append(a)
            seen.append(v)
            sensed += self._sensed(audio, visual)
        segments = features.labels.shape[1]
        network = score_windows(self.localizer, torch.cat(heard), torch.cat(seen), segments, "argmax29")
        return ScoredStream(self._together([sensed[first : first + segments] for first in range(len(network))], network), stream.labels)

    def forward(self, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        """Return the logarithms of the probabilities of windows as segment logits, from audio (B, T, A) and visual (B, T, G, G, V)."""
        network = segment_probabilities(self.localizer(audio, visual), "argmax29").numpy()
        windows = [self._sensed(*window) for window in zip(audio, visual, strict=True)]
        logits = np.log(np.maximum(self._together(windows, network), _LEAST))
        return LocalizerOutput(segment_logits=torch.from_numpy(logits.astype(np.float32)))

    def _sensed(self, audio: Tensor, visual: Tensor) -> list[Sensed]:
        """Return the evidence in each of n segments."""
        rows = zip(self._audio.scores(audio).numpy(), self._visual.scores(visual).numpy(), visual.numpy(), strict=True)
        return [self._evidence.sensed_in(*row) for row in rows]

    def _together(self, windows: Sequence[Sequence[Sensed]], network: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._evidence.together(windows, network)[..., self._columns]
