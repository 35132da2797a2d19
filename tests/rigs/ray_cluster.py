"""Runs a local Ray cluster for tests: nodes that can be killed, frozen, continued and added. Each node is a tree of real processes."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

__all__ = ["RayCluster", "need_ray"]

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its setting for "no cluster": keep 127.0.0.1
    "RAY_worker_niceness": "0",  # with Ray's default of 15 the workers get no time on a busy machine
}
_MEMORY = 80_000_000
"""Ray's own smallest object store is 75 MB; nothing is stored here."""


def need_ray() -> None:
    """Skip a test where ray is not installed; in CI it must be."""
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("CI"):
            pytest.fail("the extra ray is missing: pip install 'streamav[ray]'")
        pytest.skip("the extra ray is not installed")


class RayCluster:
    """A head without cores, on which the controller runs, and nodes by name."""

    def __init__(self) -> None:
        os.environ.update(QUIET)
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=self._options("head", 0))
        self._nodes: dict[str, Any] = {}
        self.address = str(self._cluster.address)

    @staticmethod
    def _options(name: str, cores: int) -> dict[str, object]:
        return {
            "num_cpus": cores,
            "node_name": name,
            "node_ip_address": "127.0.0.1",
            "include_dashboard": False,
            "object_store_memory": _MEMORY,
        }

    def add(self, name: str, cores: int = 1) -> None:
        """Add a node."""
        options = self._options(name, cores)
        del options["include_dashboard"]
        self._nodes[name] = self._cluster.add_node(**options)

    def kill(self, name: str) -> None:
        """Kill all processes of a node at once (SIGKILL), as when its power is cut."""
        self._signal(name, signal.SIGKILL)
        del self._nodes[name]

    def freeze(self, name: str) -> None:
        """Freeze all processes of a node (SIGSTOP); its connections stay open."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Continue a frozen node (SIGCONT)."""
        self._signal(name, signal.SIGCONT)

    def close(self) -> None:
        """End everything."""
        for name in self._nodes:
            self.thaw(name)
        self._cluster.shutdown()

    def _signal(self, name: str, number: signal.Signals) -> None:
        for pid in _tree(self._nodes[name].all_processes["raylet"][0].process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _tree(root: int) -> list[int]:
    """Return a process and all that come from it, the root first, so that it cannot start new ones."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, new = [], [root]
    while new:
        found += new
        new = [child for pid in new for child in parents.get(pid, [])]
    return found


if __name__ == "__main__":  # keeps a cluster for a person who tries commands on it
    one = RayCluster()
    for wanted in sys.argv[1:] or ("gate", "yard"):
        one.add(wanted)
    sys.stdout.write(f"{one.address}\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)
    one.close()
