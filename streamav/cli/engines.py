"""`streamav engines`: builds, lists, verifies and clears the engines on disk.

It prints; the work is done by `streamav.engines`.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.errors import EngineError

if TYPE_CHECKING:
    from streamav.engines.cache import Entry

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Build, list, verify and clear engines.")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
def build(
    model: Annotated[str, typer.Option("--model", help="starter, edge, paper, or the folder of a bundle.")] = "starter",
    engine: Annotated[Literal["auto", "torch", "cpu", "cuda", "tensorrt"], typer.Option("--engine")] = "auto",
    precision: Annotated[Literal["auto", "fp32", "fp16", "bf16", "int8"], typer.Option("--precision")] = "auto",
    weights: Annotated[Path | None, typer.Option("--weights", help="Folder with encoders that the bundle does not hold.")] = None,
) -> None:
    """Build the engine of a model now, so that the first run starts at once."""
    from streamav.bundle import find_bundle
    from streamav.config import ModelSettings
    from streamav.engines import open_engine

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("streamav").setLevel(logging.INFO)
    opened = open_engine(find_bundle(model), ModelSettings(name=model, engine=engine, precision=precision, weights_dir=weights))
    typer.echo(f"{opened.name} is ready for model {model}")


@app.command("list")
def list_(as_json: _Json = False) -> None:
    """List the engines on disk, each with how far it is from the float32 reference."""
    from streamav.engines import EngineCache
    from streamav.engines.upkeep import describe

    cache = EngineCache()
    found = [describe(entry) for entry in cache.entries()]
    if as_json:
        typer.echo(json.dumps({"folder": str(cache.folder), "engines": [asdict(info) for info in found]}))
        return
    typer.echo(f"engines in {cache.folder}: {len(found) or 'none'}")
    for info in found:
        verdict = "passed" if info.parity.get("passed") is True else "FAILED"
        typer.echo(
            f"{info.key}  {info.model:<16} {info.recipe:<14} {info.size_mb:8.1f} MB  parity {verdict}, "
            f"probability error {_number(info.parity.get('probability'))}, decisions alike {_number(info.parity.get('decisions'))}"
        )


@app.command()
def verify(as_json: _Json = False) -> None:
    """Compare every engine on disk with the reference's stored answers again; exit status 6 when one fails."""
    from streamav.engines import EngineCache
    from streamav.engines.upkeep import describe

    rows = []
    for entry in EngineCache().entries():
        info = describe(entry)
        problem, parity = _verify(entry)
        rows.append({"key": info.key, "model": info.model, "recipe": info.recipe, "parity": parity, "problem": problem})
        if not as_json:
            typer.echo(f"{info.key}  {info.model:<16} {info.recipe:<14} {problem or 'passed'}")
    if as_json:
        typer.echo(json.dumps({"engines": rows}))
    failed = sum(row["problem"] is not None for row in rows)
    if failed:
        msg = f"{failed} of {len(rows)} engines failed; run: streamav engines clear   (they are built again when they are needed)"
        raise EngineError(msg)


@app.command()
def clear() -> None:
    """Remove all engines on disk; each is built again when it is needed."""
    from streamav.engines import EngineCache

    typer.echo(f"removed {EngineCache().clear()} engines")


def _verify(entry: Entry) -> tuple[str | None, dict[str, object] | None]:
    """Give what is wrong with an engine, or None, and its parity where it could be run."""
    from streamav.engines.upkeep import verify as run_again

    try:
        parity = run_again(entry)
    except EngineError as exc:
        return str(exc), None
    problem = None if parity.passed else f"differs from the reference by {parity.probability:.2g} in a probability"
    return problem, dict(parity.tree())


def _number(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, int | float) else "?"
