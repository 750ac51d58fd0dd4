"""Local cameras through OpenCV."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.source_decode import Bad, Picture
from vidprism_edge.runtimes.streaming.source_live import BACKOFF_S, LiveSource

_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class Devices:
    """The video devices of a Linux system: where their nodes, stable links and names are."""

    dev: Path = Path("/dev")
    sys: Path = Path("/sys/class/video4linux")

    def listed(self) -> list[str]:
        """Return the cameras there are, ``"/dev/video0 (name)"``, for a message."""
        nodes = sorted(self.dev.glob("video[0-9]*"), key=lambda node: int(node.name[5:] or 0))
        return [f"{node} ({name})" if (name := self.name(node)) else str(node) for node in nodes]

    def name(self, node: Path) -> str:
        """Return the driver's name of a camera, or ``""``."""
        with contextlib.suppress(OSError):
            return (self.sys / node.name / "name").read_text().strip()
        return ""

    def link(self, node: Path) -> Path | None:
        """Return the link by serial number that leads to ``node``, if the system makes such links."""
        links = sorted((self.dev / "v4l" / "by-id").glob("*"))
        return next((link for link in links if link.resolve() == node.resolve()), None)

    def named(self, name: str) -> Path | None:
        """Return the first camera whose driver's name is ``name``."""
        nodes = sorted(self.sys.glob("video[0-9]*"), key=lambda node: int(node.name[5:]))
        return next((self.dev / n.name for n in nodes if name and self.name(n) == name), None)


class _Place:
    """Which device node a camera has now: it may get another number when it is plugged in again."""

    def __init__(self, source: str, devices: Devices) -> None:
        self._asked = devices.dev / f"video{int(source)}" if source.isdigit() else Path(source)
        self._devices = devices
        self._link: Path | None = None
        self._name = ""

    def find(self) -> Path:
        """Return the node to open. Raises SourceError naming the cameras there are."""
        node = self._asked
        if self._link is not None:
            node = self._link  # surer than the number, which another camera may have taken
        elif self._name and self._devices.name(node) != self._name:
            node = self._devices.named(self._name) or node
        if not node.exists():
            there = ", ".join(self._devices.listed()) or "none"
            raise SourceError(
                f"camera {self._asked} is not there; cameras on this machine: {there}; "
                "a video file or an rtsp:// address serves as well"
            )
        if not os.access(node, os.R_OK | os.W_OK):
            raise SourceError(
                f"camera {node} may not be opened; add the user to the group that owns it (video)"
            )
        return node

    def remember(self, node: Path) -> None:
        """Note how to find the camera again, once it has been opened at ``node``."""
        real = node.resolve()
        self._link = self._link or self._devices.link(real)
        self._name = self._name or self._devices.name(real)


class CameraConnection:
    """One opened camera. A frame's time is the monotonic clock right after the driver handed it over.

    Where the camera sends JPEG, the compressed picture is taken and decoded here, because a picture whose
    end is missing decodes without an error, with a grey rest: it is ``Bad("corrupt")``.
    """

    def __init__(self, capture: Any, name: str) -> None:
        import cv2

        self._cv2 = cv2
        self._name = name
        if not capture.isOpened():
            capture.release()
            raise SourceError(f"camera {name} cannot be opened; another program may be using it")
        self._capture = capture
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._jpeg_ends = False  # whether this camera ends its JPEG pictures at all: some never do
        if _fourcc(capture.get(cv2.CAP_PROP_FOURCC)) == "MJPG" and capture.getBackendName() == "V4L2":
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)

    def read(self) -> Picture | Bad:
        """Return the next picture. Raises SourceError when the camera gives none."""
        cv2 = self._cv2
        try:
            grabbed = self._capture.grab()
            now_ns = time.monotonic_ns()
            if not grabbed:
                raise SourceError(f"camera {self._name} gives no more frames; is it still plugged in?")
            got, image = self._capture.retrieve()
            if not got or image is None or image.size == 0:
                return Bad("corrupt")
            if image.ndim < 3 and min(image.shape) == image.size // max(image.shape) == 1:
                return self._decode(image, now_ns)
            if image.ndim == 2 or image.shape[2] == 1:
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        except cv2.error as error:
            raise SourceError(f"camera {self._name} failed ({str(error).splitlines()[0]})") from error
        return Picture(image, now_ns) if image.shape[2] == 3 else Bad("corrupt")

    def _decode(self, jpeg: np.ndarray, now_ns: int) -> Picture | Bad:
        ends = jpeg.tobytes().rfind(_JPEG_END) >= 0
        self._jpeg_ends |= ends
        if self._jpeg_ends and not ends:
            return Bad("corrupt")
        whole = jpeg.reshape(-1) if ends else np.append(jpeg, np.frombuffer(_JPEG_END, np.uint8))
        image = self._cv2.imdecode(whole, self._cv2.IMREAD_COLOR)
        return Bad("corrupt") if image is None else Picture(image, now_ns)

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


def _fourcc(value: float) -> str:
    return int(value).to_bytes(4, "little", signed=False).decode("latin-1") if value > 0 else ""


def _capture(place: str) -> Any:
    import cv2

    with contextlib.suppress(AttributeError):  # OpenCV's own warnings would break our one line
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    if _is_linux():
        return cv2.VideoCapture(place, cv2.CAP_V4L2)
    return cv2.VideoCapture(int(place))


def open_camera(
    source: str,
    *,
    stall_timeout_s: float = 20.0,
    max_reconnects: int | None = None,
    devices: Devices | None = None,
    capture: Callable[[str], Any] = _capture,
    backoff_s: tuple[float, float] = BACKOFF_S,
    **_: object,
) -> LiveSource:
    """Open the camera with this number or device node. Raises SourceError when it is not there."""
    place = _Place(source, devices or Devices())

    def connect() -> CameraConnection:
        if devices is None and not _is_linux():  # there OpenCV numbers the cameras, and nothing else does
            return CameraConnection(capture(source), source)
        node = place.find()
        connection = CameraConnection(capture(str(node.resolve())), str(node))
        place.remember(node)
        return connection

    return LiveSource(
        f"camera {source}",
        connect,
        stall_timeout_s=stall_timeout_s,
        max_reconnects=max_reconnects,
        backoff_s=backoff_s,
    )


def _is_linux() -> bool:
    return sys.platform.startswith("linux")
