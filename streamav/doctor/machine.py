"""Checks the machine: codecs, cameras and their permissions, microphones, disk and clock. It opens no device."""

from __future__ import annotations

import os
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamav.doctor.finding import divided, error, ok, refused, warning
from streamav.errors import CaptureError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamav.doctor.finding import Finding

__all__ = ["cameras", "clock", "codecs", "disk", "microphones"]

_CODECS: Final = ("h264", "hevc", "mjpeg", "aac", "pcm_alaw", "pcm_mulaw")
"""What cameras send."""
_PORTAUDIO: Final = "install PortAudio: sudo apt-get install libportaudio2"
_OTHERWISE: Final = "(or check a network camera or a file: streamav doctor --source rtsp://ADDRESS/stream)"
_LEAST_FREE: Final = 200_000_000
"""Less free space than this is a warning, bytes (our choice)."""
_EARLIEST: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""A clock before this was never set; no release of streamav is older."""
_SYNCHRONIZED: Final = Path("/run/systemd/timesync/synchronized")


def codecs() -> Iterator[Finding]:
    """Check that FFmpeg, as PyAV holds it, decodes what cameras send."""
    import av

    missing = [name for name in _CODECS if name not in av.codecs_available]
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    if missing:
        remedy = "install PyAV from its wheels: pip install --force-reinstall --only-binary av av"
        yield warning("codecs", f"PyAV {av.__version__} cannot decode {', '.join(missing)}", remedy)
    else:
        yield ok("codecs", f"PyAV {av.__version__} with libavcodec {version} decodes {', '.join(_CODECS)}")


def cameras(wanted: str | None) -> Iterator[Finding]:
    """List the cameras and check that this user may open the wanted one, or any."""
    from streamav.capture import list_cameras

    found = list_cameras()
    denied = [camera for camera in found if not os.access(camera.id, os.R_OK | os.W_OK)]
    if not found and wanted is None:
        yield ok("cameras", "none; a file or network stream needs none")
    elif not found and "/" not in (wanted or "") and not (wanted or "").startswith("lavfi:"):
        remedy = "connect a camera and run `streamav devices`; in a container, pass it on: docker run --device /dev/video0 ..."
        yield error("cameras", "none is connected", f"{remedy} {_OTHERWISE}", 3)
    elif (wanted or "").startswith("/dev/") and not Path(str(wanted)).exists():
        listed = ", ".join(camera.id for camera in found) or "none"
        remedy = f"connect it, or name another one with --camera (connected: {listed}); `streamav devices` lists them"
        yield error("cameras", f"{wanted} does not exist", remedy, 3)
    elif denied:
        named = ", ".join(camera.id for camera in denied)
        found_text, remedy = (
            f"this user may not open {named}",
            f"add it to the group of cameras: sudo usermod -aG video {_user()}   (then log in again)",
        )
        yield warning("cameras", found_text, remedy) if wanted is None else error("cameras", found_text, remedy, 3)
    else:
        yield ok("cameras", ", ".join(f"{camera.name} ({camera.id})" for camera in found) or "none listed")


def microphones(wanted: str | None) -> Iterator[Finding]:
    """List the microphones and check that PortAudio is there."""
    from streamav.capture import list_microphones

    try:
        found = list_microphones()
    except CaptureError as exc:
        if wanted is None:
            found_text, told = divided(str(exc))
            yield warning("microphones", found_text, f"needed for --mic only: {told or _PORTAUDIO}")
        else:
            yield refused("microphones", exc, _PORTAUDIO)
        return
    if found:
        yield ok("microphones", ", ".join(f"{one.name}{' (default)' if one.default else ''}" for one in found))
    elif wanted is None:
        yield ok("microphones", "none; a file or network stream needs none")
    else:
        remedy = "connect one, and start the sound server: systemctl --user start pipewire pipewire-pulse (or pulseaudio --start);"
        yield error("microphones", "PortAudio lists none", f"{remedy} `streamav devices` then lists it", 3)


def disk(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Check that each folder can be written to and has space left; by setting."""
    for setting, folder in folders.items():
        place = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
        free = shutil.disk_usage(place).free
        if not os.access(place, os.W_OK | os.X_OK) or not place.is_dir():
            yield error(
                f"disk: {setting}",
                f"{folder} cannot be written to",
                f"change its owner: sudo chown -R {_user()} {shlex.quote(str(place))}   (or set {setting} to another folder)",
                SettingsError.exit_code,
            )
        elif free < _LEAST_FREE:
            remedy = (
                f"find what is large: du -xh {shlex.quote(str(place))} | sort -h | tail   (or set {setting} to a folder on another disk)"
            )
            yield warning(f"disk: {setting}", f"{folder} has {free // 1_000_000} MB free", remedy)
        else:
            yield ok(f"disk: {setting}", f"{folder} can be written to, {free / 1e9:.1f} GB free")


def clock(now: datetime, synchronized: Path = _SYNCHRONIZED) -> Iterator[Finding]:
    """Check that the wall clock was set, and whether NTP keeps it."""
    remedy = "start NTP: sudo timedatectl set-ntp true"
    if now < _EARLIEST:
        yield error("clock", f"it says {now:%Y-%m-%d %H:%M} UTC, so events would be stamped wrong", remedy, 2)
    elif synchronized.parent.is_dir() and not synchronized.exists():
        yield warning("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, not synchronized", remedy)
    else:
        yield ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())
