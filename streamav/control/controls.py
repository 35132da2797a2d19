"""Takes changes of what a run detects, checks them at once, and hands the resulting plans to the loop between two turns.

`change` and `reload` may be called from any thread. `take` and `applied` belong to the loop. What waits is bounded: a plan is complete, so
a later plan of a source replaces the one that waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from copy import deepcopy
from typing import TYPE_CHECKING

from streamav.config import merge
from streamav.control.kept import Difference, KeptChanges, leaves
from streamav.control.merging import changed, check_labels, pruned, read_values, value_of
from streamav.errors import SettingsError
from streamav.privacy_modes import METADATA_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streamav.config import DetectionSettings
    from streamav.control.kept import Tree
    from streamav.control.plan import SourcePlan

__all__ = ["Controls"]

_log = logging.getLogger(__name__)


class Controls:
    """What every source of a run detects, and the changes of it."""

    def __init__(
        self,
        configured: Mapping[str, DetectionSettings],
        resolve: Callable[[str, DetectionSettings], SourcePlan],
        path: Path | None = None,
    ) -> None:
        """Start with the configuration and the changes that an earlier run kept.

        A kept change that the configuration no longer allows, such as one of a label that is gone, is left out with a warning.

        Args:
            configured: source id -> complete settings of its detection, without changes.
            resolve: returns the plan of a source, or raises a SettingsError.
            path: file of the kept changes (`kept_path`); None keeps nothing.

        Raises:
            SettingsError: when the configuration itself is wrong.
        """
        self._resolve = resolve
        self._kept = KeptChanges(path)
        self._lock = threading.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._unwritten: list[SourcePlan] = []
        self._waiting: dict[str, SourcePlan] = {}
        self._listeners: list[Callable[[SourcePlan], None]] = []
        self._watchers: list[Callable[[SourcePlan], None]] = []
        self._configured = dict(configured)
        self._trees: dict[str, Tree] = {}
        self._plans = {source: resolve(source, detection) for source, detection in configured.items()}
        self._enabled = {source: tuple(one.label for one in plan.labels) for source, plan in self._plans.items()}
        for source, tree in self._kept.read().items():
            if source in self._configured:
                self._take_over(source, tree)

    @property
    def sources(self) -> tuple[str, ...]:
        """Ids of the sources of the run."""
        return tuple(self._configured)

    def plan(self, source: str) -> SourcePlan:
        """Return what holds for a source, including a change that was accepted and waits for the end of a turn.

        For a source that was removed it is what held last: another thread may ask before it learns of that.

        Raises:
            SettingsError: when there is no such source.
        """
        if source not in self._plans:
            self._check_source(source)
        return self._plans[source]

    def labels(self, source: str) -> dict[str, bool]:
        """Return the labels of a source that can be switched, and whether they are on: those that its configuration enables.

        Raises:
            SettingsError: when there is no such source.
        """
        now = [one.label for one in self.plan(source).labels]
        return {**dict.fromkeys(self._enabled[source], False), **dict.fromkeys(now, True)}

    def configured(self, source: str) -> DetectionSettings:
        """Return the settings of a source without changes.

        Raises:
            SettingsError: when there is no such source.
        """
        self._check_source(source)
        return self._configured[source]

    def differences(self) -> list[Difference]:
        """Return every value that differs from the configuration, by source and setting."""
        with self._lock:
            return [
                Difference(source, ".".join(path), value, value_of(self._configured[source], path))
                for source in sorted(self._trees)
                for path, value in sorted(leaves(self._trees[source]))
                if source in self._configured
            ]

    def change(self, source: str, patch: Mapping[str, object]) -> SourcePlan:
        """Check a change, keep it, and let it hold from the next turn on.

        Args:
            source: id of the source.
            patch: part of its section `detection`; None as a value means back to the configuration.

        Returns:
            The plan that will hold.

        Raises:
            SettingsError: when there is no such source or setting, or the value is wrong; then nothing changes.
        """
        with self._lock:
            self._check_source(source)
            tree = deepcopy(self._trees.get(source, {}))
            merge(tree, patch)
            tree = self._pruned(source, tree)
            plan = self._resolved(source, self._configured[source], tree)
            self._accept(plan, self._pruned(source, read_values(tree, plan.detection)))
        return plan

    def reload(self, configured: Mapping[str, DetectionSettings]) -> list[SourcePlan]:
        """Take a new configuration for some sources; their kept changes stay on top of it.

        Args:
            configured: source id -> complete settings of its detection, without changes.

        Returns:
            The plans of the sources that change.

        Raises:
            SettingsError: when a source does not exist, or its new configuration is wrong; then nothing changes.
        """
        for source in configured:
            self._check_source(source)
        with self._lock:
            found = []
            for source, detection in configured.items():
                check_labels(source, self._configured[source], detection)
                found.append((self._resolved(source, detection, self._trees.get(source, {})), detection))
            changing = []
            for plan, detection in found:
                self._configured[plan.source] = detection
                self._enabled[plan.source] = tuple(one.label for one in self._resolve(plan.source, detection).labels)
                if plan != self._plans[plan.source]:
                    self._accept(plan, self._pruned(plan.source, self._trees.get(plan.source, {})))
                    changing.append(plan)
        return changing

    def add(self, source: str, detection: DetectionSettings) -> None:
        """Take a source that is added or started again while the run goes on; its kept changes hold on top, as far as they are allowed.

        Args:
            source: its id.
            detection: complete settings of its detection, without changes.

        Raises:
            SettingsError: when the configuration is wrong; then nothing changes.
        """
        kept = self._kept.read()
        plan = self._resolve(source, detection)
        with self._lock:
            tree = self._trees.get(source, kept.get(source, {}))
            self._waiting.pop(source, None)
            self._configured = {**self._configured, source: detection}
            self._plans[source], self._trees[source] = plan, {}
            self._enabled[source] = tuple(one.label for one in plan.labels)
            if tree:
                self._take_over(source, tree)

    def remove(self, source: str) -> None:
        """Take no changes of a source any more; what was kept for it stays, in case it comes back."""
        with self._lock:
            self._configured = {name: one for name, one in self._configured.items() if name != source}

    def tell(self, source: str) -> None:
        """Call the watchers with the plan of a source that they know since now."""
        with self._lock:
            for watcher in self._watchers:
                watcher(self._plans[source])

    def listen(self, listener: Callable[[SourcePlan], None]) -> None:
        """Call *listener* on the loop with each plan, once it holds and was written; it must return at once."""
        self._listeners.append(listener)

    def watch(self, watcher: Callable[[SourcePlan], None]) -> None:
        """Call *watcher* with the plan of each source now, and with each later plan as soon as it is accepted.

        It is called in the thread that makes the change, which must not wait for it, and before the change is answered.
        """
        with self._lock:
            self._watchers.append(watcher)
            for source in self._configured:
                watcher(self._plans[source])

    # Called by the loop

    def take(self) -> list[SourcePlan]:
        """Return the plans that wait, at most one a source, and forget them."""
        if not self._waiting:  # read without the lock: what comes just now waits for the next turn
            return []
        with self._lock:
            plans = list(self._waiting.values())
            self._waiting.clear()
        return plans

    def applied(self, plans: Sequence[SourcePlan]) -> None:
        """Note that plans hold from now on: write them in the background, then tell the listeners."""
        self._unwritten += plans
        if plans and self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="controls")

    async def settle(self) -> None:
        """Wait until everything that holds is written and told."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._unwritten:
                plans, self._unwritten = self._unwritten, []
                with self._lock:
                    trees = {plan.source: deepcopy(self._trees.get(plan.source, {})) for plan in plans}
                await asyncio.to_thread(self._kept.write, trees)
                for plan in plans:
                    self._tell(plan)
        finally:
            self._writing = None

    def _tell(self, plan: SourcePlan) -> None:
        for listener in self._listeners if plan.source in self._configured else ():
            try:
                listener(plan)
            except Exception:  # noqa: BLE001 - one listener must not stop the others
                _log.exception("a listener failed at a change source=%s", plan.source)

    # Plans

    def _accept(self, plan: SourcePlan, tree: Tree) -> None:
        self._trees[plan.source] = tree
        self._plans[plan.source] = self._waiting[plan.source] = plan
        for watcher in self._watchers:
            watcher(plan)
        _log.info("detection changed source=%s changes=%s", plan.source, [".".join(path) for path, _ in leaves(tree)])

    def _resolved(self, source: str, detection: DetectionSettings, tree: Tree) -> SourcePlan:
        """Return the plan of a configuration with changes.

        Raises:
            SettingsError: when a value is wrong.
        """
        return self._resolve(source, changed(source, detection, tree))

    def _pruned(self, source: str, tree: Tree) -> Tree:
        """Return the changes of a source without what is None or equals its configuration."""
        return pruned(self._configured[source], tree)

    def _take_over(self, source: str, tree: Tree) -> None:
        """Use the changes that an earlier run kept, as far as they are still allowed."""
        try:
            plan = self._resolved(source, self._configured[source], tree)
        except SettingsError:
            tree, plan = self._allowed(source, tree)
        self._trees[source], self._plans[source] = self._pruned(source, tree), plan
        if self._trees[source]:
            told = ", ".join(f"{'.'.join(path)} {value}" for path, value in leaves(self._trees[source]))
            _log.info("kept changes hold instead of the configuration source=%s %s", source, told)

    def _allowed(self, source: str, tree: Tree) -> tuple[Tree, SourcePlan]:
        """Return the changes that are still allowed one by one, and their plan."""
        good: Tree = {}
        plan = self._plans[source]
        for path, value in leaves(tree):
            one: Tree = {path[-1]: value}
            for key in reversed(path[:-1]):
                one = {key: one}
            tried = deepcopy(good)
            merge(tried, one)
            try:
                plan, good = self._resolved(source, self._configured[source], tried), tried
            except SettingsError as exc:
                _log.warning("a kept change is left out source=%s setting=%s reason=%s", source, ".".join(path), exc)
                if path == _PRIVACY:  # people who were hidden must not be shown because of another model
                    good["privacy"] = [METADATA_ONLY]
                    plan = self._resolved(source, self._configured[source], good)
                    _log.warning("privacy is %s until it is set again source=%s", METADATA_ONLY, source)
        return good, plan

    def _check_source(self, source: str) -> None:
        if source not in self._configured:
            msg = f"there is no source {source!r}; the sources are {', '.join(self._configured)}"
            raise SettingsError(msg)


_PRIVACY = ("privacy",)
