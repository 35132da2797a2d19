"""Trains a VSCG for a user's own classes on features of their clips, and makes a bundle that runs live as it is.

Few clips are the normal case: the network begins with the weights of the model whose encoders are used where they fit, half of all
windows are cut at any phase, and the weights are averaged. Thresholds are set on streams of the validation clips. It extracts nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.bundle import DetectionCard, TrainingData
from streamav.errors import DataError, SettingsError
from streamav.evaluation.manifest import ManifestOptions
from streamav.evaluation.tuning.general import Tried, tune
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

__all__ = ["AGE", "calibrated", "plan", "train_clips", "warm_start", "write_clip_bundle"]

AGE = 1
"""Look-ahead, in seconds, at which thresholds are set: a latency of two segments, as the starter's."""
ALARMS_PER_HOUR = 6.0
"""Most false alarms in an hour of background that thresholds are to keep, as the default of `streamav tune`."""
STEPS = 800
"""Steps of a training, whatever the number of clips: epochs are counted from it."""
_EPOCHS = (10, 200)
_AVERAGED = 16.0
"""The weights are averaged over about a sixteenth of all steps, so that nothing of the first weights is left in a short training."""
_STREAMS = 4
_STREAM_S = (300, 1800)


def plan(data: AveData, source: Bundle, changes: Mapping[str, Mapping[str, object]]) -> Experiment:
    """Put the experiment together: defaults for few clips, and the user's changes over them.

    Args:
        data: splits of the features.
        source: the model whose encoders made them; sizes of its localizer are taken, so that its weights can be.
        changes: plain values by section: network, loss, targets, train.

    Raises:
        DataError: when the features are not of the encoders of *source*.
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
            f"the features must be of the encoders of {card.name} ({card.audio.size}, {card.visual.size}), got {sizes}; extract them again"
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
        # Dropout and loss weights as the starter's head: the paper's overfit a few hundred windows within epochs.
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
            "decision": "argmax29",  # the per-segment head, which is what runs live
        },
    }
    merged = {section: {**defaults.get(section, {}), **changes.get(section, {})} for section in {*defaults, *changes}}
    return replace(planned("vscg", "fully", sizes, merged), name="own clips")


def warm_start(network: nn.Module, source: Bundle) -> int:
    """Copy the source's localizer into *network*, tensor by tensor, where names and shapes agree; give how many were copied.

    What hangs on the number of classes (the last layers) keeps its fresh weights, unless that number is the same.
    """
    state = network.state_dict()
    found = {
        name: torch.from_numpy(value)
        for name, value in source.weights("localizer").items()
        if name in state and state[name].shape == value.shape
    }
    network.load_state_dict({**state, **found})
    return len(found)


def train_clips(  # noqa: PLR0913 - as run_experiment, and the model to begin from
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
    """Train once for each seed, select on validation, and then read the test split; arguments as of `run_experiment`."""
    options = experiment.network
    if not isinstance(options, VSCGOptions):
        msg = f"own clips are trained with vscg, got {options.network}"
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
    """Find thresholds on streams of the validation clips: the best event-F1 within `ALARMS_PER_HOUR`, and whether that was kept.

    Returns:
        None where no thresholds find an event, or where there is none to be found: then no thresholds are better than others.
    """
    if len(data.lacking("val")) == len(data.classes):
        return None
    length = int(np.clip(4 * WINDOW_SEGMENTS * len(data.val), *_STREAM_S))
    quiet = replace(data, background=_quiet(data.val))
    manifest = manifest_of(quiet, "val", ManifestOptions(streams=_STREAMS, seconds=length, seed=seed))
    best, kept = tune(list(run_streams(network.to("cpu"), data.val, manifest, "argmax29")), AGE, ALARMS_PER_HOUR)
    return (best, kept) if best.counts.hits else None


def write_clip_bundle(
    path: Path, outcome: Outcome, data: AveData, source: Bundle, best: Tried | None, *, command: str, replace_old: bool = False
) -> Bundle:
    """Write the bundle: the trained head, its thresholds, and the encoders of *source* where it holds them.

    Args:
        path: folder to make.
        outcome: whose chosen seed is taken.
        data: for the classes.
        source: the model whose encoders are used.
        best: thresholds that were found; None for `export.UNTUNED`.
        command: for the card.
        replace_old: put it in the place of one that is there.

    Raises:
        ModelError: when the bundle cannot be written.
    """
    detection = UNTUNED
    if best is not None:
        chosen = best.hysteresis
        detection = DetectionCard(
            on=chosen.on,
            off=chosen.off,
            min_segments=chosen.min_segments,
            gap_segments=chosen.gap_segments,
            latency_segments=AGE + 1,
        )
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
        licence_note=f"Head trained by you on your clips. It began from, and its encoders are of, {source.card.name}: "
        f"{source.card.licence_note}",
    )


def _quiet(split: FeatureSet) -> FeatureSet | None:
    """Give the rows of a split without any event, which make real background between clips; None when there are none."""
    rows = split.rows[(split.labels[split.rows] == split.background).all(axis=1)]
    return split.select(rows, f"{split.name}, background rows") if len(rows) else None
