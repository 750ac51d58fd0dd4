"""Local cameras: OpenCV's capture is replaced by one that follows a script, /dev by a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.runtimes.streaming.fake_camera import FakeCapture, picture
from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.feed import Feed
from vidprism_edge.runtimes.streaming.source import open_source
from vidprism_edge.runtimes.streaming.source_camera import Devices, open_camera
from vidprism_edge.runtimes.streaming.source_live import LiveSource

FAST = (0.005, 0.02)
GOOD = [picture(1), picture(2), picture(3)]


def wait() -> None:
    time.sleep(0.3)


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    """A system with one camera, video0, called "Desk camera"."""
    there = Devices(tmp_path / "dev", tmp_path / "sys")
    (there.dev / "v4l" / "by-id").mkdir(parents=True)
    there.sys.mkdir()
    plug(there, 0, "Desk camera")
    return there


def plug(devices: Devices, number: int, name: str, link: str | None = None) -> None:
    (devices.dev / f"video{number}").touch()
    (devices.sys / f"video{number}").mkdir()
    (devices.sys / f"video{number}" / "name").write_text(name + "\n")
    if link:
        (devices.dev / "v4l" / "by-id" / link).symlink_to(devices.dev / f"video{number}")


def unplug(devices: Devices, number: int, link: str | None = None) -> None:
    (devices.dev / f"video{number}").unlink()
    (devices.sys / f"video{number}" / "name").unlink()
    (devices.sys / f"video{number}").rmdir()
    if link:
        (devices.dev / "v4l" / "by-id" / link).unlink()


def camera(
    devices: Devices, *captures: FakeCapture, opened: list[str] | None = None, **options: Any
) -> LiveSource:
    """Open camera 0; the n-th time that a device is opened it is the n-th capture."""
    these = iter(captures)

    def capture(place: str) -> FakeCapture:
        if opened is not None:
            opened.append(Path(place).name)
        return next(these)

    return open_camera("0", devices=devices, capture=capture, backoff_s=FAST, **options)


def test_frames_of_a_webcam(devices: Devices) -> None:
    capture = FakeCapture([*GOOD, wait])
    before = time.monotonic_ns()
    source = camera(devices, capture)
    frames = [source.read() for _ in range(3)]
    source.close()
    assert [int(frame.image[0, 0, 0]) for frame in frames if frame] == [1, 2, 3]
    assert all(frame and before < frame.t_ns <= time.monotonic_ns() for frame in frames)
    assert capture.settings[cv2.CAP_PROP_BUFFERSIZE] == 1
    assert capture.released


def test_no_camera_is_one_line_that_names_those_there_are(devices: Devices) -> None:
    plug(devices, 2, "Door camera")
    with pytest.raises(SourceError) as caught:
        open_camera("1", devices=devices, capture=lambda _: FakeCapture([]))
    assert str(caught.value) == (
        f"camera {devices.dev}/video1 is not there; cameras on this machine: "
        f"{devices.dev}/video0 (Desk camera), {devices.dev}/video2 (Door camera); "
        "a video file or an rtsp:// address serves as well"
    )


@pytest.mark.skipif(Path("/dev/video93").exists(), reason="this machine has a camera with that number")
def test_no_camera_on_this_machine() -> None:
    for name in ("93", "/dev/video93"):
        with pytest.raises(SourceError, match="camera /dev/video93 is not there; cameras on this machine: "):
            open_source(name)


def test_a_camera_in_use_is_one_line(devices: Devices) -> None:
    capture = FakeCapture([], opened=False)
    with pytest.raises(SourceError, match=r"video0 cannot be opened; another program may be using it"):
        camera(devices, capture)
    assert capture.released


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_camera_without_permission_is_one_line(devices: Devices) -> None:
    (devices.dev / "video0").chmod(0)
    with pytest.raises(SourceError, match="may not be opened"):
        camera(devices, FakeCapture([]))


def test_empty_pictures_that_claim_success_are_counted_exactly(devices: Devices) -> None:
    script = [picture(1), None, np.zeros((0, 0, 3), np.uint8), picture(2), None, picture(3), False]
    source = camera(devices, FakeCapture(script), max_reconnects=0)
    with pytest.raises(SourceError, match="gives no more frames"), Feed(source, drop_policy="wait") as feed:
        frames = []
        for frame in feed:
            frames.append((frame.index, frame.reset))
    assert frames == [(0, None), (3, "corrupt"), (5, "corrupt")]
    assert feed.counts.as_dict() == {"read": 6, "delivered": 3, "dropped": {"corrupt": 3}}


def test_a_failing_read_connects_again(devices: Devices) -> None:
    first, second = FakeCapture([picture(1), False]), FakeCapture([picture(2), wait])
    source = camera(devices, first, second)
    frames = [source.read() for _ in range(2)]
    source.close()
    assert [frame and frame.reset for frame in frames] == [None, "reconnect"]
    assert first.released
    assert source.events == {"errors": 1, "reconnects": 1}


def test_a_read_that_never_returns_does_not_hang_the_program(devices: Devices) -> None:
    hanging = FakeCapture([picture(1), lambda: time.sleep(60)])
    source = camera(devices, hanging, FakeCapture([picture(2), wait]), stall_timeout_s=0.5)
    start = time.monotonic()
    frames = [source.read() for _ in range(2)]
    source.close()
    assert time.monotonic() - start < 8
    assert [frame and frame.reset for frame in frames] == [None, "reconnect"]
    assert source.events == {"stalled": 1, "reconnects": 1}


def test_the_same_picture_for_ever_is_frozen(devices: Devices) -> None:
    def frozen() -> Iterable[Any]:
        while True:
            yield picture(9)
            yield lambda: time.sleep(0.01)

    source = camera(devices, FakeCapture(frozen()), FakeCapture([picture(1), wait]), stall_timeout_s=0.5)
    while (frame := source.read()) and not frame.reset:
        pass
    source.close()
    assert source.events == {"frozen": 1, "reconnects": 1}
    assert source.lost == {"frozen": 1}


@pytest.mark.parametrize("link", ["usb-Desk_camera_1234-video-index0", None])
def test_a_camera_with_a_new_number_after_replugging_is_found(devices: Devices, link: str | None) -> None:
    """By its serial number where the system makes such links, by its name elsewhere; another camera has
    meanwhile got the old number.
    """
    if link:
        (devices.dev / "v4l" / "by-id" / link).symlink_to(devices.dev / "video0")
    opened: list[str] = []

    def replug() -> None:
        unplug(devices, 0, link)
        plug(devices, 0, "Another camera")
        plug(devices, 2, "Desk camera", link)

    first, second = FakeCapture([picture(1), replug, False]), FakeCapture([picture(2), wait])
    source = camera(devices, first, second, opened=opened)
    frames = [source.read() for _ in range(2)]
    source.close()
    assert [frame and frame.reset for frame in frames] == [None, "reconnect"]
    assert opened == ["video0", "video2"]


def test_an_unplugged_camera_is_waited_for(devices: Devices) -> None:
    polls = []
    original = Devices.listed

    class Watched(Devices):
        def listed(self) -> list[str]:
            polls.append(1)
            if len(polls) == 3:
                plug(self, 0, "Desk camera")
            return original(self)

    watched = Watched(devices.dev, devices.sys)
    first = FakeCapture([picture(1), lambda: unplug(devices, 0), False])
    source = camera(watched, first, FakeCapture([picture(2), wait]))
    frames = [source.read() for _ in range(2)]
    source.close()
    assert [frame and frame.reset for frame in frames] == [None, "reconnect"]
    assert source.events == {"errors": 1, "failed_attempts": 3, "reconnects": 1}


def jpeg(number: int, change: Callable[[bytes], bytes] = lambda data: data) -> np.ndarray:
    """Return a compressed picture as V4L2 gives it: uint8 [1, bytes]."""
    noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return np.frombuffer(change(cv2.imencode(".jpg", noise)[1].tobytes()), np.uint8)[None]


def test_partial_jpeg_pictures_are_counted_exactly(devices: Devices) -> None:
    """Two without their second half, one of zeros only; one with stale bytes after its end is whole."""
    script = [
        jpeg(1),
        jpeg(2, lambda data: data[: len(data) // 2]),
        jpeg(3, lambda data: data + bytes(100)),
        jpeg(4, lambda data: data[: len(data) * 3 // 4]),
        jpeg(5, lambda data: bytes(len(data))),
        jpeg(6),
        False,
    ]
    capture = FakeCapture(script, fourcc="MJPG")
    source = camera(devices, capture, max_reconnects=0)
    frames = []
    with pytest.raises(SourceError), Feed(source, drop_policy="wait") as feed:
        for frame in feed:
            frames.append((frame.index, frame.reset))
            assert frame.image.shape == (48, 64, 3)
    assert capture.settings[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert frames == [(0, None), (2, "corrupt"), (5, "corrupt")]
    assert feed.counts.as_dict() == {"read": 6, "delivered": 3, "dropped": {"corrupt": 3}}


def test_a_camera_that_never_ends_its_jpeg_pictures_is_usable(devices: Devices) -> None:
    script = [jpeg(k, lambda data: data[:-2]) for k in range(4)]
    source = camera(devices, FakeCapture([*script, False], fourcc="MJPG"), max_reconnects=0)
    frames = [source.read() for _ in range(4)]
    source.close()
    assert all(frames)
    assert source.lost == {}


def test_grey_cameras_give_bgr(devices: Devices) -> None:
    source = camera(
        devices, FakeCapture([np.full((6, 8), 77, np.uint8), np.full((6, 8, 1), 78, np.uint8), wait])
    )
    frames = [source.read() for _ in range(2)]
    source.close()
    assert [frame and frame.image.shape for frame in frames] == [(6, 8, 3)] * 2
    assert [frame and frame.image[0, 0].tolist() for frame in frames] == [[77] * 3, [78] * 3]


def test_an_error_of_opencv_connects_again(devices: Devices) -> None:
    def fail() -> None:
        raise cv2.error("select() timeout")

    source = camera(devices, FakeCapture([picture(1), fail]), FakeCapture([picture(2), wait]))
    frames = [source.read() for _ in range(2)]
    source.close()
    assert [frame and frame.reset for frame in frames] == [None, "reconnect"]
    assert source.events == {"errors": 1, "reconnects": 1}
