from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamav.capture.camera import Camera
from streamav.capture.devices import find_camera, list_cameras
from streamav.clock import SystemClock
from streamav.errors import CaptureError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """Two cameras, one of them with two nodes and a stable link, as Linux lists them."""
    dev, sys_class = tmp_path / "dev", tmp_path / "sys"
    (dev / "v4l" / "by-id").mkdir(parents=True)
    for node, name in (("video0", "Integrated Camera"), ("video2", "HD Webcam C270"), ("video10", "HD Webcam C270")):
        (dev / node).touch()
        (sys_class / node).mkdir(parents=True)
        (sys_class / node / "name").write_text(name + "\n")
    (dev / "v4l" / "by-id" / "usb-046d_C270-video-index0").symlink_to(dev / "video2")
    return dev, sys_class


def test_cameras_are_listed_with_the_name_that_stays(machine: tuple[Path, Path]) -> None:
    """A camera is listed by its stable link where there is one, and video10 comes after video2."""
    dev, _ = machine
    assert [(camera.name, camera.id) for camera in list_cameras(*machine)] == [
        ("Integrated Camera", str(dev / "video0")),
        ("HD Webcam C270", str(dev / "v4l/by-id/usb-046d_C270-video-index0")),
        ("HD Webcam C270", str(dev / "video10")),
    ]


def test_a_camera_is_found_by_number_path_or_name(machine: tuple[Path, Path]) -> None:
    """0, a path, and part of a name in any case all give a device file."""
    dev, _ = machine
    assert find_camera("0", *machine) == str(dev / "video0")
    assert find_camera("/dev/v4l/by-id/x", *machine) == "/dev/v4l/by-id/x"
    assert find_camera("webcam", *machine) == str(dev / "v4l/by-id/usb-046d_C270-video-index0")


@pytest.mark.parametrize(("wanted", "reason"), [("cam", "several"), ("doorbell", "none of: Integrated Camera")])
def test_a_name_that_fits_several_or_none_is_refused(machine: tuple[Path, Path], wanted: str, reason: str) -> None:
    """The error lists the cameras that fit, or all cameras."""
    with pytest.raises(CaptureError, match=reason):
        find_camera(wanted, *machine)


def test_a_camera_that_is_not_there_is_refused() -> None:
    """The error for a missing device names the command that lists the devices."""
    with pytest.raises(CaptureError, match="streamav devices"):
        Camera("/dev/video99", SystemClock()).open()
