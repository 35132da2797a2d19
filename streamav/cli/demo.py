"""`streamav demo`, which `make run` calls: the embedded scene, a private broker, `streamav run` and `streamav subscribe`.

It starts the three as programs of their own, shows what they print, and compares what arrived with what the scene holds.
It looks into none of them.
"""

from __future__ import annotations

import contextlib
import json
import os
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

from streamav.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Found", "compare", "demo", "run_options"]

_INTERRUPTED: Final = 130
_LEAST_FOUND: Final = 0.75
"""Share of the scene's events that must arrive for the demonstration to have worked."""
_LEAST_OVERLAP: Final = 1 / 3
"""Shared time over the time that either covers, from which an event counts as found."""
_START_S: Final = 10.0
_READY_S: Final = 120.0
"""What the first start may take: engines are built once."""
_END_S: Final = 15.0
_DRAIN_S: Final = 1.0


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=12.0, max=3600.0, help="Length of the scene.")] = 60.0,
    model: Annotated[str | None, typer.Option("--model", help="starter, or the folder of another bundle.")] = None,
    speed: Annotated[Literal["1", "max"] | None, typer.Option("--speed", help="1 for its own pace, max for as fast as possible.")] = None,
) -> None:
    """Show everything at work on the embedded scene, with a private broker.

    The run takes its settings from STREAMAV_* variables as always, except those of the broker and the state folder.

    Exit status: 0 when at least three quarters of the scene's events arrived at the subscriber and both programs ended as
    they should, 1 when not, 5 without the program mosquitto, 130 after Ctrl-C; else that of `streamav run`.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else what was started would be left behind
    with tempfile.TemporaryDirectory(prefix="streamav-demo-") as folder, contextlib.ExitStack() as stack:
        try:
            status = _show(Path(folder), stack, seconds, model, speed)
        except KeyboardInterrupt:
            status = _INTERRUPTED
        except subprocess.TimeoutExpired as exc:
            _say(f"a program did not end: {exc}")
            status = 1
    raise typer.Exit(status)


def _show(folder: Path, stack: contextlib.ExitStack, seconds: float, model: str | None, speed: str | None) -> int:
    from streamav.capture.scene import make_script

    truth = make_script(seconds).truth
    _say(f"a scene of {seconds:.0f} s with {len(truth)} events; sounds without their picture and pictures without their sound are none")
    port = _start_broker(folder, stack)
    url = f"mqtt://127.0.0.1:{port}/streamav"
    _say(f"mosquitto listens on 127.0.0.1:{port}, for this demonstration only")
    listener = _start(stack, "subscribe", [url, "--summary", str(folder / "seen.json")], folder)
    listener.wait_for("listening", _START_S)
    runner = _start(stack, "run", [*run_options(seconds, model, speed), "--mqtt", url, "--summary", str(folder / "run.json")], folder)
    status = runner.process.wait(_READY_S + seconds + _END_S)
    if status != 0:
        return status
    time.sleep(_DRAIN_S)
    listener.process.send_signal(signal.SIGINT)
    listener.process.wait(_END_S)
    seen, run = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("seen.json", "run.json"))
    return _sum_up(truth, seen, run)


def run_options(seconds: float, model: str | None, speed: str | None) -> list[str]:
    """Return the options of `streamav run` for the scene; a model or speed that was not named is left to its settings."""
    options = ["--source", "scene", "--id", "scene", "--duration", f"{seconds:g}"]
    options += [] if model is None else ["--model", model]
    return options + ([] if speed is None else ["--speed", speed])


# Programs


@dataclass
class _Program:
    """A program whose lines are shown with its name before them."""

    name: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def show(self, stream: IO[str]) -> None:
        """Pass on what the program prints, until it ends."""
        for line in stream:
            _say(line.rstrip(), self.name)
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def wait_for(self, word: str, limit_s: float) -> None:
        """Wait until a line holds *word*; give up quietly, the rest of the demonstration will tell."""
        with self.changed:
            self.changed.wait_for(lambda: any(word in line for line in self.lines), limit_s)

    def end(self) -> None:
        """Ask the program to end, then make it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _start(stack: contextlib.ExitStack, command: str, arguments: Sequence[str], folder: Path) -> _Program:
    """Start `streamav COMMAND`; Ctrl-C reaches it too, as it would in a terminal of its own."""
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
    program = _Program(command, process)
    threads = [threading.Thread(target=program.show, args=(stream,), daemon=True) for stream in (process.stdout,) if stream is not None]
    for thread in threads:
        thread.start()
        stack.callback(thread.join, _DRAIN_S)
    stack.callback(program.end)
    return program


def _start_broker(folder: Path, stack: contextlib.ExitStack) -> int:
    """Start mosquitto on a free loopback port and give the port.

    Raises:
        BrokerError: when it is not installed or does not start.
    """
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")
    if path is None:
        msg = "the demonstration needs the program mosquitto; run: apt-get install mosquitto (or brew install mosquitto)"
        raise BrokerError(msg)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "persistence false"]
    if os.geteuid() == 0:
        lines.append("user root")  # else it drops to a user who may not read the folder
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 - found above
        [path, "-c", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C must not take the broker away before the others have said goodbye
    )
    stack.callback(_Program("mosquitto", process).end)
    give_up_s = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < give_up_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return port
        time.sleep(0.02)
    msg = f"mosquitto did not start on 127.0.0.1:{port}"
    raise BrokerError(msg)


# Comparison


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one event of the scene."""

    label: str
    onset_s: float
    offset_s: float
    seen_s: tuple[float, float] | None
    """Start and end as the subscriber had them; None when nothing fits."""


def compare(truth: Sequence[tuple[str, float, float]], seen: Sequence[dict[str, object]]) -> tuple[list[Found], int]:
    """Match the truth with the confirmed events that arrived.

    Args:
        truth: label, onset and offset of each event, s.
        seen: events with label, media_start_s, media_end_s and confirmed; each fits at most one event of the truth.

    Returns:
        What became of each event of the truth, and how many confirmed events fit none.
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
    """Give shared time over the time that either covers: an event that never ends is no find."""
    start_s, end_s = _span(event)
    shared_s = min(end_s, offset_s) - max(start_s, onset_s)
    return max(0.0, shared_s) / (max(end_s, offset_s) - min(start_s, onset_s))


def _sum_up(truth: Sequence[tuple[str, float, float]], seen: dict[str, object], run: dict[str, object]) -> int:
    """Print what became of the scene's events, and the measurements; give the exit status."""
    events = seen["events"]
    found, others = compare(truth, events if isinstance(events, list) else [])
    _say("")
    for one in found:
        told = "missed" if one.seen_s is None else f"found {one.seen_s[0]:5.1f} - {one.seen_s[1]:5.1f} s"
        _say(f"  {one.label:<12} {one.onset_s:5.1f} - {one.offset_s:5.1f} s   {told}")
    hits = sum(one.seen_s is not None for one in found)
    _say(f"{hits} of {len(found)} events found, {others} that are not in the scene, {run['retracted']} retracted")
    arrival = seen["arrival_latency_s"]
    if isinstance(arrival, dict) and arrival.get("p50") is not None:
        _say(f"end of a second to the subscriber: p50 {arrival['p50']:.3f} s, p95 {arrival['p95']:.3f} s")
    for key, words in (("latency_p50_s", "end of a second to the hand-over, p50"), ("latency_p95_s", "p95")):
        if run[key] is not None:
            _say(f"{words}: {run[key]:.3f} s")
    _say(
        f"real-time factor {run['realtime_factor']:.3f}, {run['dropped_segments']} s dropped, peak memory {run['peak_memory_mb']:.0f} MB, "
        f"{seen['messages']} messages, {seen['invalid']} invalid"
    )
    return 0 if found and hits >= _LEAST_FOUND * len(found) and not seen["invalid"] else 1


def _say(line: str, who: str = "demo") -> None:
    typer.echo(f"{who:<9} | {line}" if line else "")
