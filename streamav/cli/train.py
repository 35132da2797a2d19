"""`streamav train`: trains a model on a folder of features or of composite material, and writes a bundle that `streamav run` takes.

It reads options and shows progress; the work is done by `streamav.training`, which is loaded only when the command runs.
"""

from __future__ import annotations

import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.cli.training_progress import TrainingProgress
    from streamav.networks.options import Supervision
    from streamav.training.ave import AveData, AveOptions
    from streamav.training.distributed import Workers
    from streamav.training.experiment import Experiment, Outcome
    from streamav.training.export import Encoders
    from streamav.training.trainer import Watcher

__all__ = ["train"]

Network = Literal["vscg", "pspnet", "avel", "cmbs"]


def train(
    data: Annotated[Path, typer.Option("--data", help="Folder of AVE-named HDF5 features, or of composite material (index.csv).")],
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
    encoders: Annotated[str | None, typer.Option("--encoders", help="Model whose encoders made the features; else DIR says.")] = None,
    test_selected: Annotated[
        bool, typer.Option("--test-selected", help="Also report the paper's figure: the best of all looks at the test split.")
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard's event files.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run with the same --out was killed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> None:
    """Train a model; weights are selected on the validation split and the test split is read once, at the end.

    Several processes share every batch when torchrun starts them: torchrun --nproc-per-node 2 -m streamav train ...
    """
    if not data.is_dir():
        msg = f"--data must be a folder, got {data}"
        raise DataError(msg)
    if (data / "index.csv").is_file():
        _train_starter(data, out)
        return
    _check_device(device)
    changes = _sections(settings or ())
    ave = _ave_options(changes.pop("data", {}))
    for key, value in (("epochs", epochs), ("batch", batch)):
        if value is not None:
            changes.setdefault("train", {})[key] = value
    if loss is not None:
        changes.setdefault("loss", {})["loss"] = loss
    if test_selected:
        changes.setdefault("train", {})["test_selected"] = True
    if ave.multi_label:
        changes.setdefault("targets", {}).setdefault("multi_label", True)
    if tensorboard is not None:
        from streamav.training.board import check_tensorboard

        check_tensorboard()
    command = "streamav " + shlex.join(sys.argv[1:])
    from streamav.training.distributed import open_workers

    with open_workers(device) as workers:
        runner = _Runner(data, ave, range(seed, seed + seeds), out, workers=workers, resume=resume, force=force, board=tensorboard)
        if table is not None:
            runner.table(table, changes, command, compatible=compatible, supervision=supervision)
        else:
            runner.bundle(network, supervision, changes, command, compatible=compatible, encoders=encoders)


class _Runner:
    """One call of the command: the data, once opened, and what every experiment on them shares."""

    def __init__(
        self,
        folder: Path,
        options: AveOptions,
        seeds: Sequence[int],
        out: Path,
        *,
        workers: Workers,
        resume: bool,
        force: bool,
        board: Path | None,
    ) -> None:
        """Open and check the data."""
        self.folder = folder
        self.seeds = seeds
        self.out = out
        self.workers = workers
        self.resume = resume
        # A run that was killed while it wrote its results may leave some of them behind.
        self.replace = force or (resume and self._state.is_dir())
        self.board = board
        if workers.first:
            _check_out(out, force=self.replace)
        self.data: AveData = self._open(options)
        train = self.data.train
        self.sizes = {
            "audio_size": int(train.audio.shape[2]),
            "visual_size": int(train.visual.shape[4]),
            "grid": int(train.visual.shape[2]),
            "classes": len(self.data.classes),
        }

    def _open(self, options: AveOptions) -> AveData:
        """Open the data, in the first process before the others: it alone looks at every row."""
        from dataclasses import replace

        from streamav.training.ave import open_ave

        if self.workers.first:
            _say(f"opening {self.folder} and checking every row")
            data = open_ave(self.folder, options)
        self.workers.wait()
        if not self.workers.first:
            data = open_ave(self.folder, replace(options, check=False))
        self.workers.agree(data.fingerprint, f"the data in {self.folder}")
        return data

    def bundle(
        self,
        network: str,
        supervision: Supervision,
        changes: dict[str, dict[str, object]],
        command: str,
        *,
        compatible: bool,
        encoders: str | None,
    ) -> None:
        """Train one experiment and write its bundle (for a baseline only its report)."""
        from streamav.training.experiment import planned
        from streamav.training.export import export_bundle
        from streamav.training.report import write_report

        experiment = planned(network, supervision, self.sizes, changes, compatible=compatible)
        cards, weights = self._encoders(encoders) if network == "vscg" else (None, {})
        outcome = self._run(experiment, self._state)
        if outcome is None:
            return
        if cards is not None:
            export_bundle(self.out, outcome, self.data.classes, cards, command, replace=self.replace, weights=weights)
        report = write_report(self.out / "report", outcome, self.data.classes, command)
        self._clear_state()
        _tell(outcome)
        _say(f"report: {report}")
        if network == "vscg":
            _say(f"model: {self.out} (streamav run --model {shlex.quote(str(self.out))} ...)")

    def table(
        self,
        name: str,
        changes: dict[str, dict[str, object]],
        command: str,
        *,
        compatible: bool,
        supervision: Supervision,
    ) -> None:
        """Train every row of a table, writing each row's report and the table as it grows."""
        from streamav.training.ablations import find_rows
        from streamav.training.experiment import experiment_of
        from streamav.training.report import write_report, write_table

        if set(changes) - {"train"}:
            msg = f"with --table only train settings may be changed, got {', '.join(sorted(set(changes) - {'train'}))}"
            raise SettingsError(msg)
        outcomes: list[Outcome] = []
        rows = find_rows(name, compatible=compatible, supervision=supervision)
        for number, row in enumerate(rows, start=1):
            if self.workers.first:
                _say(f"table {name}, row {number} of {len(rows)}: {row.name}, {row.supervision} supervised")
            outcome = self._run(experiment_of(row, self.sizes, changes.get("train", {})), self._state / row.key, row.key)
            if outcome is None:
                continue
            outcomes.append(outcome)
            write_report(self.out / row.key, outcome, self.data.classes, command)
            write_table(self.out / f"table-{name}-{supervision}.md", name, outcomes, command)
            _tell(outcome)
        if not self.workers.first:
            return
        self._clear_state()
        _say(f"table: {self.out / f'table-{name}-{supervision}.md'}")

    @property
    def _state(self) -> Path:
        """Folder beside the output where unfinished runs keep their state."""
        return self.out.absolute().with_name(self.out.name + ".training")

    def _encoders(self, model: str | None) -> tuple[Encoders, dict[str, NDArray[np.float32]]]:
        """Find the encoders that made the features, and the weights of those that belong into the bundle."""
        from streamav.bundle import find_bundle
        from streamav.training.export import encoder_weights, encoders_of, weights_inside

        sizes = self.sizes["audio_size"], self.sizes["visual_size"]
        if model is not None:
            bundle = find_bundle(model)
            audio, visual = bundle.card.audio, bundle.card.visual
            if (audio.size, visual.size) != sizes:
                msg = (
                    f"--encoders must name a model whose features have {sizes[0]} and {sizes[1]} numbers, "
                    f"got {audio.size} and {visual.size}"
                )
                raise SettingsError(msg)
            return (audio, visual), weights_inside(bundle)
        found = encoders_of(self.folder, *sizes)
        if found is None:
            msg = (
                f"no known encoders give features of {sizes[0]} and {sizes[1]} numbers; name the model that made them with --encoders, "
                f"or put an encoders.json with the audio and visual parts of a model card into {self.folder} (streamav extract writes one)"
            )
            raise SettingsError(msg)
        return found, encoder_weights(self.folder, found)

    def _run(self, experiment: Experiment, state: Path, row: str = "") -> Outcome | None:
        """Train, and test in the first process; None in the others."""
        from functools import partial

        from streamav.cli.training_progress import training_progress
        from streamav.training.experiment import tested, train_seeds

        work = partial(train_seeds, self.data, experiment, self.seeds, folder=state, resume=self.resume, workers=self.workers)
        if not self.workers.first:
            work()
            return None
        clips = len(self.data.weak_train if experiment.network.supervision == "weakly" else self.data.train)
        with training_progress(self.seeds, -(-clips // experiment.train.batch), experiment.train.epochs) as shown:
            trained = work(watcher=self._watchers(shown, row))
        return tested(self.data, experiment, trained)

    def _watchers(self, shown: TrainingProgress, row: str) -> Callable[[int], Watcher]:
        """Give what makes the watcher of a seed: progress, and TensorBoard where it was asked for."""
        from streamav.cli.training_progress import Several
        from streamav.training.board import Board

        def make(seed: int) -> Watcher:
            watcher = shown.watcher(seed)
            return watcher if self.board is None else Several(watcher, Board(self.board / row / f"seed-{seed}"))

        return make

    def _clear_state(self) -> None:
        """Remove the states of runs that are finished."""
        for path in sorted(self._state.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        if self._state.is_dir():
            self._state.rmdir()


def _train_starter(data: Path, out: Path) -> None:
    """Hand over to the training of encoders and head from raw material."""
    from importlib import import_module

    from streamav.cli.console import set_up_logging

    if os.environ.get("WORLD_SIZE", "1") != "1":
        msg = f"torchrun trains on folders of features, and {data} holds raw material (index.csv); call streamav train without torchrun"
        raise SettingsError(msg)

    set_up_logging(verbose=True)  # hours of work: every stage tells how far it is
    try:
        starter = import_module("streamav.training.starter")
    except ImportError as exc:
        msg = f"{data} holds raw material (index.csv), and the training of encoders is not part of this installation: {exc}"
        raise SettingsError(msg) from exc
    starter.train(data, out)


def _sections(settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """Read section.key=value strings; a value is read as TOML, or as a bare string where that fails."""
    tree: dict[str, dict[str, object]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        section, dot, key = name.strip().partition(".")
        if not equals or not dot or "." in key:
            msg = f"--set takes section.key=value, got {setting!r}"
            raise SettingsError(msg)
        try:
            value: object = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        tree.setdefault(section, {})[key] = value
    return tree


def _ave_options(values: dict[str, object]) -> AveOptions:
    from dataclasses import fields

    from streamav.training.ave import AveOptions

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


def _check_out(out: Path, *, force: bool) -> None:
    """Refuse before hours of training what could not be written after them."""
    if out.exists() and not out.is_dir():
        msg = f"--out must be a folder, got the file {out}"
        raise SettingsError(msg)
    if out.is_dir() and any(out.iterdir()) and not force:
        msg = f"--out must be a new or empty folder, got {out}; add --force to replace the bundle there"
        raise SettingsError(msg)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _tell(outcome: Outcome) -> None:
    """Print the test scores, the command's one result, on standard output."""
    told = {name: f"{100 * mean:.2f}" for name, (mean, _) in outcome.summary().items()}
    typer.echo(
        f"{outcome.experiment.name}: validation accuracy {100 * outcome.chosen.result.best_score:.2f} %, "
        f"test accuracy {told['accuracy']} %, macro-F1 {told['macro_f1']} %, background recall {told['background_recall']} %"
    )
    if outcome.experiment.train.test_selected:
        best = sum(one.test_selected for one in outcome.seeds) / len(outcome.seeds)
        typer.echo(f"{outcome.experiment.name}: test-selected accuracy, as the paper reports it, for comparison only: {100 * best:.2f} %")
