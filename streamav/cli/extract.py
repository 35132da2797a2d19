"""`streamav extract`: computes features of labelled media files with a model's encoders, as HDF5 files with AVE's names.

It reads options and shows progress; `streamav.training.clips.ave_media` (AVE's annotations) and `features` (own clips) do the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.json_output import print_json
from streamav.cli.model_options import FeaturesModelOption, WeightsOption
from streamav.cli.progress import progress
from streamav.cli.wording import counted
from streamav.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.bundle import Bundle
    from streamav.config import ModelSettings
    from streamav.training.clips.ave_media import Extraction
    from streamav.training.clips.encode import MediaWorker
    from streamav.training.clips.features import ClipExtraction
    from streamav.training.clips.rows import ClipOptions

__all__ = ["extract", "extract_own_clips"]


def extract(
    media: Annotated[Path, typer.Option("--media", help="Folder of the media files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the features; a second call continues where the first stopped.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Table of own clips, CSV: file,label,onset_s,offset_s[,split][,group]; default: MEDIA/labels.csv if it exists."
        ),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="AVE's Annotations.txt: category&video id&quality&start&end.")
    ] = None,
    model: FeaturesModelOption = "starter",
    weights: WeightsOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Number of threads of the CPU engine; with --ray, of each actor.")
    ] = None,
    stride: Annotated[
        int, typer.Option(min=1, max=10, help="With --labels: seconds from the start of one training row of a file to the next.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="With --labels: seed of the division into splits, if the table has none.")] = 0,
    float32: Annotated[bool, typer.Option("--float32", help="With --labels: store float32 instead of float16.")] = False,
    ray: Annotated[
        str | None, typer.Option("--ray", help="Work in parallel with Ray Data: local, auto, or HOST:PORT of a cluster.")
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Exit with status 0 even if some clips cannot be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Compute features from media files with a model's encoders.

    Name a table of your own clips (--labels) or AVE's annotations (--annotations). When a clip cannot be read, all others are
    still extracted, and the exit status is 7.
    """
    from streamav.bundle import choose_bundle
    from streamav.config import ModelSettings

    if not media.is_dir():
        msg = f"--media must be a folder of media files, got {media}; check the path"
        raise DataError(msg)
    if labels is None and annotations is None and (media / "labels.csv").is_file():
        labels = media / "labels.csv"
    if labels is None and annotations is None:
        msg = f"{media} holds no labels.csv; write one (docs/own-clips.md), or name the table with --labels, or AVE's with --annotations"
        raise SettingsError(msg)
    if labels is not None and annotations is not None:
        msg = "at most one of --labels (own clips) and --annotations (AVE's annotations) may be given, got both; leave one out"
        raise SettingsError(msg)
    bundle = choose_bundle(model, weights).bundle
    settings = ModelSettings(name=model, weights_dir=weights, threads=threads)
    if labels is not None:
        from streamav.training.clips.rows import ClipOptions

        options = ClipOptions(stride=stride, seed=seed, dtype="float32" if float32 else "float16")
        found = extract_own_clips(media, labels, out, (bundle, settings), options, ray=ray, skip=skip)
        if as_json:
            print_json({"out": str(out), "files": found.files, "rows": found.rows, "failed": found.failed}, indent=None)
            return
        rows = ", ".join(f"{count} {split}" for split, count in found.rows.items())
        typer.echo(f"{counted(found.files, 'file')} in {out}: {rows} rows; {len(found.failed)} could not be read")
    elif annotations is not None:
        result = _extract_ave(media, annotations, out, (bundle, settings), ray=ray)
        told = {"out": str(out), "clips": result.done, "failed": {str(row): reason for row, reason in result.failed.items()}}
        if as_json:
            print_json(told, indent=None)
        else:
            typer.echo(f"{result.done} clips in {out}, {len(result.failed)} could not be read")
        if result.failed and not skip:
            _refuse(len(result.failed))


def extract_own_clips(
    media: Path,
    labels: Path,
    out: Path,
    model: tuple[Bundle, ModelSettings],
    options: ClipOptions,
    *,
    ray: str | None,
    skip: bool,
) -> ClipExtraction:
    """Extract features of own clips and show progress on standard error.

    Args:
        media: folder of the clips.
        labels: the table.
        out: folder of the features.
        model: the model whose encoders are used, and its settings.
        options: how rows are cut. Without rows, clips may hold two labels at one time.
        ray: where Ray runs; None for this process.
        skip: go on when files cannot be read.

    Raises:
        DataError: when the table is wrong, or when files cannot be read and *skip* is false.
    """
    from streamav.training.clips.encode import media_seconds
    from streamav.training.clips.features import extract_clips
    from streamav.training.clips.table import read_clip_table

    table = read_clip_table(labels, media, together=not options.rows)
    lengths = {clip.file: media_seconds(media / clip.file) or 1.0 for clip in table.clips}
    with progress("seconds of media") as show:
        done: list[str] = []

        def tell(file: str, inside: int = 0) -> None:
            show(sum(lengths[one] for one in done) + inside, sum(lengths.values()), file)

        def told(file: str) -> None:
            done.append(file)
            tell(file)

        worker = _worker(model, ray, lambda key, seconds: tell(table.clips[key].file, seconds))
        found = extract_clips(table, out, model[0], worker, options, skip=skip, progress=told)
    for file, reason in found.failed.items():
        typer.echo(f"{file}: {reason}", err=True)
    if found.failed and not skip:
        _refuse(len(found.failed))
    return found


def _extract_ave(media: Path, annotations: Path, out: Path, model: tuple[Bundle, ModelSettings], *, ray: str | None) -> Extraction:
    """Extract features of AVE's clips, show the progress, and name what cannot be read."""
    from streamav.training.clips.ave_media import extract_folder

    with progress("clips") as show:
        worker = _worker(model, ray, None)
        result = extract_folder(media, annotations, out, *model, show, worker)
    for row, reason in sorted(result.failed.items()):
        typer.echo(f"row {row}: {reason}", err=True)
    return result


def _refuse(failed: int) -> None:
    msg = f"{failed} clips could not be read; correct them and run the command again, or add --skip"
    raise DataError(msg)


def _worker(model: tuple[Bundle, ModelSettings], ray: str | None, tick: Callable[[int, int], None] | None) -> MediaWorker:
    """Return what computes the features: this process, or Ray's actors."""
    if ray is None:
        from streamav.training.clips.ave_media import local_worker

        return local_worker(*model, tick)
    from streamav.training.clips.features import model_name
    from streamav.training.clips.ray_extraction import RayWorker

    return RayWorker(model=model_name(model[0]), settings=model[1], address=ray)
