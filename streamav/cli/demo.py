"""`streamav demo`, which `make run` calls: the embedded scene, a private broker, `streamav run` and `streamav subscribe`.

It starts broker, run and subscriber as separate programs, shows what they print, and compares the events that arrived with the
events of the scene. It uses only their options, output and files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from streamav.cli.demo_comparison import sum_up
from streamav.cli.demo_programs import DRAIN_S, END_S, START_S, say, start, start_broker
from streamav.cli.wording import counted
from streamav.errors import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["demo", "next_steps", "run_options"]

_READY_S: Final = 600.0
"""Longest time of the first start (s): it builds the engines, which a busy or small machine does slowly."""


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=12.0, max=3600.0, help="Length of the scene in seconds.")] = 60.0,
    model: Annotated[
        str | None, typer.Option("--model", help="Name of a model, or the folder of a bundle; default: as in the settings (auto).")
    ] = None,
    speed: Annotated[Literal["1", "max"] | None, typer.Option("--speed", help="1: real time; max: as fast as possible.")] = None,
) -> None:
    """Show the whole system on the embedded scene, with a private MQTT broker.

    It starts a broker (mosquitto), `streamav run` with its live page (where the extra web is installed) and `streamav subscribe`,
    shows their output, compares the events that arrived with the events of the scene, and names the next commands. The run reads
    its settings from STREAMAV_* variables as always, except those of the broker and the state folder.

    Exit status: 0 at least three quarters of the scene's events arrived at the subscriber and every message was valid, 1 fewer
    arrived, a message was invalid or a program did not end, 5 mosquitto is not installed or does not start, 130 Ctrl-C; else
    that of `streamav run`.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # otherwise the started programs would keep running
    with tempfile.TemporaryDirectory(prefix="streamav-demo-") as folder, contextlib.ExitStack() as stack:
        try:
            status = _show(Path(folder), stack, seconds, model, speed)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except subprocess.TimeoutExpired as exc:
            say(f"a program did not end within {exc.timeout:.0f} s; its last lines are above. Is this machine busy with other work?")
            status = 1
    raise typer.Exit(status)


def _show(folder: Path, stack: contextlib.ExitStack, seconds: float, model: str | None, speed: str | None) -> int:
    from streamav.capture.scene import make_script

    truth = make_script(seconds).truth
    events = counted(len(truth), "event")
    say(f"a scene of {seconds:.0f} s with {events}; sound without its picture and picture without its sound are not events")
    port = start_broker(folder, stack)
    url = f"mqtt://127.0.0.1:{port}/streamav"
    say(f"the broker mosquitto listens on 127.0.0.1:{port}, for this demonstration only")
    listener = start(stack, "subscribe", [url, "--summary", str(folder / "seen.json")], folder)
    listener.wait_for("listening", START_S)
    options = [*run_options(seconds, model, speed), "--mqtt", url, "--summary", str(folder / "run.json"), *_page_options()]
    runner = start(stack, "run", options, folder)
    status = runner.process.wait(_READY_S + seconds + END_S)
    if status != 0:
        return status
    time.sleep(DRAIN_S)
    listener.process.send_signal(signal.SIGINT)
    listener.process.wait(END_S)
    seen, run = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("seen.json", "run.json"))
    status = sum_up(truth, seen, run)
    _tell_next()
    return status


def _page_options() -> list[str]:
    """Return the option for the live page, where its packages are installed."""
    needed = ("starlette", "uvicorn", "websockets")
    return ["--view"] if all(importlib.util.find_spec(name) is not None for name in needed) else []


def _tell_next() -> None:
    """Print the next commands for this machine."""
    from streamav.capture import list_cameras, list_microphones
    from streamav.errors import CaptureError

    try:
        microphones = [device.id for device in list_microphones()]
    except CaptureError:  # PortAudio is missing
        microphones = []
    say("")
    for line in next_steps(_program(), [device.id for device in list_cameras()], microphones):
        say(line)


def _program() -> str:
    """Return how a person calls this installation: by its name where the shell finds it, else by its path."""
    beside = Path(sys.executable).with_name("streamav")
    found = shutil.which("streamav")
    if found is not None and Path(found) == beside:
        return "streamav"
    try:
        return str(beside.relative_to(Path.cwd()))
    except ValueError:
        return str(beside)


def next_steps(program: str, cameras: Sequence[str], microphones: Sequence[str]) -> list[str]:
    """Return what to do after the demonstration, with the devices of this machine.

    Args:
        program: how to call streamav.
        cameras: values for --camera.
        microphones: values for --mic.
    """
    if cameras and microphones:
        camera, mic = shlex.quote(cameras[0]), "default" if "default" in microphones else shlex.quote(microphones[0])
        lines = ["next, with the camera and microphone of this machine:", f"  {program} run --camera {camera} --mic {mic} --view"]
    else:
        lacking = " and ".join(word for word, found in (("camera", cameras), ("microphone", microphones)) if not found)
        lines = [f"next (this machine has no {lacking} that streamav can open), with a network camera:"]
        lines += [f"  {program} run --source rtsp://ADDRESS/stream --view"]
    return [
        *lines,
        "or with a file that has sound and picture:",
        f"  {program} run --source CLIP.mp4 --view",
        f"add --mqtt mqtt://BROKER to publish; {program} run --help lists the other options",
    ]


def run_options(seconds: float, model: str | None, speed: str | None) -> list[str]:
    """Return the options of `streamav run` for the scene; without a model or speed its settings decide."""
    options = ["--source", "scene", "--id", "scene", "--duration", f"{seconds:g}"]
    options += [] if model is None else ["--model", model]
    return options + ([] if speed is None else ["--speed", speed])
