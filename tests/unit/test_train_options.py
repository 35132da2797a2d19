"""Tests of the options of `streamav train`: each has an effect on a kind of data or is refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch

from streamav.bundle import find_bundle
from streamav.cli import main
from streamav.cli import train as train_module
from streamav.cli.train_options import KINDS, TAKES, Kind
from streamav.training.fit import board
from streamav.training.starter import profiles

GIVEN = {
    "data": [],
    "out": ["--out", "elsewhere"],
    "supervision": ["--supervision", "weakly"],
    "epochs": ["--epochs", "7"],
    "as_json": ["--json"],
    "seed": ["--seed", "5"],
    "seeds": ["--seeds", "3"],
    "network": ["--network", "cmbs"],
    "loss": ["--loss", "ce"],
    "table": ["--table", "V"],
    "compatible": ["--compatible"],
    "batch": ["--batch", "9"],
    "settings": ["--set", "train.clip_norm=1"],
    "device": ["--device", "cuda"],
    "encoders": ["--encoders", "edge"],
    "test_selected": ["--test-selected"],
    "tensorboard": ["--tensorboard", "curves"],
    "weights": ["--weights", "encoders"],
    "features": ["--features", "kept"],
    "predictions": ["--predictions", "answers.npz"],
    "resume": ["--resume"],
    "force": ["--force"],
    "localizer_only": ["--localizer-only"],
}
"""Each option with a value other than its default."""
CHOSEN: dict[Kind, list[str]] = {
    "baseline": ["--network", "avel"],
    "table": ["--table", "IV"],
    "clips_alone": ["--localizer-only"],
    "clip_features_alone": ["--localizer-only"],
}
"""Options that select one of these kinds for a folder of features."""
MARKS: dict[Kind, str] = {
    "clips": "labels.csv",
    "clip_features": "extraction.json",
    "clips_alone": "labels.csv",
    "clip_features_alone": "extraction.json",
    "material": "index.csv",
}
"""The file that identifies the kind of a folder; the others are folders of features, which hold .h5 files."""
KIND_NAMES: tuple[Kind, ...] = get_args(Kind)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Records the calls of the three trainings and runs none of them."""
    found: list[object] = []

    class Run:
        def __init__(self, *arguments: object, **named: object) -> None:
            found.append((arguments, named))

        def bundle(self, *arguments: object, **named: object) -> None:
            found.append(("bundle", arguments, named))

        def table(self, *arguments: object, **named: object) -> None:
            found.append(("table", arguments, named))

    def keep(name: str) -> Callable[..., None]:
        return lambda *arguments, **named: found.append((name, arguments, named))

    monkeypatch.setattr("streamav.training.experiments.run.TrainingRun", Run)
    monkeypatch.setattr("streamav.training.experiments.run.check_out", keep("check_out"))
    starter = find_bundle("starter")
    monkeypatch.setattr(train_module, "base_model", lambda *_: starter)
    monkeypatch.setattr(train_module, "train_own_labels", keep("own labels"))
    monkeypatch.setattr(train_module, "train_localizer_alone", keep("localizer alone"))
    monkeypatch.setattr(profiles, "make_profile", keep("profile"))
    monkeypatch.setattr(board, "check_tensorboard", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("sys.argv", ["streamav"])
    return found


def call(place: Path, kind: Kind, *more: str) -> int:
    """Call the command on a folder of *kind*, with *more* options after those of the kind."""
    (place / MARKS.get(kind, "labels.h5")).touch()
    return main(["train", "--data", str(place), "--out", "out", *CHOSEN.get(kind, []), *more])


def flag(option: str) -> str:
    return GIVEN[option][0]


def test_every_option_has_its_kinds() -> None:
    """Every option is listed with the kinds that take it and with a value for these tests."""
    options = set(inspect.signature(train_module.train).parameters) - {"context"}
    assert set(TAKES) == options
    assert set(GIVEN) == options
    assert all(TAKES.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("option", [option for option in TAKES if option != "data"])
def test_no_option_is_swallowed(option: str, kind: Kind, tmp_path: Path, asked: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    """An option reaches the training of a kind that takes it; for other kinds it exits with 2 and names option, kind and takers."""
    if GIVEN[option] == CHOSEN.get(kind):
        return  # the option selects this kind
    if kind in TAKES[option]:
        assert call(tmp_path, kind) == 0
        plain = list(asked)
        asked.clear()
        assert call(tmp_path, kind, *GIVEN[option]) == 0
        assert plain
        assert asked != plain
        return
    assert call(tmp_path, kind, *GIVEN[option]) == 2
    told = capsys.readouterr().err
    assert asked == []
    assert str(tmp_path) in told
    assert flag(option) in told
    if (option, kind) == ("table", "baseline"):  # the options contradict each other: --table is taken and --network is refused
        assert flag("network") in told
        return
    assert KINDS[kind] in told
    assert all(KINDS[one] in told for one in TAKES[option])


def test_the_default_given_in_so_many_words_is_refused_too(tmp_path: Path, asked: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    """Composite material is trained with five seeds: --seeds 1 is refused, and one message names several refused options."""
    assert call(tmp_path, "material", "--seeds", "1", "--epochs", "3") == 2
    told = capsys.readouterr().err
    assert "--seeds (it is for a folder of features" in told
    assert "--epochs (it is for a folder of features" in told
    assert asked == []


@pytest.mark.parametrize("kind", ["clips", "clip_features", "material"])
def test_what_one_process_trains_on_is_refused_under_torchrun(
    kind: Kind, tmp_path: Path, asked: list[object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start under torchrun is refused with exit code 2 for data on which every process would write the same bundle."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert call(tmp_path, kind) == 2
    assert "without torchrun" in capsys.readouterr().err
    assert asked == []


def test_a_seed_among_the_settings_is_refused(tmp_path: Path, asked: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    """--set train.seed is refused and the message names --seed."""
    assert call(tmp_path, "features", "--set", "train.seed=3") == 2
    assert "--seed" in capsys.readouterr().err
    assert asked == []
