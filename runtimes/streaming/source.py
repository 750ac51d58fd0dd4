"""Where pictures come from: the frame, the source interface and the table of known sources.

A source is read by one thread. It hands over pictures with timestamps in nanoseconds and counts what it
could not hand over (``lost``, by reason) and what happened to it (``events``: reconnects, repaired
timestamps, ...). Files and synthetic pictures start at 0 ns; live sources use the clock of
:func:`time.monotonic_ns`, so that a frame's age is ``time.monotonic_ns() - frame.t_ns``. The wall clock is
never read: it may step back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.picture import Pixels

NETWORK_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp", "http", "https")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture: ``pixels`` as the source gave them, ``t_ns`` their time in nanoseconds.

    ``pixels`` are uint8 [H, W, 3] in BGR order, or a decoder's planes (:class:`~.picture.YuvPicture`), which go to
    the native core as they are; ``image`` is the picture in BGR, converted when it is asked for.

    The image belongs to whoever gets the frame and may be drawn on; its rows may be padded in memory.
    ``index`` numbers the pictures of the source from 0, the lost ones included, so that a loss shows as a
    jump. ``reset`` says why windows must not be bridged to the frame before (``"corrupt"``,
    ``"reconnect"``, ``"loop"``), or is None.
    """

    pixels: Pixels
    t_ns: int
    index: int
    reset: str | None = None

    @property
    def image(self) -> np.ndarray:
        """The picture as uint8 [H, W, 3] in BGR order, the consumer's to draw on."""
        return self.pixels if isinstance(self.pixels, np.ndarray) else self.pixels.to_bgr()


@runtime_checkable
class Source(Protocol):
    """A camera, a file or a network stream, read by one thread.

    ``live``: it cannot wait for its reader. ``period_ns``: nanoseconds between frames, None when unknown.
    ``lost``: pictures that were read and cannot be delivered, by reason. ``events``: what happened, counted.
    """

    name: str
    live: bool
    period_ns: int | None
    lost: dict[str, int]
    events: dict[str, int]

    def read(self) -> Frame | None:
        """Return the next frame, waiting for it; None at the end or once closed. Raises SourceError."""
        ...

    def close(self) -> None:
        """Release everything; callable twice and from another thread, where it ends a waiting read()."""
        ...


class CountedSource:
    """What all sources share: numbering, counting, and the reset that the next good frame carries."""

    live = False

    def __init__(self, name: str, period_ns: int | None = None) -> None:
        self.name = name
        self.period_ns = period_ns
        self.lost: dict[str, int] = {}
        self.events: dict[str, int] = {}
        self._index = 0
        self._reset: str | None = None

    def _frame(self, pixels: Pixels, t_ns: int) -> Frame:
        frame = Frame(pixels, t_ns, self._index, self._reset)
        self._index += 1
        self._reset = None
        return frame

    def _lose(self, reason: str) -> None:
        """Count a picture that cannot be delivered; the next good one starts the stream anew."""
        self.lost[reason] = self.lost.get(reason, 0) + 1
        self._index += 1
        self._reset = self._reset or reason

    def _happened(self, event: str) -> None:
        self.events[event] = self.events.get(event, 0) + 1

    def __enter__(self) -> CountedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release everything; a source overrides this."""


# pattern of the name -> module and function that opens it; the first match wins, the rest are files
_KINDS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"synthetic(:.*)?", re.DOTALL), "source_synthetic", "open_synthetic"),
    (re.compile(r"(gst|csi|nvdec|gsttest):.*", re.DOTALL), "source_gstreamer", "open_gstreamer"),
    (re.compile(r"\d+|/dev/(video\d+|v4l/.+)"), "source_camera", "open_camera"),
    (re.compile(r"[a-z][a-z0-9+.-]*://.*", re.DOTALL | re.IGNORECASE), "source_network", "open_network"),
)


def open_source(
    source: str,
    *,
    stall_timeout_s: float = 20.0,
    loop: bool = False,
    max_reconnects: int | None = None,
) -> Source:
    """Open a source by its name and return it connected.

    ``source``: a camera (``"0"``, ``"/dev/video0"``), a video file, a network address (``rtsp://...``), a
    CSI camera (``"csi://0?width=1280&height=720&fps=30"``), ``"nvdec:ADDRESS"``, ``"gst:PIPELINE"`` or
    ``"synthetic:SECONDS[:WIDTHxHEIGHT[@FPS]]"``. ``stall_timeout_s``: a live source without a frame for so
    many seconds is connected anew. ``loop``: a file or synthetic source starts again at its end, with
    timestamps that go on. ``max_reconnects``: give a live source up after so many failed attempts in a row
    (None: never). Raises SourceError, in one line, when it cannot be opened.
    """
    if not source.strip():
        raise SourceError("no source was given; expected a camera number, a video file or an rtsp:// address")
    if not stall_timeout_s > 0:
        raise SourceError(f"stall timeout is {stall_timeout_s} s; expected more than 0 seconds")
    if source.startswith("file://"):
        source = source.removeprefix("file://")
    module, function = "source_file", "open_file"
    for pattern, kind_module, kind_function in _KINDS:
        if pattern.fullmatch(source):
            module, function = kind_module, kind_function
            break
    opener: Callable[..., Any] = getattr(import_module(f"{__package__}.{module}"), function)
    opened: Source = opener(source, stall_timeout_s=stall_timeout_s, loop=loop, max_reconnects=max_reconnects)
    return opened
