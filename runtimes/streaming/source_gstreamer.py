"""CSI cameras, hardware decoders and any other GStreamer pipeline: NV12 from the pipe of a ``gst-launch-1.0``.

Not through OpenCV, whose builds on PyPI have no GStreamer. The planes go to the native core as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.picture import YuvPicture
from vidprism_edge.runtimes.streaming.source_decode import Picture
from vidprism_edge.runtimes.streaming.source_live import BACKOFF_S, OPEN_TIMEOUT_S, LiveSource

PROGRAM, INSPECT = "gst-launch-1.0", "gst-inspect-1.0"
#: What each pipeline ends with: the newest picture only, and as the native core reads it.
TAIL = (
    "! capsfilter name=vpe caps=video/x-raw,format=NV12 ! queue leaky=downstream max-size-buffers=1 "
    "! fdsink sync=false fd={fd}"
)
# Before the queue: behind it, in the queue's own thread, the program now and then forgets to tell (1.22, busy machine).
_CAPS = re.compile(r"GstCapsFilter:vpe\.GstPad:(?:sink|src): caps = (video/x-raw.*)")
_PIPE_BYTES = 1 << 20
_POLL_S = 0.5
_END_S = 2.0
#: The first look after an installation reads every plugin.
_INSPECT_S = 30.0


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pipeline of ``gstreamer.json``: ``{place}`` and the defaults' names are filled in, argument by argument.

    ``needs``: package → the elements of it that the pipeline names, or that those take in at run time.
    """

    pipeline: str
    defaults: dict[str, str]
    needs: dict[str, tuple[str, ...]]
    help: str


@cache
def list_kinds() -> dict[str, Kind]:
    """Return the pipelines that have a name of their own."""
    data = (resources.files(__package__) / "gstreamer.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, Kind])


def find_missing(kind: Kind) -> dict[str, list[str]]:
    """Return what a pipeline needs and this machine's GStreamer lacks: package → elements. Raises ``OSError``."""
    missing: dict[str, list[str]] = {}
    for package, elements in kind.needs.items():
        for element in elements:
            command = [INSPECT, "--exists", element]
            if subprocess.run(command, capture_output=True, check=False, timeout=_INSPECT_S).returncode:
                missing.setdefault(package, []).append(element)
    return missing


@dataclass(frozen=True, slots=True)
class Caps:
    """What a pipeline gives: size in pixels and colours. Rows of both planes are padded to four bytes."""

    width: int
    height: int
    matrix: str
    full_range: bool

    @property
    def stride(self) -> int:
        return -(-self.width // 4) * 4

    @property
    def size_bytes(self) -> int:
        return self.stride * (self.rows + self.rows // 2)

    @property
    def rows(self) -> int:
        """Rows of the first plane, an even number."""
        return self.height + self.height % 2


def read_caps(line: str) -> Caps | None:
    """Return the caps that ``gst-launch-1.0 -v`` tells in a line of its output, None for another line."""
    found = _CAPS.search(line)
    if found is None:
        return None
    fields = dict(re.findall(r"([\w-]+)=\(\w+\)\"?([^,;\"]+)", found[1]))
    colours = fields.get("colorimetry", "")
    return Caps(
        int(fields["width"]),
        int(fields["height"]),
        "bt709" if colours == "bt709" or re.fullmatch(r"\d+:1:.*", colours) else "bt601",
        colours.startswith("1:") or colours == "sRGB",
    )


def make_pipeline(source: str) -> list[str]:
    """Return the arguments of the pipeline that a source's name stands for, without its tail. Raises SourceError."""
    if source.startswith("gst:"):
        words = _split(source.removeprefix("gst:"))
        if not words:
            raise SourceError('gst: has no pipeline; expected for example "gst:videotestsrc ! videoconvert"')
        return words
    name, _, rest = source.partition(":")
    kind = list_kinds()[name]
    place, _, query = rest.removeprefix("//").partition("?") if name != "nvdec" else (rest, "", "")
    values = {**kind.defaults, **dict(parse_qsl(query))}
    if unknown := sorted(values.keys() - kind.defaults.keys()):
        raise SourceError(
            f"{source}: {', '.join(unknown)} is not known; expected {', '.join(kind.defaults) or 'nothing'}"
        )
    if bad := [n for n, value in values.items() if not re.fullmatch(r"[1-9]\d{0,4}", value)]:
        raise SourceError(f"{source}: {bad[0]} is {values[bad[0]]!r}; expected a positive whole number")
    if name == "nvdec" and "://" not in place:
        place = Path(place).absolute().as_uri()
    if name == "csi" and not place.isdigit():
        raise SourceError(f"{source}: the camera is {place!r}; expected its number, as in csi://0")
    # argument by argument: nothing in a value can become a part of the pipeline
    return [word.format(place=place or "ball", **values) for word in shlex.split(kind.pipeline)]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SourceError(f"gst: the pipeline cannot be read ({error}); check its quotes") from None


class GStreamerConnection:
    """One running pipeline. A frame's time is the monotonic clock when it has arrived whole."""

    def __init__(self, pipeline: list[str], name: str, *, read_timeout_s: float) -> None:
        if shutil.which(PROGRAM) is None:
            raise SourceError(
                f"{PROGRAM} is not installed; install it with: sudo apt-get install gstreamer1.0-tools "
                "gstreamer1.0-plugins-base"
            )
        self._name, self._timeout_s = name, read_timeout_s
        self._said: list[str] = []
        self._caps: list[Caps] = []
        self._read, write = os.pipe()
        with contextlib.suppress(OSError):  # a picture in fewer pieces, where the system allows it
            fcntl.fcntl(self._read, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            self._process = subprocess.Popen(
                [PROGRAM, "-v", *pipeline, *TAIL.format(fd=write).split()],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(write,),
                text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(self._read)
            raise SourceError(f"{PROGRAM} cannot be started: {error.strerror}") from error
        finally:
            os.close(write)
        self._listener = threading.Thread(target=self._listen, daemon=True, name=f"vidprism-{name}")
        self._listener.start()

    def _listen(self) -> None:
        """Take in what the program says: caps, and its errors for our message."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if (caps := read_caps(line)) and caps not in self._caps:
                self._caps.append(caps)
            elif re.match(r"(ERROR|WARNING: erroneous)", line):
                self._said.append(line.strip())

    def read(self) -> Picture | None:
        """Return the next picture; None at the end of the stream. Raises SourceError when the pipeline fails."""
        deadline = time.monotonic() + self._timeout_s
        if not self._wait(deadline):
            self._check_end()
            return None
        # the caps are told before the first byte is written, by another thread
        while not self._caps and time.monotonic() < deadline and self._listener.is_alive():
            time.sleep(0.001)
        if not self._caps and not self._listener.is_alive():
            self._check_end()
            return None
        if not self._caps:
            raise SourceError(
                f"{self._name}: GStreamer did not say what it sends; end the pipeline with videoconvert"
            )
        if len(self._caps) > 1:
            raise SourceError(f"{self._name}: the pipeline changed its size or colours")
        caps = self._caps[0]
        buffer = bytearray(caps.size_bytes)
        view = memoryview(buffer)
        while view:
            if not self._wait(deadline):
                self._check_end()
                return None
            count = os.readv(self._read, [view])
            if not count:
                self._check_end()
                return None
            view = view[count:]
        now_ns = time.monotonic_ns()
        picture = YuvPicture.from_nv12(
            buffer, caps.width, caps.height, caps.stride, matrix=caps.matrix, full_range=caps.full_range
        )
        return Picture(picture, now_ns)

    def _wait(self, deadline: float) -> bool:
        """Wait for bytes; False when there will be none. Raises SourceError after the read timeout."""
        while not select.select([self._read], [], [], _POLL_S)[0]:
            if self._process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise SourceError(f"{self._name}: the pipeline gave nothing for {self._timeout_s:g} s")
        return True

    def _check_end(self) -> None:
        """The pipe is closed: raise with the program's own words if it failed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._listener.join(_END_S)
        if self._said or self._process.returncode:
            why = self._said[0] if self._said else f"{PROGRAM} ended with code {self._process.returncode}"
            raise SourceError(f"{self._name}: {why}")

    def close(self) -> None:
        """End the pipeline: politely, because a CSI camera's daemon must be told, then by force."""
        for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(kind)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
        self._listener.join(_END_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        os.close(self._read)


def open_gstreamer(
    source: str,
    *,
    stall_timeout_s: float = 20.0,
    max_reconnects: int | None = None,
    open_timeout_s: float = OPEN_TIMEOUT_S,
    backoff_s: tuple[float, float] = BACKOFF_S,
    **_: object,
) -> LiveSource:
    """Open ``csi://0``, ``nvdec:ADDRESS`` or ``gst:PIPELINE``. Raises SourceError when the pipeline does not start."""
    pipeline = make_pipeline(source)
    name = source if len(source) <= 60 else f"{source[:57]}…"

    def connect() -> GStreamerConnection:
        # longer than the watchdog, which decides; this only ends a reader that was left behind
        return GStreamerConnection(pipeline, name, read_timeout_s=1.25 * stall_timeout_s)

    return LiveSource(
        name, connect, stall_timeout_s=stall_timeout_s, max_reconnects=max_reconnects,
        open_timeout_s=open_timeout_s, backoff_s=backoff_s,
    )  # fmt: skip
