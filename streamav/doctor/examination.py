"""Runs all checks that the settings of a run need, in the order in which a run would need them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from streamav.doctor.machine import cameras, clock, codecs, disk, microphones
from streamav.doctor.service import check_broker, check_model
from streamav.doctor.source import check_source
from streamav.publish.state_folder import default_state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    yield from cameras(next((one.camera_device for one in sources if one.camera_device is not None), None))
    yield from microphones(next((one.mic_device for one in sources if one.mic_device is not None), None))
    folders = {"state_dir": settings.state_dir or default_state_dir()} if settings.mqtt is not None else {}
    if settings.clips.dir is not None:
        folders["clips.dir"] = settings.clips.dir
    yield from disk(folders)
    for one in sources:
        yield from check_source(one)
    yield from check_model(settings)
    if settings.mqtt is not None:
        yield from check_broker(settings.mqtt)
