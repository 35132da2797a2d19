"""`streamav train`: trains a model on features, own clips or composite material, and writes a bundle for `streamav run`.

It reads options and shows progress; `streamav.training` does the work and is loaded only when the command runs.
"""

from __future__ import annotations

import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.cli.own_clips import OwnClips, base_model
from streamav.cli.own_labels import train_own_labels
from streamav.cli.own_localizer import train_localizer_alone
from streamav.cli.predicting import check_predictions_file
from streamav.cli.train_options import check_options, kind_of
from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.training.data.folder import AveOptions

__all__ = ["train"]

Network = Literal["vscg", "pspnet", "avel", "cmbs"]


def train(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Folder of features with AVE's file names, of own clips (labels.csv), or of sounds and photos (index.csv)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the trained model (bundle); with --table, for the tables.")],
    supervision: Annotated[
        Literal["fully", "weakly"], typer.Option(help="fully: learn from labels of every segment; weakly: from labels of whole clips.")
    ] = "fully",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training clips; default: depends on network and data; 300 for vscg on features."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="First seed: of initial weights, shuffling and dropout.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Number of seeds to train with, counted up from --seed; use 5 for reported figures.")
    ] = 1,
    network: Annotated[Network, typer.Option(help="vscg, or another network for comparison.")] = "vscg",
    loss: Annotated[
        str | None, typer.Option(help="Loss: npf, ce, ce_avps, bce, smooth, soft_margin or cmbs; default: the one of the network.")
    ] = None,
    table: Annotated[Literal["I", "III", "IV", "V"] | None, typer.Option(help="Train every row of this table of the paper.")] = None,
    compatible: Annotated[
        bool, typer.Option("--compatible/--corrected", help="Compute as the authors' code does, with its bugs, or as the paper describes.")
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Number of clips in one training step.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; sections: train, network, loss, targets, data; repeatable.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Device that trains the networks.")] = "cpu",
    encoders: Annotated[
        str | None, typer.Option("--encoders", help="Model whose encoders made the features; own clips: the model to start from.")
    ] = None,
    localizer_only: Annotated[
        bool,
        typer.Option(
            "--localizer-only",
            help="Own clips: train a localizer for their classes alone; the model loses its other labels and its evidence.",
        ),
    ] = False,
    test_selected: Annotated[
        bool,
        typer.Option("--test-selected", help="Also report the best test accuracy of all epochs, as the paper does; for comparison only."),
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard files.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Own clips: folder with the encoders that the model does not contain.")
    ] = None,
    features: Annotated[Path | None, typer.Option("--features", help="Own clips: folder for the features; default: OUT.features.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", help="Also write the answer for every segment of the test clips, with the truth: .npz or .csv (see eval)."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training with the same --out that was interrupted.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Train a model. The validation split selects the weights; the test split is used once, at the end.

    The kind of --data decides what is trained: features train a localizer, own clips add their labels to a model that keeps its own
    labels, and sounds and photos train encoders and localizer (hours of work).

    Several processes share every batch if torchrun starts them: torchrun --nproc-per-node 2 -m streamav train ...
    """
    kind = kind_of(data, table=table, network=network)
    base = base_model(data, encoders) if kind in {"clips", "clip_features"} else None
    if base is not None and (localizer_only or base.card.evidence is None):
        kind = "clips_alone" if kind == "clips" else "clip_features_alone"
    check_options(context, kind, data)
    check_predictions_file(predictions)
    if kind == "material":
        _train_starter(data, out, force=force)
        return
    _check_device(device)
    changes = _sections(settings or ())
    ave = _ave_options(changes.pop("data", {}))
    given: dict[str, dict[str, object]] = {
        "train": {"epochs": epochs, "batch": batch, "test_selected": test_selected or None},
        "loss": {"loss": loss},
    }
    for section, values in given.items():
        if named := {name: value for name, value in values.items() if value is not None}:
            changes.setdefault(section, {}).update(named)
    if ave.multi_label:
        changes.setdefault("targets", {}).setdefault("multi_label", True)
    if tensorboard is not None:
        from streamav.training.fit.board import check_tensorboard

        check_tensorboard()
    command = "streamav " + shlex.join(sys.argv[1:])
    from streamav.training.experiments.run import RunPlan

    plan = RunPlan(
        folder=data,
        reading=ave,
        seeds=range(seed, seed + seeds),
        out=out,
        resume=resume,
        force=force,
        board=tensorboard,
        predictions=predictions,
    )
    if base is not None:
        chosen = OwnClips(
            plan=plan,
            encoders=encoders,
            weights=weights,
            features=features,
            changes=changes,
            device=device,
            command=command,
            as_json=as_json,
        )
        (train_own_labels if kind in {"clips", "clip_features"} else train_localizer_alone)(chosen, base)
        return
    from streamav.cli.training_progress import ConsoleTeller
    from streamav.training.experiments.run import TrainingRun
    from streamav.training.workers import open_workers

    with open_workers(device) as workers:
        teller = ConsoleTeller(as_json=as_json)
        runner = TrainingRun(plan, workers, teller)
        if table is not None:
            runner.table(table, changes, command, compatible=compatible, supervision=supervision)
        else:
            runner.bundle(network, supervision, changes, command, compatible=compatible, encoders=encoders)
        teller.close(out)


def _train_starter(data: Path, out: Path, *, force: bool) -> None:
    """Train encoders and localizer on composite material."""
    from importlib import import_module

    from streamav.cli.console import set_up_logging
    from streamav.training.experiments.run import check_out

    check_out(out, force=force)
    set_up_logging(verbose=True)  # hours of work: every stage logs its progress
    try:
        starter = import_module("streamav.training.starter.profiles")
    except ImportError as exc:
        msg = f"{data} holds composite material (index.csv), and a module that trains the encoders cannot be loaded: {exc}"
        raise SettingsError(msg) from exc
    starter.make_profile("starter", starter.ProfileRun(data=data, out=out, score=starter.score_teachers()))


def _sections(settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """Return the values of section.key=value strings by section; a value is read as TOML, or as a plain string if that fails."""
    tree: dict[str, dict[str, object]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        section, dot, key = name.strip().partition(".")
        if not equals or not dot or "." in key:
            msg = f"--set takes section.key=value, got {setting!r}"
            raise SettingsError(msg)
        if (section, key) == ("train", "seed"):
            msg = "--set does not take train.seed, because each run has its own seed; use --seed and --seeds"
            raise SettingsError(msg)
        try:
            value: object = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        tree.setdefault(section, {})[key] = value
    return tree


def _ave_options(values: dict[str, object]) -> AveOptions:
    from dataclasses import fields

    from streamav.training.data.folder import AveOptions

    known = [field.name for field in fields(AveOptions)]
    for key, value in values.items():
        if key not in known or not isinstance(value, bool):
            msg = f"settings of data are {', '.join(known)}, each true or false; got {key}={value!r}"
            raise SettingsError(msg)
    return AveOptions(**values)  # type: ignore[arg-type] # all are booleans, checked above


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        msg = "--device cuda needs an NVIDIA GPU and a CUDA build of torch, and torch finds none; use --device cpu"
        raise SettingsError(msg)
