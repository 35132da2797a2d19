"""Measures what the live page costs the run: the same scene without a page, with a page, and with viewers. make bench-view.

Prints one JSON object: seconds of processor time of the run's process for each second of media, and the difference that ten viewers make.
The viewers are a process of their own, so that their time does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_VIEWERS = """
import sys, threading
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
turns = []
def look():
    seen = 0
    with connect(sys.argv[1], proxy=None, max_size=None, open_timeout=60) as viewer:
        try:
            for message in viewer:
                seen += '"type":"turn"' in message
        except ConnectionClosed:  # the run has ended; what counts is what had come by then
            pass
    turns.append(seen)
threads = [threading.Thread(target=look) for _ in range(int(sys.argv[2]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit(0 if len(turns) == len(threads) and min(turns, default=1) >= int(sys.argv[3]) else 1)
"""


def main() -> None:
    """Run the three cases one after the other and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="length of the scene, s")
    parser.add_argument("--viewers", type=int, default=10)
    given = parser.parse_args()
    cases = {"without": None, "page": 0, "viewers": given.viewers}
    cost = {name: _cost(given.seconds, viewers) for name, viewers in cases.items()}
    result: dict[str, Any] = {"seconds": given.seconds, "viewers": given.viewers, "cores_used": cost}
    result["cores_for_the_page"] = round(cost["page"] - cost["without"], 4)
    result["cores_for_the_viewers"] = round(cost["viewers"] - cost["page"], 4)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def _cost(seconds: int, viewers: int | None) -> float:
    """Return the processor time of a run from its start of capture to its end, for each second of media; None runs without the page."""
    command = [sys.executable, "-m", "streamav", "run", "--source", "scene", "--duration", str(seconds), "--set", "model.threads=1"]
    command += [] if viewers is None else ["--view-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run, ExitStack() as stack:
        if run.stderr is None:
            sys.exit("streamav run has no standard error")
        ready = next(line for line in run.stderr if line.startswith("ready after" if viewers is None else "view: "))
        begin_s, used = _processor_s(run.pid), 0.0
        looking: subprocess.Popen[bytes] | None = None
        if viewers:
            address = ready.split()[1].replace("http", "ws", 1) + "live"
            looking = stack.enter_context(subprocess.Popen([sys.executable, "-c", _VIEWERS, address, str(viewers), str(seconds)]))
        drain = threading.Thread(target=run.stderr.read)
        drain.start()
        while run.poll() is None:
            used = max(used, _processor_s(run.pid))
            threading.Event().wait(0.1)
        drain.join()
        if looking is not None and looking.wait(30) != 0:
            sys.exit("not every viewer received every second: nothing was measured; repeat it on a machine that is less busy")
    return round((used - begin_s) / seconds, 4)


def _processor_s(process: int) -> float:
    """Return the processor time of a process so far (Linux), s."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
