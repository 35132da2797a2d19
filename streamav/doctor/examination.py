"""Runs all checks that the settings of a run need, in the order in which a run would need them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from streamav.doctor.finding import Verdict
from streamav.doctor.machine import cameras, clock, codecs, disk, microphones
from streamav.doctor.service import check_broker, check_model
from streamav.doctor.source import check_source
from streamav.engines.cache import cache_folder
from streamav.publish.state_folder import default_state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamav.config import Settings
    from streamav.doctor.finding import Finding

__all__ = ["examine"]


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield the findings as they come. No event is published and no file is written, except a built engine in its cache.

    Args:
        settings: of the run that is examined.
    """
    sources = settings.each_source()
    yield from clock(datetime.now(UTC))
    yield from codecs()
    devices = [
        *cameras(next((one.camera_device for one in sources if one.camera_device is not None), None)),
        *microphones(next((one.mic_device for one in sources if one.mic_device is not None), None)),
    ]
    yield from devices
    yield from disk(_folders(settings))
    missing = {finding.check for finding in devices if finding.verdict is Verdict.ERROR}
    for one in sources:
        needed = {"cameras": one.camera_device, "microphones": one.mic_device}
        if not any(needed[check] is not None for check in missing):  # else it would be told twice
            yield from check_source(one)
    yield from check_model(settings)
    if settings.mqtt is not None:
        yield from check_broker(settings.mqtt)


def _folders(settings: Settings) -> dict[str, Path]:
    """Return the folders that the run would write to, by the setting or variable that names them."""
    folders = {"XDG_CACHE_HOME": cache_folder()}  # engines
    if settings.mqtt is not None or settings.journal.enabled:
        folders["state_dir"] = settings.state_dir or default_state_dir()
    if settings.clips.dir is not None:
        folders["clips.dir"] = settings.clips.dir
    return folders
