"""An H.264 file with the stream's own timestamps, complete or not there at all."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np

from vidprism_edge.errors import UsageError, VidPrismError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

#: Containers that keep a timestamp per frame, by extension: the format's name and its ticks per second.
#: Matroska counts milliseconds; 60000 holds 29.97 and 25 fps exactly, and mpeg4 takes no more than 65535.
CONTAINERS = {
    ".mp4": ("mp4", 60000),
    ".m4v": ("mp4", 60000),
    ".mov": ("mov", 60000),
    ".mkv": ("matroska", 1000),
}


def fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return ``image`` (uint8 [H, W, 3]) as ``width`` x ``height``, with black bars where the shape differs.

    A picture that is at most one pixel smaller is padded by its own last row or column, not resampled.
    """
    import cv2

    h, w = image.shape[:2]
    if (w, h) == (width, height):
        return image
    if 0 <= width - w <= 1 and 0 <= height - h <= 1:
        return cv2.copyMakeBorder(image, 0, height - h, 0, width - w, cv2.BORDER_REPLICATE)
    scale = min(width / w, height / h)
    inner = (max(1, min(width, round(w * scale))), max(1, min(height, round(h * scale))))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    fitted[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=way)
    return fitted


class VideoWriter:
    """Writes pictures with their timestamps to ``path``.

    The first picture sets the size (made even); later ones of another size are fitted in with bars. The file is made
    under another name in the same folder and renamed by :meth:`close`; without a picture, or after an error, nothing
    is left. An existing file is replaced at the end. As a context manager it closes at the end, also when the user
    interrupts (the video up to there is whole), and gives up at any other exception.

    ``fps`` is the expected rate: how long the last picture stays. The real times are those given to :meth:`write`.

    Raises UsageError for an extension that is not known and for a path that cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        import av

        self.path = Path(path)
        self.frames = 0
        container = CONTAINERS.get(self.path.suffix.lower())
        if container is None:
            known = ", ".join(sorted(CONTAINERS))
            raise UsageError(
                f"cannot write a video to {self.path}: expected a name that ends in one of {known}"
            )
        if self.path.is_dir():
            raise UsageError(
                f"cannot write a video to {self.path}: it is a folder; expected the name of a file"
            )
        self._time_base = Fraction(1, container[1])
        self._period_ns = round(1e9 / fps) if fps > 0 else 33_333_333
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
        try:
            self._part.touch()
            self._container = av.open(str(self._part), "w", format=container[0])
        except OSError as error:
            self._discard()
            raise UsageError(f"cannot write a video to {self.path}: {error.strerror or error}") from None
        self._stream: VideoStream | None = None
        self._first_ns = 0
        self._last_pts = -1
        self._open = True

    @property
    def codec(self) -> str | None:
        """Name of the encoder in use; None before the first picture."""
        return self._stream.codec_context.codec.name if self._stream is not None else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the video; None before the first picture."""
        return (self._stream.width, self._stream.height) if self._stream is not None else None

    def write(self, image: np.ndarray, t_ns: int) -> None:
        """Add ``image`` (uint8 [H, W, 3] BGR), shown from ``t_ns`` on; the first picture is at 0 in the file.

        Times are rounded to 1/60000 s, in Matroska to 1 ms. One that is not after the time before is moved to
        just after it.
        """
        import av

        if not self._open:
            raise ValueError(f"{self.path} is closed")
        try:
            if self._stream is None:
                self._first_ns = t_ns
                self._stream = self._add_stream(image.shape[1], image.shape[0])
            picture = fit(image, self._stream.width, self._stream.height)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            ticks = self._ticks(t_ns - self._first_ns)
            self._last_pts = max(self._last_pts + 1, ticks)
            frame.pts, frame.time_base = self._last_pts, self._time_base
            frame.duration = max(1, self._ticks(self._period_ns))
            self._container.mux(self._stream.encode(frame))
        except Exception:
            self.abort()
            raise
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name; without a picture nothing is left. More than once is harmless."""
        if not self._open:
            return
        if self._stream is None:
            self.abort()
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._open = False
            self._part.replace(self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: nothing is left."""
        if self._open:
            self._open = False
            # the trailer of a container without a stream, or on a full disk, cannot be written
            with suppress(Exception):
                self._container.close()
        self._discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.abort()

    def _ticks(self, ns: int) -> int:
        return round(ns * self._time_base.denominator / 1e9)

    def _discard(self) -> None:
        with suppress(OSError):
            self._part.unlink()

    def _add_stream(self, width: int, height: int) -> VideoStream:
        rate = Fraction(1_000_000_000, self._period_ns).limit_denominator(1001)
        codec, options = _encoder()
        if not codec:
            raise VidPrismError(
                f"cannot write {self.path}: this build of FFmpeg has neither libx264 nor mpeg4"
            )
        stream = cast("VideoStream", self._container.add_stream(codec, rate=rate))
        stream.width, stream.height = max(2, width + width % 2), max(2, height + height % 2)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._time_base
        stream.options = options
        return stream


def _encoder() -> tuple[str, dict[str, object]]:
    """Return the best encoder that this build of FFmpeg has, with its options; an empty name where there is none."""
    import av

    # without reordered pictures, the file's duration is that of its last picture
    wanted: tuple[tuple[str, dict[str, object]], ...] = (
        ("libx264", {"preset": "veryfast", "crf": "20", "bf": "0"}),
        ("mpeg4", {"qscale": "4"}),
    )
    for name, options in wanted:
        with suppress(ValueError):
            av.Codec(name, "w")
            return name, options
    return "", {}
