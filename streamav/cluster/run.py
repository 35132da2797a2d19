"""`streamav run --cluster`: builds the controller from the settings and runs it until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from streamav.app import check_model
from streamav.app.signals import interruptible
from streamav.bundle import choose_bundle
from streamav.capture.address import LAVFI, is_network
from streamav.cluster.broker import ClusterBroker
from streamav.cluster.controller import Controller, Outside
from streamav.cluster.ray_fleet import RayFleet
from streamav.errors import SettingsError
from streamav.files import typed_path
from streamav.publish import ModelEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamav.config import Settings

__all__ = ["check_cluster", "run_cluster", "settings_for_workers"]

AUTO = "auto"


def check_cluster(settings: Settings) -> None:
    """Check that settings can run on a cluster.

    Raises:
        SettingsError: when they cannot.
    """
    if settings.mqtt is None:
        msg = "--cluster needs a broker, which takes the events of all machines; add --mqtt mqtt://HOST"
        raise SettingsError(msg)
    if not settings.sources:
        msg = "--cluster needs a file with several sources ([[sources]]); add --config FILE (examples/many.toml)"
        raise SettingsError(msg)
    for refused, where in (
        (settings.jsonl is not None, "jsonl"),
        (settings.view.enabled, "view.enabled"),
        (settings.http.listen, "http.listen"),
        (settings.clips.dir, "clips.dir"),
    ):
        if refused:
            msg = f"--cluster sends all events to the broker; {where} belongs to one machine and must be left out"
            raise SettingsError(msg)
    for one in settings.sources:
        if (one.camera_device is not None or one.mic_device is not None) and one.node is None:
            msg = f'source {one.id} opens a device, so it must name the machine that has it: add node = "NAME" to its table'
            raise SettingsError(msg)
        if one.speed == "max":
            msg = f'source {one.id}: --cluster runs files at their own pace; leave speed = "max" out, or use streamav localize for files'
            raise SettingsError(msg)
    check_model(settings)


def settings_for_workers(settings: Settings) -> dict[str, object]:
    """Return the settings as JSON values for other processes: with their secrets, and with absolute paths, the same on every machine."""
    tree = settings.model_dump(mode="json", exclude_unset=True)
    mqtt = settings.mqtt
    if mqtt is not None and mqtt.password is not None:
        _section(tree, "mqtt")["password"] = mqtt.password.get_secret_value()
    paths: list[tuple[dict[str, object], str, Path | None]] = [
        (_section(tree, "model"), "weights_dir", settings.model.weights_dir),
        (_section(tree, "mqtt"), "password_file", None if mqtt is None else mqtt.password_file),
    ]
    tls = None if mqtt is None else mqtt.tls
    if tls is not None:
        paths += [(_section(_section(tree, "mqtt"), "tls"), key, getattr(tls, key)) for key in ("ca", "cert", "key")]
    for section, key, path in paths:
        if path is not None:
            section[key] = str(path.absolute())
    if typed_path(settings.model.name).is_dir():
        _section(tree, "model")["name"] = str(typed_path(settings.model.name).absolute())
    elif settings.model.name == AUTO:  # every machine must run the same model
        _section(tree, "model")["name"] = choose_bundle(AUTO, settings.model.weights_dir).bundle.card.name
    tables = tree.get("sources")
    for table in tables if isinstance(tables, list) else ():
        uri = table.get("uri")
        if isinstance(uri, str) and not is_network(uri) and not uri.startswith(LAVFI):
            table["uri"] = str(typed_path(uri).absolute())
    return tree


def _section(tree: dict[str, object], name: str) -> dict[str, object]:
    section = tree.setdefault(name, {})
    return section if isinstance(section, dict) else {}


def run_cluster(settings: Settings, address: str, on_interrupt: Callable[[int], None] | None = None) -> dict[str, object]:
    """Run all sources on a cluster until they have ended or a signal asks for the end; return the last status.

    Args:
        settings: of the run.
        address: `auto` or HOST:PORT of a running Ray.
        on_interrupt: called with the number of the first signal; the second one ends the process at once.

    Raises:
        MissingExtraError: when ray is not installed.
        SettingsError: when the settings do not fit a cluster, or no Ray runs there.
        EngineError: when no worker can run.
    """
    check_cluster(settings)
    mqtt = settings.mqtt
    if mqtt is None:  # check_cluster() has refused it
        return {}
    bundle = choose_bundle(settings.model.name, settings.model.weights_dir).bundle
    entry = ModelEntry(name=bundle.card.name, version=bundle.card.version, sha256=bundle.sha256, backend="cluster")
    fleet = RayFleet(address, mqtt.base, settings_for_workers(settings))
    try:
        broker = ClusterBroker(settings, mqtt, entry, [one.id for one in settings.sources])
        outside = Outside(fence=broker.fence, left_open=broker.left_open, lost=broker.lost, placed=broker.placed)
        controller = Controller(fleet, outside, {one.id: one.node for one in settings.sources}, mqtt.base)
        asyncio.run(_run(controller, broker, on_interrupt))
        return controller.status()
    finally:
        fleet.close()


async def _run(controller: Controller, broker: ClusterBroker, on_interrupt: Callable[[int], None] | None) -> None:
    with interruptible((signal.SIGINT, signal.SIGTERM), controller.stop, on_interrupt):
        await broker.start()
        try:
            await controller.run()
        finally:
            await broker.close()
