"""`streamav models`: lists, describes, checks, fetches, imports and copies models.

It reads options and prints; `streamav.bundle` and `streamav.networks` do the work. torch is loaded only by commands that check weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.model_info import info_lines
from streamav.cli.model_options import WeightsOption
from streamav.cli.progress import progress
from streamav.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from streamav.bundle import Bundle, ModelCard
    from streamav.bundle.catalogue import PublicFile

__all__ = ["app"]

app = typer.Typer(help="List, describe, check, fetch, import and copy models.", no_args_is_help=True, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Name = Annotated[str, typer.Argument(help="Name of a model, or the folder of a bundle.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the new bundle.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a bundle that exists already.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models, and the encoders that they need.

    Encoders that must be fetched first are named.
    """
    from streamav.bundle import bundle_names, load_bundle

    rows: list[dict[str, object]] = []
    for name, path in bundle_names().items():
        try:
            card = load_bundle(path).card
            what = {"profile": card.profile, "version": card.version, "classes": len(card.classes), "missing": _missing(card)}
            rows.append({"name": name, "path": str(path), **what, "error": None})
        except ModelError as exc:
            rows.append({"name": name, "path": str(path), "error": str(exc)})
    if as_json:
        _print_json(rows)
        return
    _table(
        ("name", "profile", "version", "classes", "encoders to pull", "folder"),
        [
            (row["name"], row["profile"], row["version"], row["classes"], " ".join(_words(row["missing"])) or "-", row["path"])
            if row["error"] is None
            else (row["name"], "cannot be used", "", "", "", row["path"])
            for row in rows
        ],
    )


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Show what a model finds, needs and was made of.

    Prints its card: classes, networks, thresholds, data, licences, figures.
    """
    from streamav.bundle import find_bundle

    bundle = find_bundle(name)
    if as_json:
        tree = json.loads(bundle.card.to_json())
        _print_json({**tree, "path": str(bundle.path), "sha256": bundle.sha256, "missing": _missing(bundle.card)})
        return
    _say("\n".join(info_lines(bundle, _missing(bundle.card))))


@app.command()
def verify(
    name: Name,
    folder: WeightsOption = None,
    as_json: Json = False,
) -> None:
    """Check that a model is complete and unchanged.

    Checks the card, hashes, and every weight of every network.

    Exit status: 0 complete, 4 not complete.
    """
    from streamav.bundle import find_bundle

    bundle = find_bundle(name)
    checked = _check_networks(bundle, folder)
    missing = _missing(bundle.card, folder)
    if as_json:
        _print_json({"name": bundle.card.name, "path": str(bundle.path), "sha256": bundle.sha256, "checked": checked, "missing": missing})
        return
    _say(f"{bundle.card.name} is complete: {bundle.path}")
    _say(f"weights {bundle.sha256}; networks checked: {', '.join(checked)}")
    for network in missing:
        _say(f"encoder not fetched yet: {network}; run: streamav models pull {network}")


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(help="A model (paper, edge) or one encoder (vgg19, vggish, efficientnet_lite0, mobilenetv2, yamnet).")
    ],
    source: Annotated[
        str | None, typer.Option("--from", help="File, folder or web address to take it from; default: its public address.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--to", help="Folder to put it into; default: the user's folder for encoders.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch the public encoders of a model, or one of them.

    An interrupted download continues where it stopped.
    """
    from streamav.bundle.catalogue import encoders_of
    from streamav.networks.encoders import load_encoder

    entries = encoders_of(name)
    if len(entries) > 1 and source is not None and not (source.endswith("/") or Path(source).is_dir()):
        msg = f"{name} has {len(entries)} files: --from must be a folder, or an address that ends in /, got {source}"
        raise ModelError(msg)
    done: list[dict[str, object]] = []
    for entry in entries:
        path = _pull_one(entry, source, folder)
        load_encoder(entry.network, path)
        done.append({"network": entry.network, "path": str(path), "bytes": path.stat().st_size, "licence": entry.licence})
    if as_json:
        _print_json(done)
        return
    _table(("network", "bytes", "licence", "file"), [(row["network"], row["bytes"], row["licence"], row["path"]) for row in done])


@app.command("import")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="Checkpoint of the VSCG authors: a whole-module pickle or a state_dict (.pt).")],
    out: Out,
    name: Annotated[str | None, typer.Option("--name", help="Name of the new model; default: the name of the folder.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint of the VSCG authors.

    It becomes the bundle of a model. Code in the file is never run.
    """
    from streamav.bundle import write_bundle
    from streamav.bundle.card import card_name
    from streamav.bundle.paper import imported_card
    from streamav.bundle.store import weights_sha256
    from streamav.networks.files.checkpoint import MAX_REFERENCE_BYTES, load_reference, reference_arrays

    model = load_reference(file)
    card = imported_card(card_name(name or out.name, "imported"), asdict(model.options), weights_sha256(file, MAX_REFERENCE_BYTES))
    bundle = write_bundle(out, card, reference_arrays(model), replace=force)
    if as_json:
        _print_json({"path": str(bundle.path), "supervision": model.options.supervision, "sha256": bundle.sha256})
        return
    _say(f"{bundle.path}: the authors' {model.options.supervision} supervised network")
    _say(f"it needs two encoders; run: streamav models pull {card.profile}")


@app.command()
def export(
    name: Name,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a copy of the bundle.")] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", help="Folder for ONNX files that other programs run, with card and description.")
    ] = None,
    weights: WeightsOption = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Copy a model to a folder, or write it as ONNX.

    The ONNX files run with ONNX Runtime alone.
    """
    from streamav.bundle import find_bundle
    from streamav.bundle.store import copy_bundle

    if (out is None) == (onnx is None):
        msg = "export needs one of --out (a copy of the bundle) and --onnx (ONNX files), got " + ("none" if out is None else "both")
        raise SettingsError(msg)
    bundle = find_bundle(name)
    if onnx is not None:
        _export_onnx(bundle, onnx, weights, force=force, as_json=as_json)
        return
    if out is None:
        return
    copy = copy_bundle(bundle, out, replace=force)
    if as_json:
        _print_json({"path": str(copy.path), "model": copy.card.name, "sha256": copy.sha256})
        return
    _say(f"{bundle.path} -> {copy.path}")


def _export_onnx(bundle: Bundle, folder: Path, weights: Path | None, *, force: bool, as_json: bool) -> None:
    """Write the ONNX files and say what each takes and returns.

    Raises:
        SettingsError: when the folder holds something else, or has no parent.
    """
    from streamav.export import export_model

    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (force and (folder / "model.json").is_file()))):
        msg = f"--onnx must be a new or empty folder, got {folder}; name another one, or add --force to replace an earlier export"
        raise SettingsError(msg)
    if not folder.absolute().parent.is_dir():
        msg = f"--onnx must be in a folder that exists, got {folder}; make {folder.parent} first"
        raise SettingsError(msg)
    made = export_model(bundle, folder, weights)
    if as_json:
        files = [
            {"file": f"{one.name}.onnx", "takes": one.inputs, "returns": one.outputs, "relative_error": float(one.error)} for one in made
        ]
        _print_json({"path": str(folder), "model": bundle.card.name, "files": files})
        return
    _table(("file", "takes", "returns"), [(f"{one.name}.onnx", one.inputs, one.outputs) for one in made])
    _say(f"{folder}: largest relative error against torch {max(one.error for one in made):.1e}; examples/onnx_runtime.py runs it")


def _pull_one(entry: PublicFile, source: str | None, folder: Path | None) -> Path:
    """Fetch one file and show the progress."""
    from streamav.bundle.pull import pull as fetch

    with progress(entry.network) as show:

        def told(done: int, total: int | None) -> None:
            show(done, total, f"{done / 1e6:.1f} MB" + ("" if total is None else f" of {total / 1e6:.1f} MB"))

        return fetch(entry, source=source, folder=folder, progress=told)


def _check_networks(bundle: Bundle, folder: Path | None) -> list[str]:
    """Check that the weights fit the networks that the card names, and return the checked networks.

    Raises:
        ModelError: when the weights do not fit.
    """
    from streamav.engines.modules import build_modules
    from streamav.networks.options import VSCGOptions
    from streamav.networks.state import checked_state
    from streamav.networks.vscg import VSCG

    if not _missing(bundle.card, folder):
        build_modules(bundle, folder)
        return [bundle.card.audio.network, bundle.card.visual.network, bundle.card.localizer.network]
    localizer = VSCG(VSCGOptions.from_dict(bundle.card.localizer.options))
    checked_state(bundle.weights("localizer"), localizer, f"the localizer of {bundle.path}")
    return [bundle.card.localizer.network]


def _missing(card: ModelCard, folder: Path | None = None) -> list[str]:
    """Return the external encoders that are not in *folder*; None is the user's folder for encoders."""
    from streamav.bundle.automatic import missing_encoders

    return missing_encoders(card, folder)


def _words(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []


def _table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Print a table, or lines with tabs when standard output is not a terminal."""
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    if not console.is_terminal:
        for row in rows:
            _say("\t".join(map(str, row)))
        return
    table = Table(*heads[:-1], Column(heads[-1], overflow="fold"))  # a folder must be copied whole
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def _print_json(value: object) -> None:
    _say(json.dumps(value, indent=2, ensure_ascii=False))


def _say(line: str) -> None:
    typer.echo(line)
