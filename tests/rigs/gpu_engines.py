"""Stand-ins for engines and makers that need a GPU, and for a machine with recipes for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamav.config import ModelSettings
from streamav.engines import making, selection
from streamav.engines.cache import EngineCache
from streamav.engines.keys import engine_key
from streamav.engines.maker import EngineRequest
from streamav.engines.recipe import Recipe, load_recipe
from streamav.errors import EngineError

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import nn

    from streamav.bundle import Bundle
    from streamav.engines.parity import Answers
    from streamav.protocols import Engine

NAMES = ("cpu-fp32", "cpu-int8", "cuda-bf16", "cuda-fp16", "tensorrt-bf16", "tensorrt-fp16", "torch-fp32")


@dataclass
class StandIn:
    """A maker whose engines are torch engines with another name."""

    missing: str | None = None
    """What the maker needs and this machine does not have; None when nothing is missing."""
    fault: str | None = None
    """Error message of compile; None when compiling succeeds."""
    takes_long: bool = False
    compiled: list[str] = field(default_factory=list)

    def problem(self, recipe: Recipe) -> str | None:
        return self.missing

    def parts(self, request: EngineRequest) -> dict[str, str]:
        return {"libraries": "none"}

    def compile(self, request: EngineRequest, modules: Mapping[str, nn.Module], answers: Answers, folder: Path) -> dict[str, JsonValue]:
        self.compiled.append(request.recipe.name)
        if self.fault is not None:
            raise EngineError(self.fault)
        return {}

    def load(self, request: EngineRequest, folder: Path, facts: Mapping[str, JsonValue]) -> Engine:
        from streamav.engines.modules import build_modules
        from streamav.engines.torch_engine import TorchEngine

        engine = TorchEngine(build_modules(request.bundle), request.recipe.batch)
        engine.name = f"stand-in-{request.recipe.name}"
        return engine


@dataclass
class World:
    """A machine with these makers and this cache of engines."""

    bundle: Bundle
    cache: EngineCache
    makers: dict[str, StandIn] = field(default_factory=lambda: {name: StandIn() for name in ("tensorrt", "cuda", "cpu")})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> World:
        """Replace the recipes and makers that selection uses with those of this machine."""
        monkeypatch.setattr(making, "second_ms", lambda *_: 1.0)  # timing takes longer than the rest of the test
        monkeypatch.setattr(selection, "recipe_names", lambda: NAMES)
        monkeypatch.setattr(selection, "load_recipe", recipe)
        monkeypatch.setattr(selection, "find_recipe", recipe)
        monkeypatch.setattr(selection, "maker_of", lambda one: self.makers[one.engine])
        monkeypatch.setattr(selection, "is_slow", lambda request: self.makers[request.recipe.engine].takes_long)
        return self

    def request(self, name: str) -> EngineRequest:
        return EngineRequest(bundle=self.bundle, settings=ModelSettings(), recipe=recipe(name))

    def lay(self, name: str, second_ms: float, *, passed: bool = True) -> None:
        """Add an engine to the cache as after a build."""
        one = recipe(name)
        facts: dict[str, JsonValue] = {"recipe": name, "second_ms": second_ms, "parity": {"passed": passed}}
        self.cache.get(engine_key(self.makers[one.engine], self.request(name)), lambda _: facts)

    def ranked(self, engine: str = "auto", precision: str = "auto") -> list[str]:
        return [one.name for one in selection.ranked(self.bundle, asked(engine, precision), self.cache)]


def recipe(name: str) -> Recipe:
    engine, precision = name.split("-")
    return load_recipe("cpu-fp32").model_copy(update={"name": name, "engine": engine, "precision": precision})


def asked(engine: str, precision: str = "auto") -> ModelSettings:
    return ModelSettings.model_validate({"engine": engine, "precision": precision, "threads": 1})
