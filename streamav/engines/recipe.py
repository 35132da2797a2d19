"""Reads the recipes of engines: precision, how many inputs run at once, and how far an engine may be from the reference.

It builds nothing. The files are `engines/*.toml`, described in `engines/README.md`.
"""

from __future__ import annotations

import hashlib
import logging
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamav.errors import EngineError, reason_of

__all__ = [
    "NETWORK_NAMES",
    "Batch",
    "EngineName",
    "Precision",
    "Recipe",
    "Tolerance",
    "UsualBatch",
    "find_recipe",
    "load_recipe",
    "recipe_names",
]

NETWORK_NAMES = ("visual", "audio", "encode_segment", "localize_window")
"""The four networks of a model, in the order in which a segment passes through them."""

EngineName = Literal["torch", "cpu", "cuda", "tensorrt"]
NetworkName = Literal["visual", "audio", "encode_segment", "localize_window"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Count = Annotated[int, Field(ge=1, le=1024)]

_log = logging.getLogger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Batch(_Part):
    """Largest number of inputs that each network takes at once; a longer batch is cut into pieces, which bounds the memory."""

    visual: Count
    """Pictures."""
    visual_pixels: Annotated[int, Field(ge=1)]
    """Pixels of all pictures together, since large networks take large pictures."""
    audio: Count
    """Log-mel patches."""
    encode_segment: Count
    """Segments."""
    localize_window: Count
    """Windows."""


class UsualBatch(_Part):
    """Batch size for which a builder tunes each network; other sizes run too."""

    visual: Count
    audio: Count
    encode_segment: Count
    localize_window: Count


class Tolerance(_Part):
    """How far an engine may be from float32 torch on the same inputs; an engine beyond it is not used."""

    relative: Annotated[float, Field(gt=0.0)]
    """Largest error of any output of any network, over the largest absolute value of that output."""
    probability: Annotated[float, Field(gt=0.0, le=1.0)]
    """Largest difference of any relevance or class probability, from pictures and sound to scores."""
    decisions: Annotated[float, Field(ge=0.0, le=1.0)]
    """Smallest share of segments whose class is the same and whose relevance is on the same side of one half."""


class Recipe(_Part):
    """How to make one engine."""

    name: str
    """Name of the file without its suffix: engine and precision, such as cpu-fp32."""
    engine: EngineName
    precision: Precision
    description: str
    batch: Batch
    tolerance: Tolerance
    usual_batch: UsualBatch | None = None
    """None for the largest batch."""
    float32: tuple[NetworkName, ...] = ()
    """Networks that stay float32, whatever the precision is."""
    workspace_bytes: Annotated[int, Field(ge=0)] = 0
    """Memory that a builder may use in addition to the network's own, bytes; 0 lets the builder choose."""
    lowered: tuple[Literal["visual", "audio"], ...] = ()
    """On the CPU: networks that run in the recipe's precision; the rest stays float32."""
    lowered_l2: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Largest relative L2 error of such a network's output against float32; a network with a larger error stays float32."""

    @property
    def sha256(self) -> str:
        """Return the hash of the recipe's values without the description, 64 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json(exclude={"description"}).encode()).hexdigest()


def _folder() -> Path:
    """Return the folder of the recipes: inside an installed package, or at the root of a working tree."""
    packaged = Path(str(resources.files("streamav"))) / "engines" / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "engines"


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def find_recipe(name: str) -> Recipe | None:
    """Read one recipe that was not asked for by name. A wrong recipe file gives one warning and None, since other recipes remain."""
    try:
        return load_recipe(name)
    except EngineError as exc:
        _log.warning("engine: %s is skipped: %s", name, exc)
        return None


def load_recipe(name: str) -> Recipe:
    """Read one recipe.

    Args:
        name: engine and precision, such as "cpu-fp32".

    Raises:
        EngineError: when there is no recipe of that name, or it is wrong.
    """
    if name not in recipe_names():
        msg = f"there is no engine recipe {name!r}; choose one of: {', '.join(recipe_names()) or 'none'}"
        raise EngineError(msg)
    path = _folder() / f"{name}.toml"
    try:
        recipe = Recipe.model_validate({"name": name, **tomllib.loads(path.read_text(encoding="utf-8"))})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        msg = f"the engine recipe {path} must be TOML: {reason_of(exc)}; see engines/README.md"
        raise EngineError(msg) from exc
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors())
        msg = f"the engine recipe {path} is wrong: {wrong}; see engines/README.md"
        raise EngineError(msg) from exc
    if name != f"{recipe.engine}-{recipe.precision}":
        msg = f"the engine recipe {path} must be of the engine and precision in its name, got {recipe.engine} {recipe.precision}"
        raise EngineError(msg)
    return recipe
