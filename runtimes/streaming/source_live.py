"""What every live source needs: a reader that cannot hang the program, a watchdog, and reconnection."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.picture import Pixels
from vidprism_edge.runtimes.streaming.source import CountedSource, Frame
from vidprism_edge.runtimes.streaming.source_decode import Bad, Picture

_log = logging.getLogger("vidprism_edge")

OPEN_TIMEOUT_S = 15.0
# first and longest pause between attempts to reconnect; each pause is twice the one before, half of it random
BACKOFF_S = (0.5, 30.0)
# readers stuck in a driver that are left behind at most, before attempts wait for one of them to return
MAX_STUCK = 3
MAX_FROZEN_S = 600.0
_CLOSE_S = 1.0


class Connection(Protocol):
    """One connection to a camera. It is opened, read and closed in one thread, where it may block."""

    def read(self) -> Picture | Bad | None:
        """Return the next picture, its time on the monotonic clock; None when the stream ended.

        Raises SourceError or OSError when the camera fails.
        """
        ...

    def close(self) -> None:
        """Release the camera."""
        ...


class _Opened:
    """Says that a connection stands."""


_Item = Picture | Bad | _Opened | BaseException | None


class _Reader(threading.Thread):
    """Opens and reads one connection; hands over one item at a time and can be left behind if it hangs."""

    def __init__(self, connect: Callable[[], Connection], name: str) -> None:
        super().__init__(name=f"vidprism-{name}", daemon=True)
        self._connect = connect
        self._changed = threading.Condition()
        self._items: list[_Item] = []  # empty, or the one item that was not taken yet
        self._left = False

    def run(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # handed to the source, whatever it is
            self._offer(error)
            return
        try:
            going = self._offer(_Opened())
            while going:
                item = connection.read()
                going = self._offer(item) and item is not None
        except BaseException as error:  # as above
            self._offer(error)
        finally:
            connection.close()

    def _offer(self, item: _Item) -> bool:
        """Wait until the item before was taken and put this one; False when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._left or not self._items)
            if not self._left:
                self._items.append(item)
                self._changed.notify_all()
            return not self._left

    def take(self, timeout_s: float) -> _Item:
        """Return the next item. Raises TimeoutError when there is none in time or the reader was left."""
        with self._changed:
            self._changed.wait_for(lambda: self._left or self._items, timeout_s)
            if self._left or not self._items:
                raise TimeoutError
            item = self._items.pop()
            self._changed.notify_all()
            return item

    def leave(self) -> None:
        """Let the thread end when it comes back from the driver, and wake whoever waits in take()."""
        with self._changed:
            self._left = True
            self._items.clear()
            self._changed.notify_all()


class LiveSource(CountedSource):
    """A camera that is read in a thread of its own, watched, and connected anew when it fails.

    Connecting again happens when no good frame came for ``stall_timeout_s`` (``events["stalled"]``), the
    stream ended (``"ended"``), the camera reported an error (``"errors"``), or the picture was bit-identical
    for longer than the stall timeout (``"frozen"``; that time doubles, up to 10 minutes, for as long as a
    new connection brings the same picture, which is then a lens cap and no failure). The first frame after
    it carries reset ``"reconnect"``. ``max_reconnects`` failed attempts in a row end it with a SourceError;
    None tries for ever. The first connection must succeed and give a picture: SourceError otherwise.

    Timestamps are on the clock of :func:`time.monotonic_ns` and strictly increasing, over reconnections too.
    """

    live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        *,
        stall_timeout_s: float = 20.0,
        max_reconnects: int | None = None,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        backoff_s: tuple[float, float] = BACKOFF_S,
    ) -> None:
        super().__init__(name)
        self._connect = connect
        self._stall_s = stall_timeout_s
        self._max_reconnects = max_reconnects
        self._open_s = open_timeout_s
        self._backoff_s = backoff_s
        self._frozen = _FrozenWatch(stall_timeout_s)
        self._jitter = random.Random()
        self._closed = threading.Event()
        self._failures = 0
        self._last_ns = -1
        self._stuck: list[_Reader] = []
        self._reader = self._open()

    def _open(self) -> _Reader:
        """Start a reader and wait until it is connected. Raises SourceError."""
        reader = _Reader(self._connect, self.name)
        reader.start()
        self._reader = reader
        if self._closed.is_set():
            reader.leave()
        try:
            item = reader.take(self._open_s)
        except TimeoutError:
            self._leave(reader)
            raise SourceError(
                f"{self.name} did not answer within {self._open_s:g} s; check that it is on and reachable"
            ) from None
        if isinstance(item, OSError):
            raise SourceError(f"{self.name} cannot be opened ({item}); check that it is there") from item
        if isinstance(item, BaseException):
            raise item
        return reader

    def read(self) -> Frame | None:
        """Return the next good frame, connecting anew as often as it takes; None once closed."""
        while not self._closed.is_set():
            frame = self._watch()
            if frame is not None:
                return frame
        return None

    def _watch(self) -> Frame | None:
        """Return one good frame; after a failure connect anew and return None."""
        deadline = time.monotonic() + self._stall_s
        while not self._closed.is_set():
            try:
                item = self._reader.take(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                self._fail("stalled", f"no good frame for {self._stall_s:g} s")
                return None
            if isinstance(item, Bad):
                self._lose(item.reason)
                if time.monotonic() > deadline:
                    self._fail("stalled", f"nothing but damaged frames for {self._stall_s:g} s")
                    return None
            elif isinstance(item, Picture):
                if not self._frozen.check(_grey(item.pixels), time.monotonic()):
                    return self._good(item)
                self._lose("frozen")
                self._fail("frozen", "the picture does not change by one bit")
                return None
            elif isinstance(item, SourceError | OSError):
                self._fail("errors", str(item))
                return None
            elif isinstance(item, BaseException):
                raise item
            else:
                self._fail("ended", "the stream ended")
                return None
        return None

    def _good(self, picture: Picture) -> Frame:
        self._failures = 0
        now = time.monotonic_ns() if picture.t_ns is None else picture.t_ns
        self._last_ns = max(now, self._last_ns + 1)
        return self._frame(picture.pixels, self._last_ns)

    def _fail(self, event: str, why: str) -> None:
        """Count a failure and connect anew. Raises SourceError when it is time to give up."""
        self._leave(self._reader)
        if self._closed.is_set():
            return
        self._happened(event)
        if self._last_ns < 0:
            raise SourceError(f"{self.name} opened and gave no picture: {why}; is another program using it?")
        _log.warning("%s: %s; connecting again", self.name, why)
        while not self._closed.is_set():
            if self._max_reconnects is not None and self._failures >= self._max_reconnects:
                raise SourceError(f"{self.name}: {why}; gave up after {self._failures} attempts to reconnect")
            self._closed.wait(self._pause_s())
            self._failures += 1
            self._stuck = [reader for reader in self._stuck if reader.is_alive()]
            if len(self._stuck) >= MAX_STUCK:
                why = "its driver hangs"
                continue
            try:
                self._reader = self._open()
            except SourceError as error:
                why = str(error)
                self._happened("failed_attempts")
                continue
            self._happened("reconnects")
            self._reset = "reconnect"
            return

    def _pause_s(self) -> float:
        first, longest = self._backoff_s
        # the exponent is bounded because a camera may be away for weeks
        return min(longest, first * 2 ** min(self._failures, 32)) * self._jitter.uniform(0.5, 1.0)

    def _leave(self, reader: _Reader) -> None:
        reader.leave()
        if reader.is_alive():
            self._stuck.append(reader)

    def close(self) -> None:
        """Stop; a waiting read() returns None. A driver that hangs is left behind after a second."""
        self._closed.set()
        reader = self._reader
        reader.leave()
        if reader is not threading.current_thread():
            reader.join(_CLOSE_S)


def _grey(pixels: Pixels) -> np.ndarray:
    """The part of a picture in which a sensor's noise shows."""
    return pixels if isinstance(pixels, np.ndarray) else pixels.luma


class _FrozenWatch:
    """Notices a picture that stays bit-identical, which no sensor with its noise does.

    It compares every 16th pixel, which differs for nearly every frame, and all of them only when those are
    equal. It keeps copies, because whoever gets a frame may draw on it.
    """

    def __init__(self, limit_s: float) -> None:
        self._base_s = self._limit_s = limit_s
        self._coarse: np.ndarray | None = None
        self._whole: np.ndarray | None = None
        self._since_s = 0.0

    def check(self, image: np.ndarray, now_s: float) -> bool:
        """Return whether the picture has now been the same for too long; the limit then doubles."""
        coarse = image[::16, ::16]
        if self._coarse is None or not np.array_equal(coarse, self._coarse):
            self._coarse, self._whole = coarse.copy(), None
            self._limit_s = self._base_s
        elif self._whole is None or not np.array_equal(image, self._whole):
            if self._whole is not None:
                self._limit_s = self._base_s
            self._whole, self._since_s = image.copy(), now_s
        elif now_s - self._since_s > self._limit_s:
            self._since_s = now_s
            self._limit_s = min(2 * self._limit_s, max(MAX_FROZEN_S, self._base_s))
            return True
        return False
