"""`streamav support-bundle`: writes one file for people who help. It reads options and prints; `streamav.support` does the work."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from streamav.cli.named_settings import settings_of
from streamav.cli.outputs import check_output
from streamav.config_loading import load_settings

__all__ = ["support_bundle"]


def support_bundle(
    out: Annotated[Path, typer.Argument(help="ZIP file to write; it must not exist.")],
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with the settings of the run.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="File or address, as in streamav run.")] = None,
    log: Annotated[list[Path] | None, typer.Option("--log", help="A log file to include; repeatable.")] = None,
    doctor: Annotated[
        bool, typer.Option("--doctor/--no-doctor", help="Run the checks of streamav doctor, which open sources and connect to the broker.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides everything else; repeatable.")] = None,
) -> None:
    """Write one ZIP file for people who help: versions, settings, findings, devices, model, engines, log and events.

    Passwords, tokens and the secrets of addresses are removed. There are no pictures and no sounds in it. Look through it before you
    send it: it names cameras, brokers and events.

    Exit status: 0 done, 2 a setting is wrong or the file cannot be written.
    """
    from streamav.support.bundle import write_bundle

    check_output("OUT", out)
    logging.basicConfig(level=logging.CRITICAL, force=True)  # what is logged becomes findings
    options = settings_of(source=source, camera=None, mic=None, mqtt=None, values={})
    settings = load_settings(config, overrides or (), options=options)
    names = write_bundle(out, settings, log or (), doctor=doctor, say=lambda what: typer.echo(what, err=True))
    if as_json:
        typer.echo(json.dumps({"file": str(out), "bytes": out.stat().st_size, "files": names}))
        return
    typer.echo(f"{out}: {len(names)} files, {out.stat().st_size / 1000:.0f} kB; look through it before you send it")
