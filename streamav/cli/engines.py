"""`streamav engines`: builds, lists, verifies and clears the engines on disk.

It reads options and prints; `streamav.engines` does the work.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.console import set_up_logging
from streamav.cli.model_options import PrecisionOption, WeightsOption
from streamav.cli.progress import progress
from streamav.config import EngineChoice
from streamav.errors import EngineError

if TYPE_CHECKING:
    from streamav.engines.cache import EngineCache, Entry
    from streamav.engines.upkeep import EngineInfo

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Build, list, verify and clear engines, which run the networks."
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
def build(
    model: Annotated[
        str, typer.Option("--model", help="Name of a model (auto, starter, edge, paper), or the folder of a bundle.")
    ] = "auto",
    engine: Annotated[EngineChoice, typer.Option("--engine", help="Engine to build; auto tries the fastest first.")] = "auto",
    precision: PrecisionOption = "auto",
    weights: WeightsOption = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option("--calibration", help="Recording, folder or address whose pictures calibrate int8 and check the engine; repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again even if the engine exists; --calibration does this too.")] = False,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder of built engines; default: the user's cache.")] = None,
    as_json: _Json = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True, help="Exit when standard input is closed.")] = False,
) -> None:
    """Build the engine of a model now, so that no run waits for it.

    Exit status: 0 done, 4 model, 6 the engine cannot be built or differs too much from the float32 reference.
    """
    if with_parent:
        from streamav.engines.builder import end_with_parent

        end_with_parent()
    from streamav.bundle import choose_bundle
    from streamav.config import ModelSettings
    from streamav.engines import EngineCache, open_engine
    from streamav.engines.selection import rebuild

    set_up_logging(verbose=True)
    bundle, kept = choose_bundle(model, weights).bundle, EngineCache(cache)
    settings = ModelSettings(name=model, engine=engine, precision=precision, weights_dir=weights)
    with progress("building", _built_before_s(kept, engine)):
        if calibration:
            from streamav.training.clips.calibration import recorded_material

            rebuild(bundle, settings, kept, recorded_material(calibration, bundle.card))
        elif force:
            rebuild(bundle, settings, kept)
        opened = open_engine(bundle, settings, kept)
    if engine == "auto" and opened.name.startswith("torch"):
        msg = f"no engine could be built for model {model}, so plain torch would run it; the reasons are printed above"
        raise EngineError(msg)
    if as_json:
        typer.echo(json.dumps({"model": model, "engine": opened.name, "folder": str(kept.folder)}))
        return
    typer.echo(f"{opened.name} is ready for model {model}")


@app.command("list")
def list_(as_json: _Json = False) -> None:
    """List the engines on disk, and whether a run would use them.

    Each engine is shown with its differences from the float32 reference. The list ends with the engines that cannot run here.
    """
    from streamav.engines import EngineCache
    from streamav.engines.upkeep import describe, unusable_here

    set_up_logging(verbose=False)
    cache = EngineCache()
    survey = cache.survey()
    found = [describe(entry) for entry in survey.entries]
    damaged = {path.name[:16]: reason for path, reason in survey.damaged}
    unusable = unusable_here()
    if as_json:
        tree = {"folder": str(cache.folder), "engines": [asdict(info) for info in found], "damaged": damaged, "unusable": unusable}
        typer.echo(json.dumps(tree))
        return
    typer.echo(f"engines in {cache.folder}: {len(found) or 'none'}")
    for info in found:
        _print_engine(info)
    for key, reason in damaged.items():
        typer.echo(f"{key}  damaged; it is built again when a run needs it: {reason}")
    if unusable:
        typer.echo("engines that this machine cannot run:")
        for name, problem in unusable.items():
            typer.echo(f"  {name:<14} {problem}")


@app.command()
def verify(as_json: _Json = False) -> None:
    """Compare engines with the float32 reference again.

    Every engine that a run would use is compared with the stored outputs of the reference. Exit status: 0 all passed, 6 one
    failed or is damaged.
    """
    from streamav.engines import EngineCache
    from streamav.engines.upkeep import describe

    set_up_logging(verbose=False)
    survey = EngineCache().survey()
    rows: list[dict[str, object]] = []
    for entry in survey.entries:
        info = describe(entry)
        problem, parity = (None, None) if info.stale is not None else _verify(entry)
        rows.append(
            {"key": info.key, "model": info.model, "recipe": info.recipe, "parity": parity, "problem": problem, "stale": info.stale}
        )
        if not as_json:
            verdict = problem or ("passed" if info.stale is None else f"stale, not checked: {info.stale}")
            typer.echo(f"{info.key}  {info.model:<16} {info.recipe:<14} {verdict}")
    for path, reason in survey.damaged:
        rows.append({"key": path.name[:16], "model": None, "recipe": None, "parity": None, "problem": f"damaged: {reason}", "stale": None})
        if not as_json:
            typer.echo(f"{path.name[:16]}  damaged: {reason}")
    if as_json:
        typer.echo(json.dumps({"engines": rows}))
    failed = sum(row["problem"] is not None for row in rows)
    if failed:
        msg = f"{failed} of {len(rows)} engines failed; run: streamav engines clear   (each engine is built again when a run needs it)"
        raise EngineError(msg)


@app.command()
def clear(
    stale: Annotated[bool, typer.Option("--stale", help="Remove only engines that this version would not use on this machine.")] = False,
    model: Annotated[str | None, typer.Option("--model", help="Remove only the engines of this model.")] = None,
    as_json: _Json = False,
) -> None:
    """Remove engines; a run builds them again when it needs them."""
    from streamav.engines import EngineCache
    from streamav.engines.upkeep import clear as remove

    set_up_logging(verbose=False)
    removed = remove(EngineCache(), stale=stale, model=model)
    typer.echo(json.dumps({"removed": removed}) if as_json else f"removed {removed} engines")


def _built_before_s(cache: EngineCache, engine: str) -> float | None:
    """Return how long the slowest earlier build of such an engine took (s); None where there is none."""
    from streamav.engines.upkeep import describe

    earlier = (describe(entry) for entry in cache.entries(whole=False))
    return max((one.build_s for one in earlier if engine in {"auto", one.recipe.partition("-")[0]}), default=None)


def _print_engine(info: EngineInfo) -> None:
    """Print an engine's name, size and speed, its differences from the reference, and what runs its networks."""
    verdict = "passed" if info.parity.get("passed") is True else "FAILED, not used"
    relative = info.parity.get("relative")
    worst = (
        max((value for value in relative.values() if isinstance(value, int | float)), default=None) if isinstance(relative, dict) else None
    )
    second = "?" if info.second_ms is None else f"{info.second_ms:.1f}"
    state = "current" if info.stale is None else f"stale: {info.stale}"
    typer.echo(
        f"{info.key}  {info.model:<16} {info.recipe:<14} {info.size_mb:8.1f} MB  built in {info.build_s:.1f} s  "
        f"{second} ms per segment  {state}"
    )
    typer.echo(
        f"{'':16}  parity {verdict}: relative error {_number(worst)}, probability error {_number(info.parity.get('probability'))}, "
        f"equal decisions {_number(info.parity.get('decisions'))} ({_number(info.parity.get('relevant'))} of them relevant), "
        f"on {info.details.get('compared_on', 'drawn samples')}"
    )
    runtimes, lowered = info.details.get("runtimes"), info.details.get("lowered")
    if isinstance(runtimes, dict):
        precision = info.recipe.rpartition("-")[2]
        small = f"; {precision}: {', '.join(map(str, lowered)) or 'none'}" if isinstance(lowered, list) else ""
        typer.echo(f"{'':16}  " + ", ".join(f"{name} in {runtime}" for name, runtime in runtimes.items()) + small)


def _verify(entry: Entry) -> tuple[str | None, dict[str, object] | None]:
    """Return the problem of an engine, or None, and its parity if it could be run."""
    from streamav.engines.upkeep import verify as run_again

    try:
        parity = run_again(entry)
    except EngineError as exc:
        return str(exc), None
    problem = None if parity.passed else f"differs from the reference by {parity.probability:.2g} in a probability"
    return problem, dict(parity.tree())


def _number(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, int | float) else "?"
