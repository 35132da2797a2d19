"""Judges a model with evidence on streams of composite clips: the class scores are computed from the features in the folder.

    python -m streamav.training.starter.composed --model edge --data features-edge --weights data/weights

It is a short form of `streamav eval`: one set of streams, at latency 2. Thresholds are tuned on val streams for six false alarms an hour of
background, as there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from streamav.bundle import find_bundle
from streamav.evaluation.tuning.classes import tune_general
from streamav.training.data.folder import AveOptions, open_ave
from streamav.training.streams.judge import StreamPlan, scored
from streamav.training.streams.run import manifest_of, run_streams
from streamav.training.streams.whole import WholeModel

__all__ = ["main"]


def main() -> None:
    """Read the command line, and print the figures of test streams as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="name of a model with evidence, or the folder of a bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder of features made with the encoders of the model")
    parser.add_argument("--weights", type=Path, help="folder with the encoders that the bundle does not contain")
    given = parser.parse_args()
    model, data, plan = WholeModel(find_bundle(given.model), given.weights), open_ave(given.data, AveOptions()), StreamPlan()
    streams = {}
    for split, features in (("val", data.val), ("test", data.test)):
        streams[split] = list(run_streams(model, features, manifest_of(data, split, plan.options(0)), "argmax29"))
    thresholds = tune_general(streams["val"], plan.latency, plan.alarms_per_hour)[0].thresholds
    print(json.dumps({"thresholds": str(thresholds), **scored(streams["test"], plan.latency, thresholds)}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
