"""Measures what faults of nodes cost a cluster: `make bench-cluster`.

A local Ray cluster of three nodes (Ray's own test cluster) runs file and RTSP sources at their own pace, and publishes to a real Mosquitto.
One node is killed, one is frozen for 30 s and continued, and one joins. The truth is what one machine finds in the same media.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rigs.cluster_listener import Expected, Listener, Verdict, gaps_of, judge
from rigs.mosquitto import Broker
from rigs.ray_cluster import QUIET, RayCluster
from rigs.rtsp_server import RtspServer
from rigs.scene_files import write_scene

from streamav.engines.machine import processor_name


@dataclass
class Fault:
    """One fault and how the sources came back."""

    name: str
    at_s: float
    sources: list[str] = field(default_factory=list)
    """Sources that ran there."""
    back_s: list[float] = field(default_factory=list)
    """From the fault until another worker runs the source."""
    scored_s: list[float] = field(default_factory=list)
    """From the fault until its next segment is scored."""


def found_alone(path: Path, folder: Path) -> list[Expected]:
    """Return the confirmed events that one machine finds in a file."""
    out = folder / "alone.jsonl"
    command = [sys.executable, "-m", "streamav", "run", "--source", str(path), "--speed", "max", "--model", "starter", "--jsonl", str(out)]
    subprocess.run([*command, "--engine", "cpu", "--precision", "fp32"], check=True, capture_output=True, env=environment(folder))
    ends = [one for one in map(json.loads, out.read_text(encoding="utf-8").splitlines()) if one["end_time"] and one["confirmed"]]
    return [Expected(one["label"], one["media_start_s"], one["media_end_s"]) for one in ends if one["end_reason"] != "retracted"]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the programs: their own state, one thread a process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STREAMAV_") or key == "STREAMAV_HOME"}
    return kept | QUIET | {"STREAMAV_STATE_DIR": str(folder / "state"), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


class Site:
    """Broker, cluster, sources, the run, and a subscriber that records everything."""

    def __init__(self, folder: Path, nodes: tuple[str, ...], files: int, streams: int, seconds: float) -> None:
        self.folder, self.base = folder, "site"
        self.stack = ExitStack()
        clip = folder / "scene.mp4"
        write_scene(clip, seconds)
        self.expected = found_alone(clip, folder)
        self.broker = Broker(folder / "broker").start()
        self.stack.callback(self.broker.stop)
        lines = ["[model]", 'name = "starter"', 'engine = "cpu"', 'precision = "fp32"', "threads = 1"]
        lines += ["[mqtt]", 'host = "127.0.0.1"', f"port = {self.broker.port}", f'base = "{self.base}"', "scores = true"]
        self.files = [f"f{number}" for number in range(files)]
        for number, name in enumerate(self.files):
            lines += ["[[sources]]", f'id = "{name}"', f'uri = "{clip}"', f"begin_s = {5 * number % 60}"]
        self.streams = [f"r{number}" for number in range(streams)]
        if streams:
            server = self.stack.enter_context(RtspServer(clip))
            for name in self.streams:
                lines += ["[[sources]]", f'id = "{name}"', f'uri = "{server.url}"']
                if name == "r0":  # the truth for the other streams: on a node that nothing happens to
                    lines.append(f'node = "{nodes[0]}"')
        (folder / "site.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.cluster = RayCluster()
        self.stack.callback(self.cluster.close)
        for name in nodes:
            self.cluster.add(name)
        self.listener = Listener(self.broker.port, self.base)
        self.stack.callback(self.listener.close)
        self.run: subprocess.Popen[bytes] | None = None
        self.faults: list[Fault] = []

    @property
    def sources(self) -> list[str]:
        """All sources."""
        return [*self.files, *self.streams]

    def start(self, limit_s: float = 180.0) -> None:
        """Start the run and wait until every source is scored."""
        command = [sys.executable, "-m", "streamav", "run", "--config", str(self.folder / "site.toml"), "--cluster", self.cluster.address]
        log = (self.folder / "run.log").open("wb")
        self.run = subprocess.Popen([*command, "--summary", str(self.folder / "summary.json")], stderr=log, env=environment(self.folder))
        self.stack.callback(self._kill)
        self.listener.wait_for(lambda: all(self.listener.of(name, "scores") for name in self.sources), limit_s, "every source is scored")

    def _kill(self) -> None:
        if self.run is not None and self.run.poll() is None:
            self.run.kill()
            self.run.wait()

    def status(self) -> dict[str, dict[str, object]]:
        """Return the sources of `streamav cluster status --json` by name."""
        command = [sys.executable, "-m", "streamav", "cluster", "status", "--cluster", self.cluster.address, "--json"]
        out = subprocess.run(command, check=True, capture_output=True, env=environment(self.folder)).stdout
        return {one["source"]: one for one in json.loads(out)["runs"][0]["sources"]}

    def sources_on(self, node: str) -> list[str]:
        """Return the sources that a node's worker runs."""
        return [name for name, one in self.status().items() if one["worker"] == node]

    def begin_fault(self, name: str, node: str) -> Fault:
        """Note the sources of a node before something happens to it."""
        fault = Fault(name, 0.0, self.sources_on(node))
        self.faults.append(fault)
        return fault

    def wait_back(self, fault: Fault, limit_s: float = 60.0) -> None:
        """Wait until the sources of a fault are scored again, and note how long it took."""

        def scored(name: str) -> list[float]:
            return [one.at_s for one in self.listener.of(name, "scores", fault.at_s + 3.0)]

        def taken(name: str) -> list[float]:
            later = self.listener.of(name, "status", fault.at_s)
            return [one.at_s for one in later if one.payload != b"lost" and one.epoch is not None]

        self.listener.wait_for(
            lambda: all(scored(name) and taken(name) for name in fault.sources), limit_s, f"{fault.name}: sources are back"
        )
        fault.back_s = [round(min(taken(name)) - fault.at_s, 2) for name in fault.sources]
        fault.scored_s = [round(min(scored(name)) - fault.at_s, 2) for name in fault.sources]

    def end(self) -> int:
        """End the run by Ctrl-C; return its exit status."""
        if self.run is None:
            return -1
        self.run.send_signal(signal.SIGINT)
        return self.run.wait(timeout=60)

    def judge(self) -> Verdict:
        """Compare what was published with what one machine finds."""
        verdict = Verdict()
        for name in self.files:
            judge(self.listener, name, self.expected, verdict)
        if self.streams:
            whole = self.listener.events(self.streams[0])
            truth = [max(messages, key=lambda one: one.seq) for messages in whole.values()]
            told = [Expected(one.label, one.start_ts, one.start_ts + one.duration_s) for one in truth if one.confirmed]
            for name in self.streams:
                judge(self.listener, name, told, verdict, axis="ts")
        return verdict

    def scored_twice(self, until_s: float) -> int:
        """Return how many segments of files were scored more than once: two workers at a time would do so."""
        count = 0
        for name in self.files:
            seconds = [second for at_s, second in self.listener.scored(name) if at_s < until_s]
            count += len(seconds) - len(set(seconds))
        return count


def kill(site: Site, node: str) -> None:
    """Kill a node and wait for its sources."""
    fault = site.begin_fault("node killed -9", node)
    fault.at_s = time.monotonic()
    site.cluster.kill(node)
    site.wait_back(fault)


def freeze(site: Site, node: str, seconds: float) -> None:
    """Freeze a node, wait for its sources, continue it."""
    fault = site.begin_fault(f"node frozen {seconds:.0f} s", node)
    fault.at_s = time.monotonic()
    site.cluster.freeze(node)
    time.sleep(max(0.0, fault.at_s + seconds - time.monotonic()))
    site.cluster.thaw(node)
    site.wait_back(fault)


def add(site: Site, node: str, limit_s: float = 150.0) -> dict[str, object]:
    """Add a node and wait until it has a share; return how long it took."""
    began_s = time.monotonic()
    site.cluster.add(node)
    joined_s = time.monotonic() - began_s
    while not (share := site.sources_on(node)):
        if time.monotonic() - began_s > limit_s:
            break
        time.sleep(1.0)
    return {"joined_s": round(joined_s, 1), "first_share_s": round(time.monotonic() - began_s, 1), "sources": len(share)}


def result_of(site: Site, verdict: Verdict, joined: dict[str, object], code: int, twice: int) -> dict[str, object]:
    """Return everything as JSON values."""
    gaps = {name: gaps_of([second for _, second in site.listener.scored(name)]) for name in site.files}
    faults = []
    for one in site.faults:
        row: dict[str, object] = {"fault": one.name, "sources": len(one.sources)}
        for key, values in (("running_again_s", one.back_s), ("scored_again_s", one.scored_s)):
            row |= {f"{key}_p50": spread(values, 50), f"{key}_p95": spread(values, 95)}
        faults.append(row)
    return {
        "machine": f"{processor_name()}, {len(os.sched_getaffinity(0))} cores",
        "file_sources": len(site.files),
        "rtsp_sources": len(site.streams),
        "faults": faults,
        "joined": joined,
        "outage_s": sorted(round(end - begin, 1) for found in gaps.values() for begin, end in found),
        "events_owed": verdict.owed,
        "lost": verdict.lost,
        "published_twice": verdict.twice,
        "segments_scored_twice_in_faults": twice,
        "left_open": verdict.open,
        "exit": code,
    }


def spread(values: list[float], percent: int) -> float | None:
    """Return a percentile; None without values."""
    if not values:
        return None
    return values[0] if len(values) == 1 else round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 2)


def measure(*, files: int, streams: int, steady_s: float) -> dict[str, object]:
    """Run all faults."""
    with tempfile.TemporaryDirectory() as name:
        site = Site(Path(name), ("n1", "n2", "n3"), files, streams, seconds=420.0 + 5 * steady_s)
        with site.stack:
            site.start()
            time.sleep(steady_s)
            kill(site, "n3")
            time.sleep(steady_s)
            freeze(site, "n2", 30.0)
            time.sleep(steady_s)
            until_s = time.monotonic()
            joined = add(site, "n4")
            time.sleep(2 * steady_s)
            joined["sources_at_the_end"] = len(site.sources_on("n4"))
            rows = site.status()
            code = site.end()
            time.sleep(1.0)
            found = result_of(site, site.judge(), joined, code, site.scored_twice(until_s))
            found["moves"] = sum(int(str(one["moves"])) for one in rows.values())
            found["dropped"] = sum(int(str(one["dropped"])) for one in rows.values())
            if found["lost"] or found["published_twice"] or found["left_open"]:
                sys.stderr.write((site.folder / "run.log").read_text(encoding="utf-8", errors="replace"))
            return found


def main() -> None:
    """Read the options, measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=16, help="sources that play a file")
    parser.add_argument("--streams", type=int, default=8, help="sources that watch an RTSP server")
    parser.add_argument("--steady", type=float, default=30.0, help="seconds between two faults")
    asked = parser.parse_args()
    found = measure(files=asked.files, streams=asked.streams, steady_s=asked.steady)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if found["lost"] or found["published_twice"] or found["left_open"]:
        sys.exit("events were lost beyond the outage, published twice or left open")


if __name__ == "__main__":
    main()
