"""`streamav changes`: shows what a run detects otherwise than its configuration says, and takes it back.

It reads and writes the file of kept changes; it does not talk to a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streamav.config_loading import load_settings
from streamav.control import KeptChanges, kept_path
from streamav.control.kept import leaves
from streamav.errors import SettingsError, reason_of
from streamav.publish.state_folder import default_state_dir

__all__ = ["changes"]


def changes(
    name: Annotated[str | None, typer.Option("--id", help="Only this source.")] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the changes, so that the next start has the configuration.")] = False,
    raw: Annotated[bool, typer.Option("--json", help="Print one JSON object: source, setting, value.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of the run; it may name state_dir.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, such as state_dir=FOLDER; repeatable.")] = None,
) -> None:
    """Show the changes that MQTT commands and the HTTP API made during runs; they hold on top of the configuration.

    Stop the run before you use --forget: a run keeps its changes in memory, and writes all of them again at its next change.

    Exit status: 0 done; 2 settings, no such source, or the file cannot be used.
    """
    settings = load_settings(config, overrides or ())
    state = settings.state_dir if settings.state_dir is not None else default_state_dir()
    path = kept_path(state)
    kept = KeptChanges(path)
    try:
        found = kept.load()
    except (OSError, ValueError, RecursionError) as exc:
        what = f"the kept changes {path} must be a JSON file that this user can read"
        msg = f"{what}, got: {reason_of(exc)}; mend it, or delete it to forget all changes"
        raise SettingsError(msg) from None
    if name is not None:
        if name not in found:
            msg = f"--id must name a source with changes ({', '.join(sorted(found)) or 'there is none'}), got {name!r}"
            raise SettingsError(msg)
        found = {name: found[name]}
    if raw:
        rows = {source: {".".join(keys): value for keys, value in leaves(tree)} for source, tree in sorted(found.items())}
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        for source, tree in sorted(found.items()):
            for keys, value in sorted(leaves(tree)):
                typer.echo(f"{source}  detection.{'.'.join(keys)} = {json.dumps(value, ensure_ascii=False)}")
        if not found:
            typer.echo("no changes: runs detect what their configuration says", err=True)
    if forget and found:
        try:
            kept.replace({source: {} for source in found})
        except OSError as exc:
            msg = f"the kept changes {path} must be a file that this user can write, got: {reason_of(exc)}; nothing was forgotten"
            raise SettingsError(msg) from None
        typer.echo(f"the changes of {', '.join(sorted(found))} are removed", err=True)
