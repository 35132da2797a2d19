"""`streamav demo`, which `make run` calls: the embedded scene, a private broker, `streamav run` and `streamav subscribe`.

It starts broker, run and subscriber as separate programs, shows what they print, and compares the events that arrived with the
events of the scene. It uses only their options, output and files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final, Literal

import typer

from streamav.cli.folding import folded_for
from streamav.cli.wording import counted
from streamav.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Found", "compare", "demo", "next_steps", "run_options"]

_INTERRUPTED: Final = 130
_LEAST_FOUND: Final = 0.75
"""The demonstration succeeds when at least this share of the scene's events arrives."""
_LEAST_OVERLAP: Final = 1 / 3
"""An event counts as found from this overlap on: shared time divided by the time that either of the two covers."""
_START_S: Final = 10.0
_READY_S: Final = 600.0
"""Longest time of the first start (s): it builds the engines, which a busy or small machine does slowly."""
_END_S: Final = 15.0
_DRAIN_S: Final = 1.0
_EVENT_LINE: Final = re.compile(r"\d\d:\d\d:\d\dZ scene ")
"""A line of the run about an event; the subscriber prints the same event as it arrives, so the line is not shown twice."""
_UPDATE_LINE: Final = re.compile(r"\d\d:\d\d:\d\dZ  \S+ +update ")
"""A line of the subscriber about an event that goes on: there is one for each second, and begin and end would be lost among them."""


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
            status = _INTERRUPTED
        except subprocess.TimeoutExpired as exc:
            _say(f"a program did not end within {exc.timeout:.0f} s; its last lines are above. Is this machine busy with other work?")
            status = 1
    raise typer.Exit(status)


def _show(folder: Path, stack: contextlib.ExitStack, seconds: float, model: str | None, speed: str | None) -> int:
    from streamav.capture.scene import make_script

    truth = make_script(seconds).truth
    events = counted(len(truth), "event")
    _say(f"a scene of {seconds:.0f} s with {events}; sound without its picture and picture without its sound are not events")
    port = _start_broker(folder, stack)
    url = f"mqtt://127.0.0.1:{port}/streamav"
    _say(f"the broker mosquitto listens on 127.0.0.1:{port}, for this demonstration only")
    listener = _start(stack, "subscribe", [url, "--summary", str(folder / "seen.json")], folder)
    listener.wait_for("listening", _START_S)
    options = [*run_options(seconds, model, speed), "--mqtt", url, "--summary", str(folder / "run.json"), *_page_options()]
    runner = _start(stack, "run", options, folder)
    status = runner.process.wait(_READY_S + seconds + _END_S)
    if status != 0:
        return status
    time.sleep(_DRAIN_S)
    listener.process.send_signal(signal.SIGINT)
    listener.process.wait(_END_S)
    seen, run = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("seen.json", "run.json"))
    status = _sum_up(truth, seen, run)
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
    _say("")
    for line in next_steps(_program(), [device.id for device in list_cameras()], microphones):
        _say(line)


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


# Programs


@dataclass
class _Program:
    """A running program; its output lines are shown with its name before them."""

    name: str
    process: subprocess.Popen[str]
    hidden: re.Pattern[str] = field(default_factory=lambda: re.compile("(?!)"))
    """Lines that are not shown; by default none."""
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def show(self, stream: IO[str]) -> None:
        """Print the output of the program until it ends."""
        for line in stream:
            if not self.hidden.match(line):
                _say(line.rstrip(), self.name)
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def wait_for(self, word: str, limit_s: float) -> None:
        """Wait until a line contains *word*, at most *limit_s* seconds; a missing line shows later as missed events."""
        with self.changed:
            self.changed.wait_for(lambda: any(word in line for line in self.lines), limit_s)

    def end(self) -> None:
        """Send SIGTERM to the program, and kill it when it does not end in time."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _start(stack: contextlib.ExitStack, command: str, arguments: Sequence[str], folder: Path) -> _Program:
    """Start `streamav COMMAND`; Ctrl-C at the terminal reaches it too."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STREAMAV_MQTT_")}
    environment |= {"STREAMAV_STATE_DIR": str(folder / "state"), "PYTHONUNBUFFERED": "1", "COLUMNS": "160"}
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "streamav", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    program = _Program(command, process, _EVENT_LINE if command == "run" else _UPDATE_LINE)
    threads = [threading.Thread(target=program.show, args=(stream,), daemon=True) for stream in (process.stdout,) if stream is not None]
    for thread in threads:
        thread.start()
        stack.callback(thread.join, _DRAIN_S)
    stack.callback(program.end)
    return program


def _start_broker(folder: Path, stack: contextlib.ExitStack) -> int:
    """Start mosquitto on a free loopback port and return the port.

    Raises:
        BrokerError: when it is not installed or does not start.
    """
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")
    if path is None:
        msg = (
            "the demonstration needs the program mosquitto, which was not found; run: apt-get install mosquitto (or brew install mosquitto)"
        )
        raise BrokerError(msg)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "persistence false"]
    if os.geteuid() == 0:
        lines.append("user root")  # otherwise it changes to a user that cannot read the folder
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 - found above
        [path, "-c", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C must not stop the broker before the others have disconnected
    )
    stack.callback(_Program("mosquitto", process).end)
    give_up_s = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < give_up_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return port
        time.sleep(0.02)
    msg = f"mosquitto must start within ten seconds (run it by hand to see its errors), but it does not listen on 127.0.0.1:{port}"
    raise BrokerError(msg)


# Comparison


@dataclass(frozen=True, slots=True)
class Found:
    """One event of the scene and the event that was found for it."""

    label: str
    onset_s: float
    offset_s: float
    seen_s: tuple[float, float] | None
    """Start and end that the subscriber received; None when no event matches."""


def compare(truth: Sequence[tuple[str, float, float]], seen: Sequence[dict[str, object]]) -> tuple[list[Found], int]:
    """Match the true events with the confirmed events that arrived.

    Args:
        truth: label, onset and offset of each event, in seconds.
        seen: events with label, media_start_s, media_end_s and confirmed; each is matched with at most one true event.

    Returns:
        Each true event with its match, and the number of confirmed events without a match.
    """
    left = [event for event in seen if event.get("confirmed") and event.get("media_end_s") is not None]
    found = []
    for label, onset_s, offset_s in truth:
        fits = [event for event in left if event["label"] == label and _overlap(event, onset_s, offset_s) >= _LEAST_OVERLAP]
        best = max(fits, key=lambda event: _overlap(event, onset_s, offset_s), default=None)
        if best is not None:
            left.remove(best)
        found.append(Found(label, onset_s, offset_s, None if best is None else _span(best)))
    return found, len(left)


def _span(event: dict[str, object]) -> tuple[float, float]:
    return float(str(event["media_start_s"])), float(str(event["media_end_s"]))


def _overlap(event: dict[str, object], onset_s: float, offset_s: float) -> float:
    """Return the shared time divided by the time that either covers; an event that is far too long does not count as found."""
    start_s, end_s = _span(event)
    shared_s = min(end_s, offset_s) - max(start_s, onset_s)
    return max(0.0, shared_s) / (max(end_s, offset_s) - min(start_s, onset_s))


def _sum_up(truth: Sequence[tuple[str, float, float]], seen: dict[str, object], run: dict[str, object]) -> int:
    """Print the scene's events with their matches, and the measurements; return the exit status."""
    events = seen["events"]
    found, others = compare(truth, events if isinstance(events, list) else [])
    _say("")
    for one in found:
        told = "missed" if one.seen_s is None else f"found {one.seen_s[0]:5.1f} - {one.seen_s[1]:5.1f} s"
        _say(f"  {one.label:<12} {one.onset_s:5.1f} - {one.offset_s:5.1f} s   {told}")
    hits = sum(one.seen_s is not None for one in found)
    _say(f"{hits} of {len(found)} events found, {counted(others, 'false event')}, {run['retracted']} retracted")
    arrival = seen["arrival_latency_s"]
    if isinstance(arrival, dict) and arrival.get("p50") is not None:
        _say(f"latency from the end of a segment to the subscriber: p50 {arrival['p50']:.3f} s, p95 {arrival['p95']:.3f} s")
    if run["latency_p50_s"] is not None and run["latency_p95_s"] is not None:
        _say(f"of it until the run hands its events over: p50 {run['latency_p50_s']:.3f} s, p95 {run['latency_p95_s']:.3f} s")
    _say(
        f"real-time factor {run['realtime_factor']:.3f}, {counted(int(str(run['dropped_segments'])), 'segment')} dropped, "
        f"peak memory {run['peak_memory_mb']:.0f} MB, {seen['messages']} messages, {seen['invalid']} invalid"
    )
    return 0 if found and hits >= _LEAST_FOUND * len(found) and not seen["invalid"] else 1


def _say(line: str, who: str = "demo") -> None:
    """Print a line with the name of its program; at a terminal it is folded between words."""
    typer.echo(folded_for(sys.stdout, f"{who:<9} | {line}", f"{'':<9} |   ") if line else "")
