"""Holds the options of the model that several commands take, so that each has one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamav.config import EngineChoice, PrecisionChoice

__all__ = ["EngineOption", "FeaturesModelOption", "PrecisionOption", "WeightsOption"]

WeightsOption = Annotated[Path | None, typer.Option("--weights", help="Folder with the encoders that the model does not contain.")]
FeaturesModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="Model whose encoders compute the features: a name, a folder, or auto as in streamav run. The default is not auto, because a "
        "second call must use the same encoders, whatever was fetched meanwhile.",
    ),
]
EngineOption = Annotated[EngineChoice, typer.Option("--engine", help="Engine that runs the networks; auto is the fastest that works here.")]
PrecisionOption = Annotated[
    PrecisionChoice, typer.Option("--precision", help="Precision of the networks' numbers; auto is the engine's default.")
]
