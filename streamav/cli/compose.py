"""`streamav compose`: makes clips from sounds and photos with exact truth and writes their features in AVE's form.

It reads options and shows progress; `streamav.training.composite` does the work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streamav.cli.model_options import FeaturesModelOption, WeightsOption
from streamav.cli.progress import progress

__all__ = ["compose"]


def compose(
    material: Annotated[Path, typer.Option("--material", help="Folder with index.csv, sounds, photos, ambience and backdrops.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the features; a second call continues where the first stopped.")],
    model: FeaturesModelOption = "starter",
    weights: WeightsOption = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder for the decoded material; default: OUT.material.")] = None,
    train: Annotated[int, typer.Option(min=1, help="Number of training clips with an event.")] = 1920,
    held_out: Annotated[
        int, typer.Option("--held-out", min=1, help="Number of clips with an event in the val split, and again in the test split.")
    ] = 384,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Make clips without room echo, filters, night, blur and grain.")] = False,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Number of threads of the encoders.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Make labelled clips and compute their features; then `streamav train --data OUT` trains on them."""
    import torch

    from streamav.bundle import choose_bundle
    from streamav.training.composite.folder import ClipCounts, bundle_encoders
    from streamav.training.composite.folder import compose as write
    from streamav.training.composite.material import read_index
    from streamav.training.experiments.export import save_encoder_weights

    read_index(material)  # reports errors in it before the slow start of the encoders
    torch.set_num_threads(threads)
    bundle = choose_bundle(model, weights).bundle
    encoders = bundle_encoders(bundle, weights)
    counts = ClipCounts(train=train, val=held_out, test=held_out, plain=plain)
    folder = out.with_name(f"{out.name}.material") if cache is None else cache
    with progress("clips") as show:
        write(material, out, encoders, folder, counts, seed, show)
    save_encoder_weights(out, bundle)  # training then writes a complete model
    if as_json:
        typer.echo(json.dumps({"out": str(out), "model": bundle.card.name, "clips": {"train": train, "val": held_out, "test": held_out}}))
        return
    typer.echo(f"features in {out}; next: streamav train --data {out} --set train.pairs=true --out MODEL")
