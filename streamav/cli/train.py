"""`streamav train`: trains a model on a folder of features or of composite material, and writes a bundle that `streamav run` takes.

It reads options and shows progress; the work is done by `streamav.training`, which is loaded only when the command runs.
"""

from __future__ import annotations

import shlex
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.cli.own_clips import OwnClips, is_own_clips, train_own_clips
from streamav.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress

    from streamav.networks.options import Supervision
    from streamav.training.ave import AveData, AveOptions
    from streamav.training.experiment import Experiment, Outcome
    from streamav.training.export import Encoders
    from streamav.training.trainer import EpochRecord, StepReport, Watcher

__all__ = ["train"]

Network = Literal["vscg", "pspnet", "avel", "cmbs"]


def train(
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
    encoders: Annotated[str | None, typer.Option("--encoders", help="Own clips: model whose encoders are used; starter.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Own clips: folder with encoders that the model lacks.")] = None,
    features: Annotated[Path | None, typer.Option("--features", help="Own clips: folder for features; OUT.features.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run with the same --out was killed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
) -> None:
    """Train a model; weights are selected on the validation split and the test split is read once, at the end."""
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
    _check_out(out, force=force)
    command = "streamav " + shlex.join(sys.argv[1:])
    if is_own_clips(data):
        if table is not None or compatible or network != "vscg" or supervision != "fully":
            msg = "own clips are trained with vscg, fully supervised: leave --table, --compatible, --network and --supervision away"
            raise SettingsError(msg)
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
            command=command,
        )
        train_own_clips(chosen, _watched)
        return
    runner = _Runner(data, ave, range(seed, seed + seeds), out, device=device, resume=resume)
    if table is not None:
        runner.table(table, changes, command, compatible=compatible, supervision=supervision)
    else:
        runner.bundle(network, supervision, changes, command, compatible=compatible, force=force)


class _Runner:
    """One call of the command: the data, once opened, and what every experiment on them shares."""

    def __init__(self, folder: Path, options: AveOptions, seeds: Sequence[int], out: Path, *, device: str, resume: bool) -> None:
        """Open and check the data."""
        from streamav.training.ave import open_ave

        _say(f"opening {folder} and checking every row")
        self.folder = folder
        self.data: AveData = open_ave(folder, options)
        self.seeds = seeds
        self.out = out
        self.device = device
        self.resume = resume
        train = self.data.train
        self.sizes = {
            "audio_size": int(train.audio.shape[2]),
            "visual_size": int(train.visual.shape[4]),
            "grid": int(train.visual.shape[2]),
            "classes": len(self.data.classes),
        }

    def bundle(
        self, network: str, supervision: Supervision, changes: dict[str, dict[str, object]], command: str, *, compatible: bool, force: bool
    ) -> None:
        """Train one experiment and write its bundle (for a baseline only its report)."""
        from streamav.training.experiment import planned
        from streamav.training.export import export_bundle
        from streamav.training.report import write_report

        experiment = planned(network, supervision, self.sizes, changes, compatible=compatible)
        encoders = self._encoders()
        outcome = self._run(experiment, self._state)
        if network == "vscg":
            export_bundle(self.out, outcome, self.data.classes, encoders, command, replace=force)
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
        for row in find_rows(name, compatible=compatible, supervision=supervision):
            _say(f"table {name}: {row.name}, {row.supervision} supervised")
            outcome = self._run(experiment_of(row, self.sizes, changes.get("train", {})), self._state / row.key)
            outcomes.append(outcome)
            write_report(self.out / row.key, outcome, self.data.classes, command)
            write_table(self.out / f"table-{name}-{supervision}.md", name, outcomes, command)
            _tell(outcome)
        self._clear_state()
        _say(f"table: {self.out / f'table-{name}-{supervision}.md'}")

    @property
    def _state(self) -> Path:
        """Folder beside the output where unfinished runs keep their state."""
        return self.out.absolute().with_name(self.out.name + ".training")

    def _encoders(self) -> Encoders:
        from streamav.training.export import encoders_of

        found = encoders_of(self.folder, self.sizes["audio_size"], self.sizes["visual_size"])
        if found is None:
            msg = (
                f"no known encoders give features of {self.sizes['audio_size']} and {self.sizes['visual_size']} numbers; put an "
                f"encoders.json with the audio and visual parts of a model card into {self.folder} (streamav extract writes one)"
            )
            raise SettingsError(msg)
        return found

    def _run(self, experiment: Experiment, state: Path) -> Outcome:
        from streamav.training.experiment import run_experiment

        with _progress() as bars:
            watcher = _watchers(bars, len(self.data.train), experiment)
            return run_experiment(self.data, experiment, self.seeds, folder=state, resume=self.resume, device=self.device, watcher=watcher)

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


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


@contextmanager
def _watched(experiment: Experiment, clips: int) -> Iterator[Callable[[int], Watcher]]:
    """Show a training of *clips* rows; gives the watcher of each seed."""
    with _progress() as bars:
        yield _watchers(bars, clips, experiment)


def _watchers(bars: Progress, clips: int, experiment: Experiment) -> Callable[[int], Watcher]:
    steps = -(-clips // experiment.train.batch)

    def make(seed: int) -> Watcher:
        return _Bar(bars, f"seed {seed}", steps, experiment.train.epochs)

    return make


class _Bar:
    """Shows a run as one bar over all its steps, with the time left, the loss and the last validation accuracy."""

    def __init__(self, bars: Progress, name: str, steps: int, epochs: int) -> None:
        self._bars = bars
        self._steps = steps
        self._task = bars.add_task(name, total=steps * epochs, note="")
        self._accuracy = ""

    def step(self, report: StepReport) -> None:
        """Move the bar."""
        done = (report.epoch - 1) * self._steps + min(report.step, self._steps)
        self._bars.update(self._task, completed=done, note=f"loss {report.loss:.3f}{self._accuracy}")

    def epoch(self, record: EpochRecord) -> None:
        """Take note of the validation accuracy."""
        if record.validation is not None:
            self._accuracy = f", validation {100 * record.validation['accuracy']:.1f} %"
