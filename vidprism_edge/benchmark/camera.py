"""A source that plays a camera: pictures become available in real time, whether somebody is ready for them or not."""

from __future__ import annotations

import threading
import time
from collections import deque

from vidprism_edge.runtimes.streaming.source import CountedSource, Frame, Source
from vidprism_edge.runtimes.streaming.source_synthetic import DEFAULT_RATE


class PacedCamera(CountedSource):
    """A live source made of another one. Frame k is captured at start + k periods and decoded after that.

    The timestamps are those of the captures, on the monotonic clock, whatever the reader does: an age counts from
    there. Captures that pass while a picture is decoded are lost as ``"decoder"``.
    """

    live = True

    def __init__(self, source: Source) -> None:
        period = source.period_ns or round(1e9 / DEFAULT_RATE)
        super().__init__(source.name, period)
        self._source, self._period = source, period
        self._next_ns: int | None = None
        self._stop = threading.Event()
        #: Milliseconds that decoding took, of the frames not yet asked about: (capture time, ms).
        self.decoded_ms: deque[tuple[int, float]] = deque()

    def read(self) -> Frame | None:
        """Wait for the next capture and decode it."""
        now = time.monotonic_ns()
        due = now if self._next_ns is None else self._next_ns
        while due + self._period < now:  # this capture and the next are both past: the buffer holds one
            self.lost["decoder"] = self.lost.get("decoder", 0) + 1
            self._index += 1
            due += self._period
        if due > now and self._stop.wait((due - now) / 1e9):
            return None
        start = time.perf_counter_ns()
        frame = self._source.read()
        self.decoded_ms.append((due, (time.perf_counter_ns() - start) / 1e6))
        self._next_ns = due + self._period
        if frame is None:
            return None
        # a file that starts again shows a cut, which is no gap of this camera's
        return self._frame(frame.pixels, due)

    def close(self) -> None:
        """End a waiting read and the source."""
        self._stop.set()
        self._source.close()

    def take_decode_ms(self, until_ns: int) -> float:
        """Milliseconds of decoding for the captures up to ``until_ns`` that were not asked about before."""
        total = 0.0
        while self.decoded_ms and self.decoded_ms[0][0] <= until_ns:
            total += self.decoded_ms.popleft()[1]
        return total
