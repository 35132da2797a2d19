"""Fills the role of the cluster with Ray: nodes, one actor for each worker, and the status for other programs.

Ray starts the actors, notices nodes that die or join, and carries the calls. This is the only module of the cluster that knows Ray.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streamav import __version__
from streamav.cluster.fleet import Node, WorkerDiedError
from streamav.cluster.grpc_probe import speaks_grpc
from streamav.errors import MissingExtraError, SettingsError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from streamav.cluster.orders import Order, Report

__all__ = ["NAMESPACE", "RayFleet", "Roster", "connect", "read_boards"]

_log = logging.getLogger(__name__)
NAMESPACE = "streamav"
_BOARD = "streamav-board-"
_REACH_S = 5.0
"""Longest wait for an answer at HOST:PORT, s (our choice)."""
_HEAD_S = 1.0
"""Longest wait for the head of Ray in one period of the controller, s."""
_CALLS = 8
"""Calls of one actor that may run at once: an order must be answered while the run is being built."""


def connect(address: str) -> ModuleType:
    """Connect to a running Ray and return its module.

    Args:
        address: `auto` for the Ray of this machine, or HOST:PORT.

    Raises:
        MissingExtraError: when ray is not installed.
        SettingsError: when no Ray runs there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as exc:
        package, extra = "ray", "ray"
        raise MissingExtraError(package, extra) from exc
    if ray.is_initialized():
        return ray  # type: ignore[no-any-return]
    _check_reachable(address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=True, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as exc:
        reason = "none runs on this machine" if address == "auto" else reason_of(exc).splitlines()[0][:200]
        raise _no_ray(address, reason) from exc
    return ray  # type: ignore[no-any-return]


def _check_reachable(address: str) -> None:
    """Check that something answers at HOST:PORT as a Ray does; Ray itself would try for minutes and print its own lines meanwhile.

    Raises:
        SettingsError: when the address has another form, nothing answers, or something else does.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise _no_ray(address, "it must have a host and a port")
    try:
        peer = socket.create_connection((host.strip("[]"), int(port)), _REACH_S)
    except (OSError, OverflowError) as exc:
        raise _no_ray(address, f"nothing answers there ({reason_of(exc)})") from exc
    with peer:
        if os.environ.get("RAY_USE_TLS", "0") == "0" and not speaks_grpc(peer):
            raise _no_ray(address, "something answers there that is not Ray")


def _no_ray(address: str, reason: str) -> SettingsError:
    return SettingsError(
        f"--cluster must be auto or the HOST:PORT of a running Ray, got {address!r}: {reason}; start one with: ray start --head"
    )


class _Board:
    """Actor that keeps the newest status of a run."""

    def __init__(self) -> None:
        self._text = "{}"

    def write(self, text: str) -> None:
        self._text = text

    def read(self) -> str:
        return self._text


class _Actor:
    """Actor of one worker."""

    def __init__(self, name: str, settings: dict[str, object], version: str) -> None:
        import signal

        from streamav.cluster.worker import ClusterWorker
        from streamav.config import Settings

        if version != __version__:
            msg = f"every node must have streamav {version}, as the machine that started the run; this one has {__version__}"
            raise SettingsError(msg)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal of a local Ray is for the controller
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
        self._worker = ClusterWorker(name, Settings.model_validate(settings))

    def beat(self, order: Order) -> Report:
        return self._worker.beat(order)

    def stop(self) -> Report:
        return self._worker.stop()


class _Handle:
    """One worker, behind an actor."""

    def __init__(self, ray: ModuleType, actor: Any) -> None:  # noqa: ANN401 - Ray's handle has no type
        self._ray, self._actor = ray, actor

    async def beat(self, order: Order) -> Report:
        return await self._call(self._actor.beat, order)

    async def stop(self) -> Report:
        return await self._call(self._actor.stop)

    def kill(self) -> None:
        self._ray.kill(self._actor)

    async def _call(self, method: Any, *arguments: object) -> Report:  # noqa: ANN401 - as above
        try:
            return await asyncio.wrap_future(method.remote(*arguments).future())
        except self._ray.exceptions.RayError as exc:
            reason = str(exc).strip().splitlines()
            raise WorkerDiedError(reason[-1][:300] if reason else type(exc).__name__) from exc


class Roster:
    """Ray's list of nodes. A head that does not answer must not hold the controller up: it renews leases, for which no head is needed."""

    def __init__(self, ask: Callable[[], list[dict[str, Any]]]) -> None:
        """Keep the function that asks the head; it may block for minutes."""
        self._ask = ask
        self._known: list[dict[str, Any]] = []
        self._answer: asyncio.Future[list[dict[str, Any]]] | None = None
        self._silent = False

    async def rows(self) -> list[dict[str, Any]]:
        """Return what the head says, or what it said last when it takes longer than a moment."""
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            # a thread of a pool would be waited for at the end of the run
            threading.Thread(target=self._fetch, args=(asyncio.get_running_loop(), self._answer), name="nodes", daemon=True).start()
        done, _ = await asyncio.wait({self._answer}, timeout=_HEAD_S)
        if not done:
            if not self._silent:
                _log.warning("the head of Ray does not answer; what runs goes on, and Ray ends all after about a minute")
            self._silent = True
            return self._known
        self._known, self._answer, self._silent = self._answer.result(), None, False
        return self._known

    def _fetch(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[dict[str, Any]]]) -> None:
        try:
            found, error = self._ask(), None
        except Exception as exc:  # noqa: BLE001 - it belongs to the loop
            found, error = [], exc

        def tell() -> None:
            if not answer.done():
                answer.set_result(found) if error is None else answer.set_exception(error)

        with suppress(RuntimeError):  # the run has ended meanwhile
            loop.call_soon_threadsafe(tell)


class RayFleet:
    """The machines of a Ray cluster."""

    def __init__(self, address: str, base: str, settings: dict[str, object]) -> None:
        """Connect.

        Args:
            address: as for connect().
            base: first topic level of the run, by which `cluster status` names it.
            settings: of the run, as JSON values; each worker gets them.

        Raises:
            MissingExtraError: when ray is not installed.
            SettingsError: when no Ray runs at the address, or another run with this base uses it.
        """
        self._ray = ray = connect(address)
        self._settings = settings
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._on = NodeAffinitySchedulingStrategy
        self._roster = Roster(ray.nodes)
        here = ray.get_runtime_context().get_node_id()
        try:
            self._board = (
                ray.remote(_Board)
                .options(name=_BOARD + base.replace("/", "."), num_cpus=0, scheduling_strategy=self._on(node_id=here, soft=False))
                .remote()
            )
        except ValueError as exc:
            msg = f"a run with --cluster and mqtt.base {base!r} uses this Ray already: end it first, or set another mqtt.base for this one"
            raise SettingsError(msg) from exc

    async def nodes(self) -> list[Node]:
        """Return the nodes that are alive and have cores or GPUs; those that were known last while the head of Ray does not answer."""
        return [_node(row) for row in await self._roster.rows() if row["Alive"] and _can_work(row["Resources"])]

    def start(self, node: Node, name: str, *, gpu: bool) -> _Handle:
        """Start a worker on a node; it takes no core from Ray's count, because it shares the machine with all that runs there."""
        actor = self._ray.remote(_Actor).options(
            num_cpus=0,
            num_gpus=1 if gpu else 0,
            max_concurrency=_CALLS,
            max_restarts=0,
            scheduling_strategy=self._on(node_id=node.id, soft=False),
        )
        return _Handle(self._ray, actor.remote(name, self._settings, __version__))

    def tell(self, status: str) -> None:
        """Write the status on the board."""
        self._board.write.remote(status)

    def close(self) -> None:
        """Leave Ray."""
        self._ray.shutdown()


def read_boards(address: str) -> list[str]:
    """Return the newest status of each run that uses a Ray, as JSON.

    Raises:
        MissingExtraError, SettingsError: as connect().
    """
    ray = connect(address)
    names = [name for name in ray.util.list_named_actors() if name.startswith(_BOARD)]
    found = []
    for name in sorted(names):
        try:
            found.append(ray.get(ray.get_actor(name).read.remote(), timeout=10))
        except (ValueError, ray.exceptions.RayError):  # the run has just ended
            continue
    return found


def _can_work(resources: dict[str, Any]) -> bool:
    return bool(resources.get("CPU") or resources.get("GPU"))


def _node(row: dict[str, Any]) -> Node:
    resources = row["Resources"]
    custom = {name for name in resources if name not in {"CPU", "GPU", "memory", "object_store_memory"} and not name.startswith("node:")}
    given, host = str(row.get("NodeName") or ""), str(row["NodeManagerHostname"])
    names = frozenset({given, host, str(row["NodeManagerAddress"]), *custom} - {""})
    name = host if not given or _is_address(given) else given
    return Node(str(row["NodeID"]), name, names, float(resources.get("CPU", 1.0)), int(resources.get("GPU", 0)))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
