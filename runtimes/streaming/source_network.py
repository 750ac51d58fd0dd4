"""Network cameras (RTSP and whatever else FFmpeg speaks) through PyAV."""

from __future__ import annotations

import re
import time
from collections import deque
from typing import TYPE_CHECKING

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.source import NETWORK_SCHEMES
from vidprism_edge.runtimes.streaming.source_decode import Bad, Decoder, Picture
from vidprism_edge.runtimes.streaming.source_live import BACKOFF_S, OPEN_TIMEOUT_S, LiveSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av.container import InputContainer

# At most 2 s (in microseconds) are spent on finding out what the stream is, and none on its frame rate, which
# the timestamps tell. What was read meanwhile is kept, so that the first picture need not wait for the next
# key frame ("nobuffer" would throw it away); the slot drops what is late.
_OPTIONS = {"analyzeduration": "2000000", "fpsprobesize": "0"}
_RTSP_OPTIONS = {"rtsp_transport": "tcp"}  # over UDP a lost packet is a damaged picture
_WINDOW_NS = 4 * 10**9
_JUMP_NS = 10 * 10**9


class ArrivalClock:
    """Puts the camera's timestamps on our monotonic clock.

    Arrival times alone carry the network's jitter, tens of milliseconds, into the sampling grid; the
    camera's timestamps alone have another zero, drift, and jump when it restarts. So t = timestamp + offset
    with the offset the **smallest** (arrival - timestamp) of the last 4 s: a network can only delay, so the
    least delayed frame shows the offset best. Drift is followed because the window slides; a queue that
    builds up in the network shows as age (t lies in the past), which is what lets the feed drop stale
    frames; a camera that restarts its timestamps, steps back or jumps by more than 10 s starts a new
    window. t is never later than the arrival, and strictly increasing. A frame without a timestamp is at
    its arrival.
    """

    def __init__(self) -> None:
        # (arrival, arrival - timestamp), the second strictly increasing: its first is the window's minimum
        self._window: deque[tuple[int, int]] = deque()
        self._stamp_ns: int | None = None
        self._last_ns = -1

    def time(self, stamp_ns: int | None, arrival_ns: int) -> int:
        """Return the time of a frame, in ns of the arrival's clock."""
        t_ns = arrival_ns
        if stamp_ns is not None:
            if self._stamp_ns is not None and not 0 < stamp_ns - self._stamp_ns < _JUMP_NS:
                self._window.clear()
            self._stamp_ns = stamp_ns
            offset = arrival_ns - stamp_ns
            while self._window and self._window[-1][1] >= offset:
                self._window.pop()
            self._window.append((arrival_ns, offset))
            while arrival_ns - self._window[0][0] > _WINDOW_NS:
                self._window.popleft()
            t_ns = stamp_ns + self._window[0][1]
        self._last_ns = max(t_ns, self._last_ns + 1)
        return self._last_ns


class NetworkConnection:
    """One connection to a network stream; ``options`` go to FFmpeg. Raises SourceError."""

    def __init__(
        self,
        url: str,
        *,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        read_timeout_s: float = 25.0,
        options: Mapping[str, str] | None = None,
    ) -> None:
        import av

        self._name = redact(url)
        rtsp = _RTSP_OPTIONS if url.lower().startswith(("rtsp:", "rtsps:")) else {}
        everything = {**_OPTIONS, **rtsp, **(options or {})}
        try:
            self._container: InputContainer = av.open(
                url, options=everything, timeout=(open_timeout_s, read_timeout_s)
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(
                f"{self._name} cannot be opened ({_reason(error)}); check address, user, password and network"
            ) from error
        try:
            self._decoder = Decoder(self._container, self._name)
        except BaseException:
            self._container.close()
            raise
        self._clock = ArrivalClock()

    def read(self) -> Picture | Bad | None:
        """Return the next picture on the monotonic clock; None at the end. Raises SourceError."""
        import av

        try:
            item = self._decoder.read()
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self._name} failed ({_reason(error)})") from error
        if isinstance(item, Picture):
            return Picture(item.pixels, self._clock.time(item.t_ns, time.monotonic_ns()))
        return item

    def close(self) -> None:
        """Hang up."""
        self._container.close()


def open_network(
    url: str,
    *,
    stall_timeout_s: float = 20.0,
    max_reconnects: int | None = None,
    options: Mapping[str, str] | None = None,
    open_timeout_s: float = OPEN_TIMEOUT_S,
    backoff_s: tuple[float, float] = BACKOFF_S,
    **_: object,
) -> LiveSource:
    """Open a network stream. Raises SourceError when the first connection fails."""
    scheme = url.split("://", 1)[0].lower()
    if scheme not in NETWORK_SCHEMES:
        known = ", ".join(f"{s}://" for s in NETWORK_SCHEMES)
        raise SourceError(f"{redact(url)}: {scheme}:// is not known here; expected one of {known}")

    def connect() -> NetworkConnection:
        # longer than the watchdog, which decides; this only ends a reader that was left behind
        return NetworkConnection(
            url, open_timeout_s=open_timeout_s, read_timeout_s=1.25 * stall_timeout_s, options=options
        )

    return LiveSource(
        redact(url),
        connect,
        stall_timeout_s=stall_timeout_s,
        max_reconnects=max_reconnects,
        open_timeout_s=1.25 * open_timeout_s,
        backoff_s=backoff_s,
    )


def redact(url: str) -> str:
    """Return the address without the password, fit for messages and reports."""
    return re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", url)


def _reason(error: Exception) -> str:
    import av

    if isinstance(error, av.error.ExitError):  # how FFmpeg says that our timeout interrupted it
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
