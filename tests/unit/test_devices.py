from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from streamav.capture.camera import Camera
from streamav.capture.devices import find_camera, list_cameras
from streamav.capture.v4l2 import CameraFormat, camera_formats
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


def driver(file: int, request: int, data: bytearray) -> object:
    """Answer as a driver of the kernel: MJPEG in two sizes with two rates, and one raw format with a range of sizes and rates."""
    mjpg, yuyv = (int.from_bytes(letters, "little") for letters in (b"MJPG", b"YUYV"))
    values = list(struct.unpack_from(f"={len(data) // 4}I", data))
    index, answer = values[0], None
    if request == 0xC040_5602 and index < 2:  # VIDIOC_ENUM_FMT
        values[11] = (mjpg, yuyv)[index]
        answer = values
    if request == 0xC02C_564A:  # VIDIOC_ENUM_FRAMESIZES
        if values[1] == mjpg and index < 2:
            answer = [*values[:2], 1, *((1280, 720), (640, 480))[index], *values[5:]]
        if values[1] == yuyv and index == 0:
            answer = [*values[:2], 3, 32, 1920, 2, 32, 1080, 2, *values[9:]]
    if request == 0xC034_564B:  # VIDIOC_ENUM_FRAMEINTERVALS
        if values[1] == mjpg and index < 2:
            answer = [*values[:4], 1, *((1, 30), (2, 15))[index], *values[7:]]
        if values[1] == yuyv and index == 0:
            answer = [*values[:4], 3, 1001, 60_000, *values[7:]]
    if answer is None:
        raise OSError(errno.EINVAL, "Invalid argument")
    struct.pack_into(f"={len(answer)}I", data, 0, *answer)
    return 0


def test_what_a_camera_can_send_is_listed(tmp_path: Path) -> None:
    """Formats in the words of `camera_format`, sizes and rates, from the kernel's own structures; a range gives its largest value."""
    node = tmp_path / "video0"
    node.touch()
    assert camera_formats(node, driver) == (
        CameraFormat(format="mjpeg", size="1280x720", rates=(30.0, 7.5)),
        CameraFormat(format="mjpeg", size="640x480", rates=(30.0, 7.5)),
        CameraFormat(format="yuyv422", size="1920x1080", rates=(59.94,)),
    )
    assert camera_formats(tmp_path / "video9", driver) == ()
    assert camera_formats(node) == ()  # no camera: the real call refuses it
