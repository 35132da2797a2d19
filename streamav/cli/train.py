"""`streamav train`: trains a model on a folder of features or of composite material, and writes a bundle that `streamav run` takes.

It reads options and shows progress; the work is done by `streamav.training`, which is loaded only when the command runs.
"""

from __future__ import annotations

import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.cli.own_clips import OwnClips, train_own_clips
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
        Path, typer.Option("--data", help="Folder of AVE-named features, of own clips (labels.csv), or of composites (index.csv).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Bundle to write; with --table, the folder of the tables.")],
    supervision: Annotated[Literal["fully", "weakly"], typer.Option(help="Labels of every second, or tags of whole clips.")] = "fully",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training clips; 300 unless a baseline has its own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights, shuffling and dropout.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Train from so many seeds, counted up from --seed; 5 to report.")] = 1,
    network: Annotated[Network, typer.Option(help="vscg, or a baseline to compare with.")] = "vscg",
    loss: Annotated[str | None, typer.Option(help="npf, ce, ce_avps, bce, smooth, soft_margin or cmbs.")] = None,
    table: Annotated[Literal["III", "IV", "V"] | None, typer.Option(help="Train every row of one of the paper's tables.")] = None,
    compatible: Annotated[
        bool, typer.Option("--compatible/--corrected", help="As the authors' code, bugs included, or as the paper says.")
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Clips of a step.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; sections: train, network, loss, targets, data.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the networks run.")] = "cpu",
    encoders: Annotated[
        str | None, typer.Option("--encoders", help="Model whose encoders made the features, or make them of own clips.")
    ] = None,
    test_selected: Annotated[
        bool, typer.Option("--test-selected", help="Also report the paper's figure: the best of all looks at the test split.")
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard's event files.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Own clips: folder with encoders that the model lacks.")] = None,
    features: Annotated[Path | None, typer.Option("--features", help="Own clips: folder for features; OUT.features.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run with the same --out was killed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> None:
    """Train a model; weights are selected on the validation split and the test split is read once, at the end.

    Several processes share every batch when torchrun starts them: torchrun --nproc-per-node 2 -m streamav train ...
    """
    kind = kind_of(data, table=table, network=network)
    check_options(context, kind, data)
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
    if kind in {"clips", "clip_features"}:
        chosen = OwnClips(
            data=data,
            out=out,
            encoders=encoders,
            weights=weights,
            features=features,
            seeds=range(seed, seed + seeds),
            changes=changes,
            reading=ave,
            device=device,
            resume=resume,
            force=force,
            board=tensorboard,
            command=command,
        )
        train_own_clips(chosen)
        return
    from streamav.cli.training_progress import ConsoleTeller
    from streamav.training.experiments.run import RunPlan, TrainingRun
    from streamav.training.workers import open_workers

    plan = RunPlan(folder=data, reading=ave, seeds=range(seed, seed + seeds), out=out, resume=resume, force=force, board=tensorboard)
    with open_workers(device) as workers:
        runner = TrainingRun(plan, workers, ConsoleTeller())
        if table is not None:
            runner.table(table, changes, command, compatible=compatible, supervision=supervision)
        else:
            runner.bundle(network, supervision, changes, command, compatible=compatible, encoders=encoders)


def _train_starter(data: Path, out: Path, *, force: bool) -> None:
    """Hand over to the training of encoders and head from composite material."""
    from importlib import import_module

    from streamav.cli.console import set_up_logging
    from streamav.training.experiments.run import check_out

    check_out(out, force=force)
    set_up_logging(verbose=True)  # hours of work: every stage tells how far it is
    try:
        starter = import_module("streamav.training.starter.profiles")
    except ImportError as exc:
        msg = f"{data} holds composite material (index.csv), and the training of encoders is not part of this installation: {exc}"
        raise SettingsError(msg) from exc
    starter.make_profile("starter", starter.ProfileRun(data=data, out=out))


def _sections(settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """Read section.key=value strings; a value is read as TOML, or as a bare string where that fails."""
    tree: dict[str, dict[str, object]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        section, dot, key = name.strip().partition(".")
        if not equals or not dot or "." in key:
            msg = f"--set takes section.key=value, got {setting!r}"
            raise SettingsError(msg)
        if (section, key) == ("train", "seed"):
            msg = "--set takes no train.seed: each run has a seed of its own; use --seed and --seeds"
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
            msg = f"data settings are {', '.join(known)}, each true or false; got {key}={value!r}"
            raise SettingsError(msg)
    return AveOptions(**values)  # type: ignore[arg-type] # all are booleans, as just checked


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        msg = "--device cuda needs an NVIDIA GPU and a CUDA build of torch, and there is none; use --device cpu"
        raise SettingsError(msg)
