"""Tests `streamav run --cluster` on a real Ray cluster of local nodes with a real broker. `make bench-cluster` is the long form."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from bench.cluster import Site, kill
from rigs.mosquitto import need_mosquitto
from rigs.ray_cluster import need_ray

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(400)]


@pytest.mark.filterwarnings("ignore")  # of Ray's own modules and sockets
def test_the_sources_of_a_killed_node_run_on_the_other(tmp_path: Path) -> None:
    """Every source is published by one worker; after kill -9 of a node its sources go on elsewhere, with a greater epoch.

    Nothing is published twice, no event stays open, and `streamav cluster status` and the order of the end say what happened.
    """
    need_ray()
    need_mosquitto()
    site = Site(tmp_path, ("n1", "n2"), files=3, streams=0, seconds=300.0)
    with site.stack:
        site.start()
        before = {name: site.listener.of(name, "status")[-1].epoch or 0 for name in site.sources}
        kill(site, "n2")
        rows = site.status()
        time.sleep(2.0)
        assert site.end() == 130
        time.sleep(0.5)
        fault = site.faults[0]
        assert fault.sources
        assert all(rows[name]["worker"] == "n1" for name in site.sources)
        assert all(rows[name]["restarts"] == (1 if name in fault.sources else 0) for name in site.sources)
        for name in fault.sources:
            assert (site.listener.of(name, "status")[-1].epoch or 0) > before[name]
        assert site.scored_twice(time.monotonic()) == 0
        verdict = site.judge()
        assert verdict.lost == []
        assert verdict.twice == []
        assert verdict.open == []
        last = {one.topic: one.payload for one in site.listener.heard}
        assert last["status"] == b"offline"
        assert all(last[f"{name}/availability"] == b"offline" for name in site.sources)
