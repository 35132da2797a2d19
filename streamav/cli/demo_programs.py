"""Starts the programs of `streamav demo`, shows what they print, and ends them: a private broker and commands of streamav."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

import typer

from streamav.cli.folding import folded_for
from streamav.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["DRAIN_S", "END_S", "START_S", "Program", "say", "start", "start_broker"]

START_S: Final = 10.0
"""Longest time until a program says that it is ready, s."""
END_S: Final = 15.0
"""Longest time that a program may take to end, s."""
DRAIN_S: Final = 1.0
"""How long the last messages and lines may take to arrive, s."""
_EVENT_LINE: Final = re.compile(r"\d\d:\d\d:\d\dZ scene ")
"""A line of the run about an event; the subscriber prints the same event as it arrives, so the line is not shown twice."""
_UPDATE_LINE: Final = re.compile(r"\d\d:\d\d:\d\dZ  \S+ +update ")
"""A line of the subscriber about an event that goes on: there is one for each second, and begin and end would be lost among them."""


@dataclass
class Program:
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
                say(line.rstrip(), self.name)
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
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def start(stack: contextlib.ExitStack, command: str, arguments: Sequence[str], folder: Path) -> Program:
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
    program = Program(command, process, _EVENT_LINE if command == "run" else _UPDATE_LINE)
    threads = [threading.Thread(target=program.show, args=(stream,), daemon=True) for stream in (process.stdout,) if stream is not None]
    for thread in threads:
        thread.start()
        stack.callback(thread.join, DRAIN_S)
    stack.callback(program.end)
    return program


def start_broker(folder: Path, stack: contextlib.ExitStack) -> int:
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
    stack.callback(Program("mosquitto", process).end)
    give_up_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return port
        time.sleep(0.02)
    msg = f"mosquitto must start within ten seconds (run it by hand to see its errors), but it does not listen on 127.0.0.1:{port}"
    raise BrokerError(msg)


def say(line: str, who: str = "demo") -> None:
    """Print a line with the name of its program; at a terminal it is folded between words."""
    typer.echo(folded_for(sys.stdout, f"{who:<9} | {line}", f"{'':<9} |   ") if line else "")
