"""Runs a model on one engine while a better engine is made beside it, and changes over between two turns of the run.

`selection` decides which engines these are, and `making` decides whether an engine may be used.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.engines.builder import BUILD_LIMIT_S, build_command, run_builder
from streamav.engines.making import open_ready
from streamav.engines.recipe import NETWORK_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from streamav.engines.cache import EngineCache
    from streamav.engines.maker import EngineRequest, Maker
    from streamav.protocols import Engine, Network

__all__ = ["Coming", "SwapEngine"]

_FIRST_OF_A_TURN = NETWORK_NAMES[0]
"""Every turn that computes a new segment begins with its pictures. An engine takes over only there, so that one turn uses one engine."""
_END_S = 5.0
"""Longest wait for the end of the builder, s."""
_one_build = threading.Lock()
"""At most one build at a time in a process."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Coming:
    """An engine that must still be made."""

    maker: Maker
    request: EngineRequest
    cache: EngineCache


class SwapEngine:
    """Fills the role Engine with the current engine. Its networks may be kept: they always run on the current engine."""

    def __init__(self, first: Engine, coming: Coming, limit_s: float = BUILD_LIMIT_S) -> None:
        """Begin on *first*; nothing is built before start().

        Args:
            first: the engine to begin with.
            coming: the engine that is made beside it.
            limit_s: longest time that making it may take.
        """
        self._engine = first
        self._next: Engine | None = None
        self._coming = coming
        self._limit_s = limit_s
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Return the name of the engine that computed the latest turn."""
        return self._engine.name

    @property
    def picture_ms(self) -> float | None:
        """Return the recorded time of one picture on the current engine, ms; None when it was not recorded."""
        found: float | None = getattr(self._engine, "picture_ms", None)
        return found

    @property
    def coming(self) -> str:
        """Return the name of the recipe of the engine that is being made."""
        return self._coming.request.recipe.name

    def network(self, name: str) -> Network:
        """Return a network that always runs on the current engine.

        Raises:
            EngineError: when there is no such network.
        """
        self._engine.network(name)
        return _Following(self, name)

    def start(self, warm: Callable[[Engine], None] | None = None) -> None:
        """Start making the other engine, once; *warm* runs it on the shapes of the run before it takes over."""
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._work, args=(warm,), name="engine-build", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the builder, if it is still running; the current engine stays usable."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_END_S)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the other engine is ready to take over or has failed; return False when the time runs out first."""
        return self._settled.wait(timeout_s)

    def of_this_call(self, name: str) -> Engine:
        """Return the engine for one call of a network; an engine that is ready takes over at the start of a turn."""
        if name == _FIRST_OF_A_TURN and self._next is not None:
            before, self._engine, self._next = self._engine.name, self._next, None
            _log.info("engine: %s takes over from %s", self._engine.name, before)
        return self._engine

    def _work(self, warm: Callable[[Engine], None] | None) -> None:
        """Make, load, compare and warm up the other engine. Any failure is one warning, and the run goes on with the current engine."""
        recipe, model = self._coming.request.recipe.name, self._coming.request.bundle.card.name
        try:
            reason = self._build()
            if reason is None:
                engine = open_ready(self._coming.maker, self._coming.request, self._coming.cache)
                if warm is not None:
                    warm(engine)
                self._next = engine
        except Exception as exc:  # noqa: BLE001 - no error of a foreign library may end the run
            reason = f"{type(exc).__name__}: {exc}"
        if reason is not None and not self._stop.is_set():
            _log.warning("engine: %s could not be built; %s continues to run model %s: %s", recipe, self._engine.name, model, reason)
        self._settled.set()

    def _build(self) -> str | None:
        """Run the builder when no other build runs; return the reason of a failure, or None."""
        while not _one_build.acquire(timeout=0.1):
            if self._stop.is_set():
                return "the run ended first"
        try:
            _log.info("engine: %s is being built beside the run", self._coming.request.recipe.name)
            return run_builder(build_command(self._coming.request, self._coming.cache), self._stop, self._limit_s)
        finally:
            _one_build.release()


class _Following:
    """One network of the current engine."""

    def __init__(self, owner: SwapEngine, name: str) -> None:
        self._owner = owner
        self._name = name

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network; the whole call uses one engine."""
        return self._owner.of_this_call(self._name).network(self._name)(*inputs)
