"""Judges a model with evidence on streams of composite clips: the class scores are computed from the features in the folder.

    python -m streamav.training.starter.composed --model edge --data features-edge --weights data/weights

`streamav eval` judges the localizer alone. Thresholds are tuned on val streams for six false alarms an hour of background, as there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from streamav.bundle import find_bundle
from streamav.engines.modules import ScoringEncoder, build_modules
from streamav.errors import ModelError
from streamav.evaluation.counting import ScoredStream
from streamav.evaluation.tuning.classes import tune_general
from streamav.evidence import evidence_of
from streamav.training.data.folder import AveOptions, open_ave
from streamav.training.streams.judge import StreamPlan, scored
from streamav.training.streams.run import features_of, manifest_of, score_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.evaluation.manifest import StreamSegments
    from streamav.evidence import Sensed
    from streamav.networks.vscg import VSCG
    from streamav.training.data.feature_set import FeatureSet

__all__ = ["Judge", "main"]


class Judge:
    """Runs the localizer and the evidence of a bundle over the features of streams."""

    def __init__(self, bundle: Bundle, weights: Path | None) -> None:
        """Build the networks.

        Args:
            bundle: a model with evidence.
            weights: folder with the encoders that the bundle does not contain.

        Raises:
            ModelError: when the bundle has no evidence, or weights are missing.
        """
        modules, evidence = build_modules(bundle, weights), evidence_of(bundle)
        audio, visual = modules["audio"], modules["visual"]
        if evidence is None or not isinstance(audio, ScoringEncoder) or not isinstance(visual, ScoringEncoder):
            msg = f"the model must have evidence, got {bundle.card.name} without; judge it with: streamav eval"
            raise ModelError(msg)
        self._evidence, self._audio, self._visual = evidence, audio.encoder, visual.encoder
        self._localizer: VSCG = modules["localize_window"].localizer  # type: ignore[assignment] # torch types attributes as Tensor | Module

    def streams(self, features: FeatureSet, rows: list[StreamSegments]) -> Iterator[ScoredStream]:
        """Score every window of each stream."""
        for stream in rows:
            yield ScoredStream(self._scores(features, stream), stream.labels)

    @torch.inference_mode()
    def _scores(self, features: FeatureSet, stream: StreamSegments) -> NDArray[np.float32]:
        heard, seen = [], []
        sensed: list[Sensed] = []
        for audio, visual in features_of(features, stream):
            a, v, _ = self._localizer.encode_segment(audio, visual)
            heard.append(a)
            seen.append(v)
            scores = zip(self._audio.scores(audio).numpy(), self._visual.scores(visual).numpy(), visual.numpy(), strict=True)
            sensed += [self._evidence.sensed_in(*row) for row in scores]
        segments = features.labels.shape[1]
        network = score_windows(self._localizer, torch.cat(heard), torch.cat(seen), segments, "argmax29")
        return self._evidence.together([sensed[first : first + segments] for first in range(len(network))], network)


def main() -> None:
    """Read the command line, and print the figures of test streams as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="name of a model with evidence, or the folder of a bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder of features made with the encoders of the model")
    parser.add_argument("--weights", type=Path, help="folder with the encoders that the bundle does not contain")
    given = parser.parse_args()
    judge, data, plan = Judge(find_bundle(given.model), given.weights), open_ave(given.data, AveOptions()), StreamPlan()
    streams = {}
    for split, features in (("val", data.val), ("test", data.test)):
        manifest = manifest_of(data, split, plan.options(0))
        rows = [manifest.seconds(number, features.labels, features.background) for number in range(len(manifest.streams))]
        streams[split] = list(judge.streams(features, rows))
    thresholds = tune_general(streams["val"], plan.latency, plan.alarms_per_hour)[0].thresholds
    print(json.dumps({"thresholds": str(thresholds), **scored(streams["test"], plan.latency, thresholds)}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
