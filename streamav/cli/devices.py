"""`streamav devices`: lists cameras and microphones with the ids that --camera and --mic take.

It does not open them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.errors import CaptureError

if TYPE_CHECKING:
    from streamav.capture import Device

__all__ = ["devices"]


def devices(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False) -> None:
    """List cameras and microphones, with the values for --camera and --mic of `streamav run`."""
    from streamav.capture import list_cameras, list_microphones

    cameras = list_cameras()
    problem = None
    try:
        microphones = list_microphones()
    except CaptureError as exc:
        microphones, problem = [], str(exc)
    if as_json:
        tree = {"cameras": [asdict(one) for one in cameras], "microphones": [asdict(one) for one in microphones], "problem": problem}
        typer.echo(json.dumps(tree, indent=1))
        return
    _print("camera", cameras)
    _print("mic", microphones)
    if problem is not None:
        typer.echo(problem, err=True)
    if not cameras or not microphones:
        typer.echo(
            "`streamav doctor` says what to do about it; a network camera or a file needs no device: streamav run --source ADDRESS",
            err=True,
        )


def _print(option: str, found: list[Device]) -> None:
    typer.echo(f"--{option}" if found else f"--{option}: none found")
    for device in found:
        typer.echo(f"  {device.id:<40} {device.name}{' (default)' if device.default else ''}")
        for line in _abilities(device):
            typer.echo(f"      {line}")


def _abilities(device: Device) -> list[str]:
    """Return what a device can do: a line for each format of a camera, one line for a microphone."""
    lines = []
    for name in dict.fromkeys(one.format for one in device.formats):
        sizes = [one for one in device.formats if one.format == name]
        shown = ", ".join(one.size + (f" at {max(one.rates):g}/s" if one.rates else "") for one in sizes)
        lines.append(f"--camera-format {name}: {shown}")
    if device.rates_hz:
        lines.append(f"{device.channels} channels, {', '.join(f'{rate:d}' for rate in device.rates_hz)} Hz")
    return lines
