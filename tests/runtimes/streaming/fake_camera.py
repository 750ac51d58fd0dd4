"""Cameras that fail on purpose: a scripted source, a scripted connection, a scripted OpenCV capture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from vidprism_edge.runtimes.streaming.source import CountedSource, Frame
from vidprism_edge.runtimes.streaming.source_decode import Bad, Picture

PERIOD_NS = 40_000_000


def picture(number: int, size: tuple[int, int] = (8, 6)) -> np.ndarray:
    """Return uint8 [H, W, 3], another one for each number up to 2**24."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[...] = (number & 255, number >> 8 & 255, number >> 16 & 255)
    return image


class FakeSource(CountedSource):
    """Plays a script. An item is a time in ns (a good frame), a reason (a lost picture), an error to
    raise, or something to call, which may wait.
    """

    def __init__(
        self, script: Iterable[int | str | BaseException | Callable[[], object]], *, live: bool = False
    ):
        super().__init__("fake")
        self.live = live
        self.closed = threading.Event()
        self._script = iter(script)

    def read(self) -> Frame | None:
        for item in self._script:
            if self.closed.is_set():
                return None
            if isinstance(item, int):
                return self._frame(picture(self._index), item)
            if isinstance(item, str):
                self._lose(item)
            elif isinstance(item, BaseException):
                raise item
            else:
                item()
        return None

    def close(self) -> None:
        self.closed.set()


class FakeConnection:
    """Plays a script of pictures (by number), ``Bad``, errors and things to call; then it ends."""

    def __init__(self, script: Iterable[Any]) -> None:
        self._script = iter(script)
        self.closed = False

    def read(self) -> Picture | Bad | None:
        for item in self._script:
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, int):
                return Picture(picture(item), time.monotonic_ns())
            if isinstance(item, Bad):
                return item
            item()
        return None

    def close(self) -> None:
        self.closed = True


class FakeCapture:
    """What cv2.VideoCapture does, with a script: an array, None (empty picture), False (read fails) or
    something to call. At the script's end reads fail.
    """

    def __init__(self, script: Iterable[Any], *, fourcc: str = "YUYV", opened: bool = True) -> None:
        self._script = iter(script)
        self._fourcc = fourcc
        self._opened = opened
        self._now: Any = None
        self.settings: dict[int, float] = {}
        self.released = False

    def isOpened(self) -> bool:
        return self._opened

    def set(self, key: int, value: float) -> bool:
        self.settings[key] = value
        return True

    def get(self, key: int) -> float:
        import cv2

        return float(int.from_bytes(self._fourcc.encode(), "little")) if key == cv2.CAP_PROP_FOURCC else 0.0

    def getBackendName(self) -> str:
        return "V4L2"

    def grab(self) -> bool:
        for item in self._script:
            if callable(item):
                item()
                continue
            self._now = item
            return item is not False
        return False

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return True, self._now

    def release(self) -> None:
        self.released = True
