"""Encodes media files on many processes or machines with Ray Data; one writer in the calling process takes the results.

Each actor holds the encoders of a model and encodes one file after another. Every machine must have streamav installed, and must see
the media, the model and the engine cache under the same paths. This module writes nothing and handles no labels.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load, save

from streamav.config import ModelSettings
from streamav.errors import EngineError, MissingExtraError, SettingsError
from streamav.training.clips.encode import MediaEncoder, MediaFeatures, MediaResult, MediaTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

__all__ = ["LOCAL", "RayWorker"]

LOCAL = "local"
"""Value instead of an address: start Ray on this machine; it listens only on loopback and stops after the work."""
_ALL = -1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayWorker:
    """Encodes files with as many actors as the cores of the cluster allow."""

    model: str
    """Name of a bundle, or its absolute folder, the same on every machine."""
    settings: ModelSettings
    """Engine settings; `threads` is also the number of cores that an actor reserves, None for one."""
    address: str = LOCAL
    """`local`, `auto` for a Ray that already runs on this machine, or HOST:PORT."""
    cores: int | None = None
    """Number of cores of a local Ray; None for all."""

    def __call__(self, tasks: Sequence[MediaTask]) -> Iterator[MediaResult]:
        """Yield one result for each task, as soon as it is finished.

        Raises:
            MissingExtraError: when ray is not installed.
            SettingsError: when no Ray runs at the address.
            EngineError: when the encoders cannot run, or Ray fails.
        """
        ray = _import_ray(local=self.address == LOCAL)
        ours = not ray.is_initialized()
        if ours:
            self._start(ray)
        try:
            yield from self._results(ray, tasks)
        except ray.exceptions.RayError as exc:
            msg = f"Ray could not encode the files: {str(exc).strip().splitlines()[-1][:400] if str(exc).strip() else type(exc).__name__}"
            raise EngineError(msg) from exc
        finally:
            if ours:
                ray.shutdown()

    def _start(self, ray: ModuleType) -> None:
        """Start a local Ray, or connect to the one at the address."""
        quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
        if self.address == LOCAL:
            ray.init(address=LOCAL, num_cpus=self.cores, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
            if not str(ray.util.get_node_ip_address()).startswith("127."):
                _log.warning("ray listens on other addresses than loopback, because it was imported before this setting was made")
            return
        try:
            ray.init(address=self.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as exc:
            msg = f"--ray must be local, auto or the HOST:PORT of a running Ray, got {self.address!r}: {str(exc)[:300]}"
            raise SettingsError(msg) from exc

    def _results(self, ray: ModuleType, tasks: Sequence[MediaTask]) -> Iterator[MediaResult]:
        import ray.data as ray_data

        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray_data.DataContext.get_current().enable_progress_bars = False
        cores = self.settings.threads or 1
        room = max(1, int(ray.cluster_resources().get("CPU", 1)) // cores)
        if self.settings.weights_dir is not None:
            placed = self.settings.model_copy(update={"weights_dir": self.settings.weights_dir.absolute(), "threads": cores})
        else:
            placed = self.settings.model_copy(update={"threads": cores})
        items = [_item(task) for task in tasks]
        pool = ray_data.ActorPoolStrategy(min_size=1, max_size=min(room, len(items)))
        encoded = ray_data.from_items(items).map(
            _Encoder, fn_constructor_args=(self.model, placed.model_dump(mode="json")), compute=pool, num_cpus=cores
        )
        for row in encoded.iter_rows():
            yield _result(row)


class _Encoder:
    """The state of an actor: the encoders of one model."""

    def __init__(self, model: str, settings: Mapping[str, object]) -> None:
        """Open the engine, once for each actor."""
        from streamav.bundle import find_bundle
        from streamav.engines import open_engine

        bundle = find_bundle(model)
        chosen = ModelSettings.model_validate(settings)
        self._encoder = MediaEncoder(open_engine(bundle, chosen), bundle.card)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, object]:
        """Encode one file; arrays are returned as the bytes of a safetensors file, so that any length fits in one column."""
        from pathlib import Path

        seconds = int(item["seconds"])
        result = self._encoder.result(MediaTask(int(item["key"]), Path(item["path"]), None if seconds == _ALL else seconds))
        found = result.features
        payload = b"" if found is None else save(found.arrays())
        return {"key": result.key, "reason": result.reason, "payload": payload}


def _item(task: MediaTask) -> dict[str, object]:
    return {"key": task.key, "path": str(task.path.absolute()), "seconds": _ALL if task.seconds is None else task.seconds}


def _result(row: Mapping[str, Any]) -> MediaResult:
    if not row["payload"]:
        return MediaResult(int(row["key"]), None, str(row["reason"]))
    return MediaResult(int(row["key"]), MediaFeatures(**load(row["payload"])))


def _import_ray(*, local: bool) -> ModuleType:
    """Import ray with usage reports off; a local Ray is also set to listen only on loopback.

    Ray reads both environment variables when it is imported. The second is ray's setting for "this is no cluster" (its default outside
    Linux): without it, ray replaces 127.0.0.1 by the machine's network address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
    except ImportError as exc:
        package, extra = "ray", "ray"
        raise MissingExtraError(package, extra) from exc
    return ray  # type: ignore[no-any-return]
