"""Tests which model runs when none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamav.bundle import automatic
from streamav.bundle.automatic import AUTO, choose_bundle
from streamav.config import Settings
from streamav.errors import ModelError


def test_a_folder_of_encoders_that_is_none_is_an_error(tmp_path: Path) -> None:
    """A mistyped folder of encoders is told, instead of a run with the lesser model as if nothing had been named."""
    with pytest.raises(ModelError, match=r"--weights.*must be a folder, got .*mistyped"):
        choose_bundle(AUTO, tmp_path / "mistyped")


def test_the_better_model_runs_where_its_encoders_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`auto` is edge with its encoders, else starter with one sentence that holds the command and the size of what is missing."""
    assert Settings().model.name == AUTO
    searched = []

    def file(network: str, folder: Path | None = None) -> Path:
        searched.append(folder)
        return tmp_path / network

    monkeypatch.setattr(automatic, "encoder_file", file)
    assert choose_bundle(AUTO, tmp_path).bundle.card.name == "edge"
    assert choose_bundle(AUTO).note == ""
    assert searched[0] == tmp_path

    def missing(network: str, folder: Path | None = None) -> Path:
        raise ModelError(network)

    monkeypatch.setattr(automatic, "encoder_file", missing)
    bundle, note = choose_bundle(AUTO)
    assert bundle.card.name == "starter"
    assert "streamav models pull edge" in note
    assert "to get them, 34 MB, run" in note

    def half(network: str, folder: Path | None = None) -> Path:
        if network == "yamnet":
            raise ModelError(network)
        return tmp_path / network

    monkeypatch.setattr(automatic, "encoder_file", half)
    assert "(yamnet); to get them, 15 MB, run" in choose_bundle(AUTO).note


def test_a_named_model_is_taken_as_it_is() -> None:
    """A name is never replaced, with or without encoders."""
    assert choose_bundle("starter") == (choose_bundle("starter").bundle, "")
    with pytest.raises(ModelError, match="available"):
        choose_bundle("nobody")
