"""Defines what the controller needs of a cluster: nodes that come and go, and workers on them. Ray fills the role, in tests a stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.cluster.orders import Order, Report

__all__ = ["Fleet", "Node", "WorkerDiedError", "WorkerHandle"]


class WorkerDiedError(Exception):
    """A worker has ended, or its node has; the text says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the cluster."""

    id: str
    name: str
    """Name for people; not unique."""
    names: frozenset[str]
    """All names that `node` of a source may use."""
    cores: float
    gpus: int


class WorkerHandle(Protocol):
    """One worker."""

    async def beat(self, order: Order) -> Report:
        """Send an order and return the report; it never returns while the node is frozen.

        Raises:
            WorkerDiedError: when the worker has ended.
        """

    async def stop(self) -> Report:
        """End the worker's run in order, and return its last report.

        Raises:
            WorkerDiedError: when the worker has ended.
        """

    def kill(self) -> None:
        """End the worker at once."""


class Fleet(Protocol):
    """The machines."""

    async def nodes(self) -> Sequence[Node]:
        """Return the nodes that are alive."""

    def start(self, node: Node, name: str, *, gpu: bool) -> WorkerHandle:
        """Start a worker on a node; *gpu* reserves one GPU for it."""

    def tell(self, status: str) -> None:
        """Keep the status, as JSON, for `streamav cluster status`."""
