"""Tests the controller of a cluster with workers that do what their orders say, on a clock of their own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from streamav.cluster.controller import Controller
from streamav.cluster.fleet import Node, WorkerDiedError
from streamav.cluster.lease import LEASE_S
from streamav.cluster.orders import Order, Report, SourceReport
from streamav.cluster.outside import Outside
from streamav.errors import EngineError


@dataclass
class World:
    """A clock, nodes, and everything that happened."""

    now_s: float = 1000.0
    nodes: list[Node] = field(default_factory=list)
    workers: dict[str, FakeWorker] = field(default_factory=dict)
    fenced: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    told: str = ""
    broken: set[str] = field(default_factory=set)
    """Workers that end while they are made, as on a machine with another version of streamav."""
    made: int = 0
    open_events: dict[str, tuple[bytes, ...]] = field(default_factory=dict)

    def clock(self) -> float:
        return self.now_s


@dataclass(eq=False)
class FakeWorker:
    """Does what its orders say at once, and publishes as long as its lease holds by the true clock."""

    world: World
    name: str
    order: Order | None = None
    epoch: int = 0
    frozen: bool = False
    dead: bool = False
    killed: bool = False
    beats: int = 0
    slow_beats: int = 0
    """The end takes so many renewals of the lease."""
    beaten: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False
    lease_end_s: float = 0.0
    error: str | None = None
    unquiet: set[str] = field(default_factory=set)
    """Sources with an open event: they are not released quietly."""
    failing: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    running: dict[str, bool] = field(default_factory=dict)
    """Source -> whether it is muted."""
    thaw: asyncio.Event = field(default_factory=asyncio.Event)

    async def beat(self, order: Order) -> Report:
        if self.frozen:
            await self.thaw.wait()
        if self.dead:
            msg = "the node died"
            raise WorkerDiedError(msg)
        self.order = order
        self.beats += 1
        self.beaten.set()
        if order.epoch != self.epoch:
            self.epoch, self.lease_end_s, self.running = order.epoch, 0.0, {}
        if order.anchor_ns is not None and not (self.lease_end_s and self.world.now_s >= self.lease_end_s):
            self.lease_end_s = max(self.lease_end_s, order.anchor_ns / 1e9 + order.lease_s)
        if self.world.now_s < self.lease_end_s:
            self.running |= {source: one.muted for source, one in order.sources.items()}
            for source in [one for one in self.running if one not in order.sources]:
                if source not in order.quiet or source not in self.unquiet:
                    del self.running[source]
        else:
            self.running = {}
        return self.report()

    def report(self) -> Report:
        sources = {
            source: SourceReport(
                phase="failed" if source in self.failing else "ended" if source in self.ended else "muted" if muted else "running",
                epoch=1,
                segments=30,
                events=2,
                error="no such camera" if source in self.failing else None,
            )
            for source, muted in self.running.items()
        }
        over = bool(self.lease_end_s) and self.world.now_s >= self.lease_end_s
        return Report(
            now_ns=round(self.world.now_s * 1e9),
            epoch=self.epoch,
            over=over,
            processor_s=0.1 * self.world.now_s,
            sources=sources,
            engine="fake",
            error=self.error,
        )

    async def stop(self) -> Report:
        wanted = self.beats + self.slow_beats
        while self.beats < wanted:
            self.beaten.clear()
            await self.beaten.wait()
        self.stopped = True
        return self.report()

    def kill(self) -> None:
        self.killed = True

    def publishes(self) -> set[str]:
        """Return the sources for which this worker would publish now, awake or just thawed."""
        return {source for source, muted in self.running.items() if not muted} if self.world.now_s < self.lease_end_s else set()


class FakeFleet:
    def __init__(self, world: World) -> None:
        self.world = world

    async def nodes(self) -> list[Node]:
        return self.world.nodes

    def start(self, node: Node, name: str, *, gpu: bool) -> FakeWorker:
        self.world.made += 1
        worker = self.world.workers[name] = FakeWorker(self.world, name, dead=name in self.world.broken)
        return worker

    def tell(self, status: str) -> None:
        self.world.told = status


def node(name: str, cores: float = 2.0, gpus: int = 0) -> Node:
    return Node(f"id-{name}", name, frozenset({name}), cores, gpus)


class Site:
    def __init__(self, names: tuple[str, ...], sources: dict[str, str | None]) -> None:
        self.world = World(nodes=[node(name) for name in names])

        async def fence(client_id: str) -> None:
            self.world.fenced.append(client_id)

        outside = Outside(
            fence=fence,
            left_open=lambda source: self.world.open_events.get(source, ()),
            lost=lambda source, _: self.world.lost.append(source),
            placed=lambda _: None,
        )
        self.controller = Controller(FakeFleet(self.world), outside, sources, clock=self.world.clock, first_epoch=1)

    async def run(self, seconds: int) -> None:
        """Let time pass, a second at a time; no source may ever have two publishers."""
        for _ in range(seconds):
            await self.controller.tick()
            for _ in range(5):
                await asyncio.sleep(0)
            self.check()
            self.world.now_s += 0.5
            self.check()
            self.world.now_s += 0.5

    def check(self) -> None:
        published = [source for worker in self.world.workers.values() for source in worker.publishes()]
        assert len(published) == len(set(published)), published

    def where(self) -> dict[str, str]:
        return {source: worker.name for worker in self.world.workers.values() for source in worker.publishes()}


SOURCES = {f"s{number}": None for number in range(6)}


async def test_every_source_runs_once() -> None:
    """Sources are spread over all nodes that are there at the start."""
    site = Site(("n1", "n2", "n3"), dict(SOURCES))
    await site.run(6)
    assert sorted(site.where()) == sorted(SOURCES)
    assert {list(site.where().values()).count(name) for name in ("n1", "n2", "n3")} == {2}


async def test_the_log_says_where_many_sources_run(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each worker, with the first names: a thousand sources do not fill a screen."""
    caplog.set_level("INFO")
    site = Site(("n1", "n2"), {f"s{number:03}": None for number in range(1000)})
    await site.run(3)
    lines = [one.getMessage() for one in caplog.records if "placed" in one.getMessage()]
    assert len(lines) == 2
    assert all("count=500" in line and line.endswith(", ...") and len(line) < 150 for line in lines)


async def test_the_sources_of_a_dead_node_run_elsewhere_after_its_lease() -> None:
    """The broker closes the old connection first; open events go along; all within 15 s; the others are not touched."""
    site = Site(("n1", "n2"), dict(SOURCES))
    await site.run(6)
    before = site.where()
    dead = site.world.workers["n2"]
    mine = sorted(dead.publishes())
    client_id = site.controller.members["n2"].client_id
    kept_epochs = {source: site.controller.assignments[source].order for source, name in before.items() if name == "n1"}
    dead.dead, site.world.nodes = True, [node("n1")]
    site.world.open_events = {mine[0]: (b"an open event",)}
    began_s = site.world.now_s
    while sorted(site.where()) != sorted(SOURCES) or "n2" in site.where().values():
        await site.run(1)
        assert site.world.now_s - began_s <= 15.0
    assert site.world.now_s - began_s > LEASE_S  # not before it is certain
    assert site.world.fenced == [client_id]
    order = site.world.workers["n1"].order
    assert order is not None
    assert order.sources[mine[0]].left_open == (b"an open event",)
    for source, was in kept_epochs.items():
        assert site.controller.assignments[source].order is was
    assert all(site.controller.assignments[source].restarts == 1 for source in mine)
    assert dead.killed


async def test_a_file_goes_on_where_it_would_be() -> None:
    """A file is placed again at the second that it had reached, as a camera would be."""
    site = Site(("n1", "n2"), dict(SOURCES))
    await site.run(20)
    site.world.workers["n2"].dead = True
    site.world.nodes = [node("n1")]
    await site.run(12)
    order = site.world.workers["n1"].order
    assert order is not None
    moved = [one for one in order.sources.values() if one.begin_s]
    assert len(moved) == 3
    assert all(25 <= one.begin_s <= 29 for one in moved)


async def test_a_worker_that_wakes_up_publishes_nothing_of_its_old_life() -> None:
    """A frozen worker loses its sources, and gets new ones under a greater epoch once it answers again; never are there two publishers."""
    site = Site(("n1", "n2"), dict(SOURCES))
    await site.run(6)
    frozen = site.world.workers["n2"]
    first = site.controller.members["n2"].epoch
    frozen.frozen = True
    await site.run(30)
    assert set(site.where().values()) == {"n1"}
    assert sorted(site.where()) == sorted(SOURCES)
    frozen.frozen = False
    frozen.thaw.set()
    assert not frozen.publishes()
    await site.run(60)
    assert site.controller.members["n2"].epoch > first
    assert site.controller.members["n2"].client_id.endswith(f"-e{site.controller.members['n2'].epoch}")
    assert sorted(site.where()) == sorted(SOURCES)
    assert set(site.where().values()) == {"n1", "n2"}  # it has its share again


async def test_a_node_that_joins_takes_its_share_without_a_gap() -> None:
    """A source that moves runs muted on the new worker first; none publishes it only for a turn."""
    site = Site(("n1",), dict(SOURCES))
    await site.run(6)
    site.world.nodes.append(node("n2"))
    longest, gaps = 0, dict.fromkeys(SOURCES, 0)
    for _ in range(40):
        await site.run(1)
        there = site.where()
        gaps = {source: 0 if source in there else gap + 1 for source, gap in gaps.items()}
        longest = max(longest, *gaps.values())
    assert list(site.where().values()).count("n2") in {2, 3}
    assert longest <= 2
    assert all(one.restarts == 0 for one in site.controller.assignments.values())


async def test_a_source_moves_when_it_is_quiet() -> None:
    """An open event keeps a source on its worker; after a minute it moves all the same."""
    site = Site(("n1",), {"a": None, "b": None, "c": "n1", "d": "n1"})
    await site.run(6)
    worker = site.world.workers["n1"]
    worker.unquiet = {"a", "b"}
    site.world.nodes.append(node("n2"))
    await site.run(40)
    assert set(site.where().values()) == {"n1"}
    await site.run(60)
    assert "n2" in site.where().values()


async def test_a_target_that_dies_leaves_the_source_where_it_is() -> None:
    """A move that cannot end is given up, and nothing is lost."""
    site = Site(("n1",), {"a": None, "b": None, "c": "n1", "d": "n1"})
    await site.run(6)
    site.world.workers["n1"].unquiet = {"a", "b"}
    site.world.nodes.append(node("n2"))
    await site.run(10)
    assert any(one.target == "n2" for one in site.controller.assignments.values())
    site.world.workers["n2"].dead = True
    site.world.nodes.pop()
    await site.run(15)
    assert all(one.target is None for one in site.controller.assignments.values())
    assert set(site.where()) == {"a", "b", "c", "d"}


async def test_a_source_waits_for_its_own_node() -> None:
    """`node` binds: the source is reported lost while its node is absent, and runs when the node joins."""
    site = Site(("n1",), {"a": None, "gate": "n2"})
    await site.run(6)
    assert set(site.where()) == {"a"}
    assert site.world.lost == ["gate"]
    site.world.nodes.append(node("n2"))
    await site.run(6)
    assert site.where() == {"a": "n1", "gate": "n2"}


async def test_a_source_that_fails_is_tried_again_after_a_pause() -> None:
    """A camera that cannot be opened costs the others nothing, and is tried again after growing pauses."""
    site = Site(("n1",), {"a": None, "b": None})
    await site.run(4)
    worker = site.world.workers["n1"]
    worker.failing = {"b"}
    await site.run(4)
    assert set(site.where()) == {"a"}
    assert site.controller.assignments["b"].error == "no such camera"
    worker.failing = set()
    await site.run(10)
    assert set(site.where()) == {"a", "b"}
    assert site.controller.assignments["b"].error is None


async def test_the_run_ends_with_its_files() -> None:
    """When every file has ended, the run ends."""
    site = Site(("n1",), {"a": None})
    await site.run(4)
    site.world.workers["n1"].ended = {"a"}
    await site.run(2)
    await asyncio.wait_for(site.controller.run(), 5)
    assert site.world.workers["n1"].killed


async def test_leases_are_renewed_while_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the last messages take longer than a lease; without renewals the ends of open events would not be published."""
    monkeypatch.setattr("streamav.cluster.controller.PERIOD_S", 0.01)
    monkeypatch.setattr("streamav.cluster.controller.STOP_S", 2.0)
    site = Site(("n1", "n2"), dict(SOURCES))
    await site.run(6)
    site.world.workers["n2"].slow_beats = 5
    site.controller.stop()
    await site.controller.run()
    assert all(worker.stopped and worker.killed for worker in site.world.workers.values())


async def test_a_worker_that_still_loads_its_model_is_not_waited_for() -> None:
    """Ctrl-C during the start ends the run at once: such a worker has published nothing."""
    site = Site(("n1",), dict(SOURCES))
    await site.controller.tick()
    site.controller.stop()
    await site.controller.run()
    worker = site.world.workers["n1"]
    assert worker.killed
    assert not worker.stopped


async def test_no_worker_at_all_is_an_error() -> None:
    """When no machine can run the model, the run says why."""
    site = Site(("n1",), {"a": None})
    await site.run(1)
    site.world.workers["n1"].error = "the model is missing"
    with pytest.raises(EngineError, match="no worker of the cluster can run: the model is missing"):
        await site.run(3)


async def test_a_machine_that_cannot_run_a_worker_is_tried_more_and_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """A machine with another version, or without streamav, costs a log line a minute, not one a second; the others run everything."""
    site = Site(("n1", "n2"), dict(SOURCES))
    site.world.broken = {"n2"}
    await site.run(300)
    assert sorted(site.where()) == sorted(SOURCES)
    assert site.world.made - 1 <= 9  # after 5, 10, 20, 40, 60, 60 ... s
    assert sum("the node died" in one.message for one in caplog.records) <= 9
    site.world.broken = set()
    await site.run(120)
    assert "n2" in site.where().values()


async def test_machines_that_all_cannot_run_a_worker_end_the_run() -> None:
    """Nobody waits for ever: after three attempts the run ends with the reason."""
    site = Site(("n1", "n2"), dict(SOURCES))
    site.world.broken = {"n1", "n2"}
    with pytest.raises(EngineError, match="no worker of the cluster can run: the node died"):
        await site.run(60)


async def test_a_worker_without_the_model_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """The others run its sources meanwhile. The log and `cluster status` name the reason; once the files are there it takes its share."""
    site = Site(("n1", "n2"), dict(SOURCES))
    await site.run(1)
    site.world.workers["n2"].error = "the model is missing"
    await site.run(120)
    assert set(site.where().values()) == {"n1"}
    told = [one.message for one in caplog.records if "n2" in one.message]
    assert 1 <= len([one for one in told if "the model is missing" in one]) <= 9
    assert not [one for one in told if "silent" in one]
    rows = {one["worker"]: one for one in json.loads(site.world.told)["workers"]}
    assert rows["n2"]["error"] == "the model is missing"
    site.world.workers["n2"].error = None
    await site.run(120)
    assert "n2" in site.where().values()


async def test_each_gpu_has_a_worker() -> None:
    """A node with two GPUs has two workers, each with half of its cores."""
    site = Site((), dict(SOURCES))
    site.world.nodes = [node("box", 16.0, gpus=2)]
    await site.run(2)
    assert {name: member.slot.cores for name, member in site.controller.members.items()} == {"box-gpu0": 8.0, "box-gpu1": 8.0}
