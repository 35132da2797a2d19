"""`streamav doctor`: checks whether a run would work, and prints each finding with its remedy.

It turns options into settings and prints; `streamav.doctor` checks.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.folding import folded_for
from streamav.cli.named_settings import settings_of
from streamav.config_loading import load_settings
from streamav.redaction import redact

if TYPE_CHECKING:
    from streamav.doctor import Finding

__all__ = ["doctor"]

_SIGNS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}
_INDENT = " " * 9


def doctor(
    source: Annotated[
        str | None, typer.Option("--source", help="File or address, as in streamav run; scene is the embedded scene.")
    ] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Camera, as in streamav run.")] = None,
    mic: Annotated[str | None, typer.Option("--mic", help="Microphone, as in streamav run.")] = None,
    mqtt: Annotated[str | None, typer.Option("--mqtt", help="MQTT broker, as in streamav run.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of a model, or the folder of a bundle.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings; options override it.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides everything else; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check whether `streamav run` would work with the same options, and say what to do where it would not.

    Checks clock, codecs, cameras, microphones, disk, every source from its name to its first picture and sound, the model, its
    engine, and the broker up to a message that comes back. Without a source, camera 0 and the default microphone are checked.
    Exit status: 0 when a run would work, else the status that the run would end with.
    """
    from streamav.doctor import Verdict, examine

    logging.basicConfig(level=logging.ERROR, force=True)  # what is logged becomes findings
    options = settings_of(source=source, camera=camera, mic=mic, mqtt=mqtt, values={"model.name": model})
    settings = load_settings(config, overrides or (), options=options)
    if all(one.uri is None and one.camera is None and one.mic is None and not one.scene for one in settings.each_source()):
        settings = settings.model_copy(update={"source": settings.source.model_copy(update={"camera": "0", "mic": "default"})})
    findings: list[Finding] = []
    for finding in examine(settings):
        findings.append(finding)
        if not as_json:
            typer.echo(folded_for(sys.stdout, f"{_SIGNS[finding.verdict]}  {finding.check}: {redact(finding.found)}", _INDENT))
            if finding.remedy:
                typer.echo(folded_for(sys.stdout, f"         -> {redact(finding.remedy)}", f"{_INDENT}   "))
    errors = [one for one in findings if one.verdict is Verdict.ERROR]
    if as_json:
        rows = [{key: redact(value) if isinstance(value, str) else value for key, value in asdict(one).items()} for one in findings]
        typer.echo(json.dumps({"ok": not errors, "findings": rows}, indent=1))
    else:
        typer.echo("a run would work" if not errors else f"a run would not work: {len(errors)} error{'s' if len(errors) > 1 else ''}")
    if errors:
        raise typer.Exit(errors[0].exit_code)
