"""The role of what makes engines, and the request that it gets. TensorRT, CUDA and the CPU each have a module that fills the role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import JsonValue
    from torch import nn

    from streamav.bundle import Bundle
    from streamav.config import ModelSettings
    from streamav.engines.parity import Answers
    from streamav.engines.recipe import Recipe
    from streamav.engines.samples import Calibration
    from streamav.protocols import Engine

__all__ = ["EngineRequest", "Maker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """What an engine is made from: model, settings, recipe and calibration."""

    bundle: Bundle
    settings: ModelSettings
    """Threads, and the folder of encoders that the bundle does not hold."""
    recipe: Recipe
    calibration: Calibration | None = None
    """Recorded material; None for the drawn samples of `samples`. It is no part of the key: an engine is kept until it is built again."""


class Maker(Protocol):
    """One way to make engines; each engine's module has a class for it."""

    def problem(self, recipe: Recipe) -> str | None:
        """Return why this machine cannot run such an engine, in half a sentence, or None when it can. Quick; never raises."""

    def parts(self, request: EngineRequest) -> Mapping[str, str]:
        """Return the parts of the key besides model, recipe and networks: versions of libraries, processor or GPU."""

    def compile(self, request: EngineRequest, modules: Mapping[str, nn.Module], answers: Answers, folder: Path) -> Mapping[str, JsonValue]:
        """Write the engine's files into *folder* and return facts to keep; there may be no files and no facts.

        If compiling times the networks anyway, it returns the fact second_ms, and they are not timed again.

        Args:
            request: the model, settings and recipe of the engine.
            modules: the four float32 torch modules by name, on the CPU, in evaluation mode; they may be changed.
            answers: inputs and float32 outputs of each network on the samples.
            folder: an empty folder of the cache.

        Raises:
            EngineError: when it cannot be made.
        """

    def load(self, request: EngineRequest, folder: Path, facts: Mapping[str, JsonValue]) -> Engine:
        """Load the engine that compile() made.

        Args:
            request: as in compile().
            folder: folder of the entry.
            facts: the facts that compile() returned.

        Raises:
            EngineError: when it cannot be loaded.
        """
