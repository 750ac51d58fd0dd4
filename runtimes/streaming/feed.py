"""From a source to its consumer: a bounded slot in which the latest frame wins, every drop counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from vidprism_edge.runtimes.streaming.source import Frame, Source

DropPolicy = Literal["wait", "drop-oldest"]
Pace = Literal["realtime", "fast"]

_log = logging.getLogger("vidprism_edge")
# A hole in a file's timestamps longer than this is not waited out when it is paced.
_MAX_PACED_GAP_NS = 10 * 10**9
_JOIN_S = 5.0


class FeedCounts:
    """What became of each picture that was read: ``read == delivered + sum(dropped.values())``.

    Reasons: ``overrun`` (a newer frame took its place), ``stale`` (too old when it was its turn),
    ``corrupt`` (and whatever else the source lost), ``timestamp`` (refused by the sampler), ``closed``
    (read, and not delivered yet when the feed was closed). While the feed runs, one frame may wait.
    Safe to read and to change from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read = 0
        self._delivered = 0
        self._dropped: dict[str, int] = {}

    @property
    def read(self) -> int:
        """Pictures that came from the source, the damaged ones included."""
        with self._lock:
            return self._read

    @property
    def delivered(self) -> int:
        """Pictures that the consumer got and kept."""
        with self._lock:
            return self._delivered

    @property
    def dropped(self) -> dict[str, int]:
        """A copy of the number of dropped pictures by reason."""
        with self._lock:
            return dict(self._dropped)

    @property
    def waiting(self) -> int:
        """Pictures read that are neither delivered nor dropped yet."""
        with self._lock:
            return self._read - self._delivered - sum(self._dropped.values())

    def drop(self, reason: str) -> None:
        """Move one delivered frame to the dropped ones: its consumer refused it."""
        with self._lock:
            if self._delivered <= 0:
                raise ValueError(f"no delivered frame to drop as {reason!r}; drop() follows a delivery")
            self._delivered -= 1
            self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def as_dict(self) -> dict[str, object]:
        """Return all counts as plain values, for a report."""
        with self._lock:
            return {"read": self._read, "delivered": self._delivered, "dropped": dict(self._dropped)}

    def _arrive(self, lost: dict[str, int]) -> None:
        """Count one frame read, and ``lost`` pictures that were read and dropped before it."""
        with self._lock:
            self._read += 1
        self._lose(lost)

    def _lose(self, lost: dict[str, int]) -> None:
        with self._lock:
            for reason, number in lost.items():
                self._read += number
                self._dropped[reason] = self._dropped.get(reason, 0) + number

    def _deliver(self) -> None:
        with self._lock:
            self._delivered += 1

    def _discard(self, reason: str) -> None:
        """Drop a frame that was counted as read and not yet delivered."""
        with self._lock:
            self._dropped[reason] = self._dropped.get(reason, 0) + 1


class _Waiting(NamedTuple):
    frame: Frame
    due_ns: int | None  # on the feed's clock: when the frame was new; None where age means nothing


class Feed(Iterator[Frame]):
    """Iterates over the frames of ``source``; a context manager that closes it.

    ``drop_policy``: ``"wait"`` reads the source in the consumer's thread, nothing is dropped for being
    slow; ``"drop-oldest"`` reads it in a thread of its own into a slot of one frame, where the latest frame
    wins (so the delay never grows); None takes ``drop-oldest`` for live sources and ``wait`` for files.
    ``pace``: a source that is not live is read as fast as possible, or in real time by its timestamps.
    ``max_frame_age_s``: older frames are dropped as stale, where age means something: live sources, and
    paced files under ``drop-oldest``. ``clock``: nanoseconds, monotonic. ``on_change`` is called from the feed's own
    thread when a frame has come, and at the end. ``delay_s``: how long a thread of the feed's own waits before it
    reads.

    A dropped frame's ``reset`` passes to the next one that is delivered, so no window bridges a gap
    unseen. Errors of the source are raised to the consumer, once the frames before them were delivered.
    """

    def __init__(
        self,
        source: Source,
        *,
        drop_policy: DropPolicy | None = None,
        pace: Pace = "fast",
        max_frame_age_s: float = 2.0,
        clock: Callable[[], int] = time.monotonic_ns,
        on_change: Callable[[], None] = lambda: None,
        delay_s: float = 0.0,
    ) -> None:
        if drop_policy not in (None, "wait", "drop-oldest"):
            raise ValueError(f"drop policy {drop_policy!r}; expected 'wait' or 'drop-oldest'")
        if pace not in ("realtime", "fast"):
            raise ValueError(f"pace {pace!r}; expected 'realtime' or 'fast'")
        if not max_frame_age_s > 0:
            raise ValueError(f"max_frame_age_s is {max_frame_age_s}; expected more than 0 seconds")
        self.source = source
        self.drop_policy: DropPolicy = drop_policy or ("drop-oldest" if source.live else "wait")
        self.counts = FeedCounts()
        self._clock, self._on_change, self.delay_s = clock, on_change, delay_s
        #: When the last delivered frame was new, on the feed's clock; None where age means nothing.
        self.due_ns: int | None = None
        self._max_age_ns = int(max_frame_age_s * 1e9)
        self._pacer = _Pacer(clock) if pace == "realtime" and not source.live else None
        self._lost_seen: dict[str, int] = {}
        self._reset: str | None = None
        self._stop = threading.Event()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        self._slot: _Waiting | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        if self.drop_policy == "drop-oldest":
            self._thread = threading.Thread(target=self._fill, name="vidprism-feed", daemon=True)
            self._thread.start()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Frame:
        while not self._closed:
            waiting = self._take()
            if waiting is None:
                break
            frame, due_ns = waiting
            reset = self._reset or frame.reset
            if due_ns is not None and self._clock() - due_ns > self._max_age_ns:
                self._reset = reset
                self.counts._discard("stale")
                continue
            self._reset, self.due_ns = None, due_ns
            self.counts._deliver()
            return frame if reset == frame.reset else Frame(frame.pixels, frame.t_ns, frame.index, reset)
        raise StopIteration

    @property
    def is_ready(self) -> bool:
        """Whether ``next`` would give a frame, or the end, without waiting for a camera."""
        if self._thread is None:
            return True
        with self._changed:
            return self._slot is not None or self._ended

    def _take(self) -> _Waiting | None:
        """Return the next frame for the consumer, waiting for it; None at the end."""
        if self._thread is None:
            return self._read()
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._ended)
            waiting, self._slot = self._slot, None
            if waiting is None and self._error is not None:
                error, self._error = self._error, None
                raise error
            return waiting

    def _read(self) -> _Waiting | None:
        """Read one frame from the source, counting it and what the source lost on the way."""
        try:
            frame = self.source.read()
        finally:
            lost = self._newly_lost()
            self.counts._lose(lost)
        if frame is None:
            return None
        self.counts._arrive({})
        if self._pacer is None:
            return _Waiting(frame, frame.t_ns if self.source.live else None)
        due_ns = self._pacer.wait(frame.t_ns, self._stop)
        return _Waiting(frame, due_ns if self.drop_policy == "drop-oldest" else None)

    def _newly_lost(self) -> dict[str, int]:
        now = dict(getattr(self.source, "lost", {}))
        lost = {reason: number - self._lost_seen.get(reason, 0) for reason, number in now.items()}
        self._lost_seen = now
        return lost

    def _fill(self) -> None:
        """Keep the slot filled with the latest frame: the feed's own thread."""
        try:
            self._stop.wait(self.delay_s)
            while not self._stop.is_set():
                waiting = self._read()
                if waiting is None:
                    break
                self._put(waiting)
        except BaseException as error:  # handed to the consumer, whatever it is
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._on_change()

    def _put(self, waiting: _Waiting) -> None:
        with self._changed:
            if self._slot is not None:
                old = self._slot.frame
                self.counts._discard("overrun")
                if old.reset and not waiting.frame.reset:
                    new = waiting.frame
                    waiting = _Waiting(Frame(new.pixels, new.t_ns, new.index, old.reset), waiting.due_ns)
            self._slot = waiting
            self._changed.notify_all()
        self._on_change()

    def close(self) -> None:
        """Stop reading, close the source and check the counts. Callable twice."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        self.source.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                _log.warning(
                    "%s: its reader did not end in %g s and is left behind", self.source.name, _JOIN_S
                )
        with self._changed:
            self._slot = None
            self._ended = True
            self._changed.notify_all()
        if self._thread is None or not self._thread.is_alive():
            left = self.counts.waiting
            # one frame in the slot, or in hand when an interrupt came; everything else is a bug
            assert 0 <= left <= 1, f"feed counts do not add up: {self.counts.as_dict()}"
            if left:
                self.counts._discard("closed")


class _Pacer:
    """Holds frames back until their time: the first one is due at once, the rest by their timestamps."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._offset_ns: int | None = None
        self._last_ns = 0

    def wait(self, t_ns: int, stop: threading.Event) -> int:
        """Wait until the frame of ``t_ns`` is due, or ``stop``; return when it was due, in clock ns."""
        now = self._clock()
        step = t_ns - self._last_ns
        self._last_ns = t_ns
        if self._offset_ns is None or not 0 <= step <= _MAX_PACED_GAP_NS:
            self._offset_ns = now - t_ns  # the start, a step back or a hole: go on from here
        due = t_ns + self._offset_ns
        if due > now:
            stop.wait((due - now) / 1e9)
        return due
