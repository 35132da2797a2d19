"""`streamav run --cluster`: builds the controller from the settings and runs it until it ends or a signal stops it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from streamav.app import check_model
from streamav.app.signals import interruptible
from streamav.bundle import choose_bundle
from streamav.capture.address import LAVFI, STDIN, is_network
from streamav.capture.session import file_path
from streamav.cluster.broker import ClusterBroker
from streamav.cluster.controller import Controller
from streamav.cluster.outside import Outside
from streamav.cluster.ray_fleet import RayFleet
from streamav.errors import SettingsError
from streamav.publish import ModelEntry
from streamav.user_paths import typed_path

if TYPE_CHECKING:
    from collections.abc import Callable

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
    if settings.mqtt.commands:
        msg = "--cluster takes no commands over MQTT yet, so mqtt.commands must be left out; change the file and start the run again"
        raise SettingsError(msg)
    for one in settings.sources:
        if one.uri == STDIN:
            msg = f"source {one.id} reads standard input, which the workers of a cluster do not have; name an address or a file"
            raise SettingsError(msg)
        if (one.camera_device is not None or one.mic_device is not None) and one.node is None:
            msg = f'source {one.id} opens a device, so it must name the machine that has it: add node = "NAME" to its table'
            raise SettingsError(msg)
        if one.speed == "max":
            msg = f'source {one.id}: --cluster runs files at their own pace; leave speed = "max" out, or use streamav localize for files'
            raise SettingsError(msg)
    check_model(settings)


def settings_for_workers(settings: Settings) -> dict[str, object]:
    """Return the settings as JSON values for other processes: with their secrets, and with absolute paths, the same on every machine."""
    tree = settings.model_dump(exclude_unset=True)
    model = tree.setdefault("model", {})
    if typed_path(settings.model.name).is_dir():
        model["name"] = typed_path(settings.model.name).absolute()
    elif settings.model.name == AUTO:  # every machine must run the same model
        model["name"] = choose_bundle(AUTO, settings.model.weights_dir).bundle.card.name
    for table in tree.get("sources", ()):
        for key in ("uri", "sound_uri"):
            uri = table.get(key)
            if uri is not None and not is_network(uri) and not uri.startswith(LAVFI):
                table[key] = file_path(uri).absolute()
    sent = _opened(tree)
    return sent if isinstance(sent, dict) else {}


def _opened(value: object) -> object:
    """Return a value of the settings as JSON, with the text of secrets, which pydantic would write as stars, and with absolute paths."""
    if isinstance(value, dict):
        return {key: _opened(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_opened(inner) for inner in value]
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value.absolute()) if isinstance(value, Path) else to_jsonable_python(value)


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
