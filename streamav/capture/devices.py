"""Lists the cameras and microphones of this machine, and finds a camera by number, path or part of its name.

It opens none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamav.capture.v4l2 import CameraFormat, camera_formats
from streamav.errors import CaptureError
from streamav.redaction import show_address

__all__ = ["Device", "find_camera", "list_cameras", "list_microphones"]

if TYPE_CHECKING:
    from types import ModuleType

_RATES_HZ: Final = (8_000, 16_000, 32_000, 44_100, 48_000, 96_000)
_DEV = Path("/dev")
_SYS = Path("/sys/class/video4linux")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A camera or a microphone."""

    id: str
    """Value for --camera or --mic. Where the system offers such a name, it stays the same when other devices are added or removed."""
    name: str
    """Name that the maker gave it."""
    default: bool = False
    """True for the device that is used when none is named."""
    formats: tuple[CameraFormat, ...] = ()
    """What a camera can send; empty for a microphone, and for a camera that does not tell."""
    channels: int = 0
    """Most channels that a microphone gives; 0 for a camera."""
    rates_hz: tuple[int, ...] = ()
    """Sample rates that a microphone can be opened with, the usual one first. The usual one is used."""


def list_cameras(dev: Path = _DEV, sys_class: Path = _SYS) -> list[Device]:
    """List the cameras of a Linux machine. On other systems the list is empty, and cameras are given by name.

    Args:
        dev: where device files are.
        sys_class: where the kernel lists their names.
    """
    stable = {link.resolve(): link for link in sorted((dev / "v4l" / "by-id").glob("*")) if link.is_symlink()}
    cameras = []
    for node in sorted(dev.glob("video*"), key=lambda path: (len(path.name), path.name)):
        name_file = sys_class / node.name / "name"
        name = name_file.read_text(encoding="utf-8", errors="replace").strip() if name_file.is_file() else node.name
        link = stable.get(node.resolve())
        cameras.append(Device(id=str(link or node), name=name, default=node.name == "video0", formats=camera_formats(node)))
    return cameras


def find_camera(wanted: str, dev: Path = _DEV, sys_class: Path = _SYS) -> str:
    """Return the device file of a camera.

    Args:
        wanted: "0" for /dev/video0, a path, or part of a name, in small or capital letters.
        dev: where device files are.
        sys_class: where the kernel lists their names.

    Raises:
        CaptureError: when no camera fits, or several do.
    """
    if wanted.isdigit():
        return str(dev / f"video{wanted}")
    if "/" in wanted:
        return wanted
    cameras = list_cameras(dev, sys_class)
    fits = [camera for camera in cameras if wanted.lower() in camera.name.lower() or wanted.lower() in camera.id.lower()]
    if len({camera.name for camera in fits}) == 1:  # one camera may have several nodes; the first one gives pictures
        return fits[0].id
    listed = ", ".join(f"{camera.name} ({camera.id})" for camera in fits or cameras) or "none at all"
    msg = f"camera must name one device; {show_address(wanted)!r} fits {'several' if fits else 'none'} of: {listed}"
    raise CaptureError(msg)


def list_microphones() -> list[Device]:
    """List all devices that can record sound.

    Raises:
        CaptureError: when the PortAudio library is missing.
    """
    from streamav.capture.portaudio import load_sounddevice

    sounddevice = load_sounddevice()
    default = sounddevice.default.device[0]
    return [
        Device(
            id=info["name"],
            name=info["name"],
            default=number == default,
            channels=info["max_input_channels"],
            rates_hz=_rates(sounddevice, number, round(info["default_samplerate"])),
        )
        for number, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]


def _rates(sounddevice: ModuleType, number: int, usual_hz: int) -> tuple[int, ...]:
    """Return the sample rates that a device accepts, the usual one first. A device in use may accept none."""
    accepted = []
    for rate_hz in _RATES_HZ:
        try:
            sounddevice.check_input_settings(device=number, channels=1, samplerate=rate_hz)
        except (sounddevice.PortAudioError, ValueError):
            continue
        accepted.append(rate_hz)
    return (usual_hz, *(rate_hz for rate_hz in accepted if rate_hz != usual_hz))
