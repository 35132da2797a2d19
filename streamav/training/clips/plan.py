"""Trains a VSCG for a user's own classes on features of their clips, and writes a bundle that is ready for live runs.

It is made for few clips: the network starts from the weights of the encoders' model where they fit, half of all windows are cut at
any phase, and the weights are averaged. Thresholds are set on streams of the validation clips. It extracts no features.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.bundle import DetectionCard, TrainingData
from streamav.errors import DataError, SettingsError
from streamav.evaluation.manifest import ManifestOptions
from streamav.evaluation.tuning.classes import Tried, tune_general
from streamav.networks.options import VSCGOptions
from streamav.training.experiments.experiment import Experiment, Outcome, planned, tested, train_seeds
from streamav.training.experiments.export import UNTUNED, export_bundle, weights_inside
from streamav.training.options import TrainOptions
from streamav.training.streams.run import manifest_of, run_streams
from streamav.training.workers import Workers
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from streamav.bundle import Bundle
    from streamav.networks.vscg import VSCG
    from streamav.training.data.feature_set import FeatureSet
    from streamav.training.data.folder import AveData
    from streamav.training.fit.trainer import Watcher

__all__ = ["LATENCY", "calibrated", "plan", "train_clips", "warm_start", "write_clip_bundle"]

LATENCY = 2
"""Latency L for which thresholds are set, the same as the starter's."""
ALARMS_PER_HOUR = 6.0
"""Most false alarms in an hour of background that thresholds may cause; also the default of `streamav tune`."""
STEPS = 800
"""Steps of a training, for any number of clips; the number of epochs follows from it."""
_EPOCHS = (10, 200)
"""Least and most epochs that follow from `STEPS`."""
_AVERAGED = 16.0
"""The weights are averaged over about a sixteenth of all steps, so that a short training keeps no trace of the first weights."""
_STREAMS = 4
_STREAM_S = (300, 1800)
"""Shortest and longest stream for thresholds, s."""


def plan(data: AveData, source: Bundle, changes: Mapping[str, Mapping[str, object]]) -> Experiment:
    """Build the experiment: defaults for few clips, and the user's changes over them.

    Args:
        data: splits of the features.
        source: the model whose encoders made the features; the network gets the sizes of its localizer, so that the weights fit.
        changes: plain values by section: network, loss, targets, train.

    Raises:
        DataError: when the features do not come from the encoders of *source*.
        SettingsError: when a name or value in *changes* is wrong.
    """
    train = data.train
    sizes = {
        "audio_size": int(train.audio.shape[2]),
        "visual_size": int(train.visual.shape[4]),
        "grid": int(train.visual.shape[2]),
        "classes": len(data.classes),
    }
    card = source.card
    if (card.audio.size, card.visual.size, card.visual.grid) != (sizes["audio_size"], sizes["visual_size"], sizes["grid"]):
        msg = (
            f"the features must come from the encoders of {card.name} ({card.audio.size}, {card.visual.size}), got {sizes}; "
            "extract them again"
        )
        raise DataError(msg)
    like: dict[str, object] = {
        name: card.localizer.options[name]
        for name in ("hidden", "attention_size", "front_size", "head_size")
        if name in card.localizer.options
    }
    wanted = changes.get("train", {})
    given = TrainOptions.from_dict({"batch": 16, **wanted})
    steps = -(-len(train) // given.batch)
    epochs = given.epochs if "epochs" in wanted else int(np.clip(-(-STEPS // steps), *_EPOCHS))
    defaults: dict[str, dict[str, object]] = {
        # Dropout and loss weights of the starter's head: with the paper's, a network overfits a few hundred windows within some epochs.
        "network": {**like, "psp_dropout": 0.3, "project1_dropout": 0.35, "post_gru_dropout": 0.35},
        "loss": {"segment_weight": 2.0, "avps_weight": 10.0, "label_smoothing": 0.05},
        "train": {
            "batch": given.batch,
            "epochs": epochs,
            "decay": 0.4,
            "decay_epochs": tuple(max(1, epochs * share // 10) for share in (5, 7, 9)),
            "select_every": max(1, epochs // 20),
            "weight_average": round(max(0.0, 1.0 - _AVERAGED / (epochs * steps)), 4),
            "clip_norm": 1.0,
            "shifted_share": 0.5,
            "decision": "argmax29",  # the per-segment head, which live runs use
        },
    }
    merged = {section: {**defaults.get(section, {}), **changes.get(section, {})} for section in {*defaults, *changes}}
    return replace(planned("vscg", "fully", sizes, merged), name="own clips")


def warm_start(network: nn.Module, source: Bundle) -> int:
    """Copy the source's localizer into *network*, tensor by tensor, where names and shapes agree; return the number of tensors copied.

    The last layers depend on the number of classes and keep their new weights, unless that number is the same.
    """
    state = network.state_dict()
    found = {
        name: torch.from_numpy(value)
        for name, value in source.weights("localizer").items()
        if name in state and state[name].shape == value.shape
    }
    network.load_state_dict({**state, **found})
    return len(found)


def train_clips(  # noqa: PLR0913 - the arguments of run_experiment, and the model to start from
    data: AveData,
    experiment: Experiment,
    source: Bundle,
    seeds: Sequence[int],
    *,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    watcher: Callable[[int], Watcher] | None = None,
) -> Outcome:
    """Train once for each seed, select on validation, then read the test split; the arguments are those of `run_experiment`.

    Raises:
        SettingsError: when the experiment's network is not vscg.
    """
    options = experiment.network
    if not isinstance(options, VSCGOptions):
        msg = f"the network for own clips must be vscg, got {options.network}"
        raise SettingsError(msg)
    trained = train_seeds(
        replace(data, background=_quiet(data.train)),
        experiment,
        seeds,
        folder=folder,
        resume=resume,
        workers=Workers(device=device),
        watcher=watcher,
        prepare=lambda network: warm_start(network, source),
    )
    return tested(data, experiment, trained)


def calibrated(network: VSCG, data: AveData, seed: int = 0) -> tuple[Tried, bool] | None:
    """Choose thresholds on streams of the validation clips: the best event-F1 within `ALARMS_PER_HOUR`.

    Returns:
        The thresholds, and whether they are within `ALARMS_PER_HOUR`. None if no thresholds find an event, or validation holds none:
        then no thresholds are better than others.
    """
    if len(data.lacking("val")) == len(data.classes):
        return None
    length = int(np.clip(4 * WINDOW_SEGMENTS * len(data.val), *_STREAM_S))
    quiet = replace(data, background=_quiet(data.val))
    manifest = manifest_of(quiet, "val", ManifestOptions(streams=_STREAMS, seconds=length, seed=seed))
    best, kept = tune_general(run_streams(network.to("cpu"), data.val, manifest, "argmax29"), LATENCY, ALARMS_PER_HOUR)
    return (best, kept) if best.counts.hits else None


def write_clip_bundle(
    path: Path, outcome: Outcome, data: AveData, source: Bundle, best: Tried | None, *, command: str, replace_old: bool = False
) -> Bundle:
    """Write the bundle: the trained head, its thresholds, and the encoders of *source* if its bundle holds them.

    Args:
        path: folder to make.
        outcome: the result whose chosen seed is taken.
        data: the data, for classes and the number of rows.
        source: the model whose encoders are used.
        best: the chosen thresholds; None for `export.UNTUNED`.
        command: the command line, for the card.
        replace_old: replace an existing bundle.

    Raises:
        ModelError: when the bundle cannot be written.
    """
    detection = UNTUNED if best is None else DetectionCard(**asdict(best.thresholds), latency_segments=LATENCY)
    rows = len(data.train) + len(data.val) + len(data.test)
    own = TrainingData(
        name="own clips",
        source="clips given to `streamav train`",
        licence="as of your clips",
        note=f"{rows} rows of {WINDOW_SEGMENTS} s, seed {outcome.chosen.seed}; the head",
    )
    return export_bundle(
        path,
        outcome,
        data.classes,
        (source.card.audio, source.card.visual),
        command,
        replace=replace_old,
        weights=weights_inside(source),
        detection=detection,
        training_data=(own, *source.card.training_data),
        licence_note=f"You trained the head on your clips. It started from the weights of {source.card.name} and uses its encoders: "
        f"{source.card.licence_note}",
    )


def _quiet(split: FeatureSet) -> FeatureSet | None:
    """Return the rows of a split without any event, used as real background between clips; None if there are none."""
    rows = split.rows[(split.labels[split.rows] == split.background).all(axis=1)]
    return split.select(rows, f"{split.name}, background rows") if len(rows) else None
