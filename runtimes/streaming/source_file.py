"""Video files through PyAV, with the timestamps that the file carries."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from vidprism_edge.errors import SourceError
from vidprism_edge.runtimes.streaming.source import CountedSource, Frame
from vidprism_edge.runtimes.streaming.source_decode import Bad, Decoder, Picture

if TYPE_CHECKING:
    from av.container import InputContainer

DEFAULT_PERIOD_NS = 33_333_333
# a playlist or a description file must not make us open the network
_OPTIONS = {"protocol_whitelist": "file,crypto,data"}
# demuxers that take any text for a picture
_NO_VIDEO = {"tty"}


class FileSource(CountedSource):
    """A video file; the first good frame is at 0 ns.

    A frame without a timestamp gets the previous one plus the last step (``events["repaired"]``).
    Timestamps that run backwards are passed on: refusing them is the sampler's business. ``loop`` opens
    the file again at its end; timestamps go on one period after the last, with reset ``"loop"``.
    """

    def __init__(self, path: str, name: str, *, loop: bool = False) -> None:
        super().__init__(name)
        self._path = path
        self._loop = loop
        self._lock = threading.Lock()
        self._closed = False
        self._container: InputContainer | None = None
        self._decoder: Decoder | None = None
        self._origin_ns: int | None = None
        self._next_ns = 0  # where a frame without a timestamp belongs, and where a loop goes on
        self._passed = False  # whether this pass through the file gave a frame
        self.period_ns = self._open().period_ns
        self._step_ns = self.period_ns or DEFAULT_PERIOD_NS
        self._first = self._first_item()

    def _open(self) -> Decoder:
        self._container = _open_container(self._path, self.name)
        try:
            self._decoder = Decoder(self._container, self.name)
        except BaseException:
            self._container.close()
            raise
        return self._decoder

    def _first_item(self) -> Picture | None:
        """Decode up to the first good picture, so that a file without any is refused at once."""
        while True:
            item = self._read_on()
            if isinstance(item, Picture):
                return item
            if item is None:
                self.close()
                bad = sum(self.lost.values())
                raise SourceError(
                    f"{self.name} has a video stream but not one frame that can be decoded "
                    f"({bad} damaged); give a whole video file"
                )
            self._lose(item.reason)

    def read(self) -> Frame | None:
        """Return the next good frame, None at the end; see :class:`~.source.Source`."""
        with self._lock:
            while not self._closed:
                item: Picture | Bad | None = self._first
                if item is None:
                    item = self._read_on()
                self._first = None
                if isinstance(item, Bad):
                    self._lose(item.reason)
                elif item is not None:
                    self._passed = True
                    return self._frame(item.pixels, self._time(item.t_ns))
                elif not self._again():
                    return None
            return None

    def _read_on(self) -> Picture | Bad | None:
        import av

        if self._decoder is None:
            return None
        try:
            return self._decoder.read()
        except (av.error.FFmpegError, OSError):  # the disk or the share went away: what was read counts
            self._happened("read_errors")
            return None

    def _time(self, t_ns: int | None) -> int:
        """Return the frame's time from the start; one without is put a step after the one before."""
        if t_ns is None:
            self._happened("repaired")
            time_ns = self._next_ns
        else:
            if self._origin_ns is None:
                self._origin_ns = t_ns - self._next_ns
            time_ns = t_ns - self._origin_ns
            step_ns = time_ns - (self._next_ns - self._step_ns)
            if self.period_ns is None and 0 < step_ns < 10**9:
                self._step_ns = step_ns
        self._next_ns = time_ns + self._step_ns
        return time_ns

    def _again(self) -> bool:
        """Open the file again for a loop; False when it is not to be repeated."""
        if self._container is not None:
            self._container.close()
        # freed before the next one is opened: otherwise memory has to hold two decoders' pictures
        self._container = self._decoder = None
        if not self._loop or not self._passed:
            self._closed = True
            return False
        self._open()
        self._passed = False
        self._origin_ns = None
        self._reset = "loop"
        self._happened("loops")
        return True

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        with self._lock:
            if self._container is not None:
                self._container.close()


def open_file(path: str, *, loop: bool = False, **_: object) -> FileSource:
    """Open the video file at ``path``. Raises SourceError."""
    shown = path if path.isprintable() else repr(path)
    try:
        about = Path(path).stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError, ValueError))
        why = "does not exist" if missing else f"cannot be read ({_reason(error)})"
        raise SourceError(
            f"video file {shown} {why}; check the path, or give a camera number or an rtsp:// address"
        ) from error
    if stat.S_ISDIR(about.st_mode):
        raise SourceError(f"{shown} is a folder; expected a video file")
    if stat.S_ISREG(about.st_mode) and about.st_size == 0:
        raise SourceError(f"video file {shown} is empty (0 bytes); copy or record it again")
    return FileSource(path, shown, loop=loop)


def _open_container(path: str, name: str) -> InputContainer:
    import av

    try:
        # "file:" keeps a colon in a file's name from being read as a protocol
        container = av.open(f"file:{path}", options=dict(_OPTIONS))
    except PermissionError as error:
        raise SourceError(f"video file {name} may not be read; check its permissions") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{name} is no video that can be read ({_reason(error)}); "
            "expected a whole video file such as MP4, MKV, AVI or TS"
        ) from error
    if container.format.name in _NO_VIDEO:
        container.close()
        raise SourceError(f"{name} is a text file; expected a video file such as MP4, MKV, AVI or TS")
    return container


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
