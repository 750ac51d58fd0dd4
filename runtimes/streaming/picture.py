"""A picture as its source gave it: BGR, or the decoder's own planes, which the native core reads as they are."""

from __future__ import annotations

import threading
from typing import Any, Literal

import numpy as np

_local = threading.local()

#: FFmpeg's pixel format → the native core's layout of planes.
_LAYOUTS: dict[str, Literal["i420", "nv12"]] = {"yuv420p": "i420", "yuvj420p": "i420", "nv12": "nv12"}
#: AVColorSpace of BT.709. Everything else is taken as BT.601, FFmpeg's own choice for streams that do not say.
_BT709 = 1
#: AVColorRange of full range.
_FULL = 2


class YuvPicture:
    """A decoded 4:2:0 picture: ``planes`` uint8, rows padded as the decoder left them. Not to be written to.

    ``layout``: what the native core needs to know beside the planes (format, matrix, range).
    """

    __slots__ = ("_frame", "layout", "planes", "shape")

    def __init__(self, frame: Any, layout: Literal["i420", "nv12"]) -> None:
        """``frame``: the PyAV frame, which owns the memory of the planes."""
        self._frame = frame
        self.shape = (frame.height, frame.width, 3)
        full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
        self.layout = {
            "format": layout,
            "matrix": "bt709" if frame.colorspace == _BT709 else "bt601",
            "full_range": full,
        }
        rows, columns = -(-frame.height // 2), -(-frame.width // 2)
        sizes = {
            "i420": ((frame.height, frame.width), (rows, columns), (rows, columns)),
            "nv12": ((frame.height, frame.width), (rows, 2 * columns)),
        }[layout]
        self.planes = tuple(
            np.frombuffer(plane, np.uint8)[: plane.line_size * height].reshape(height, plane.line_size)[
                :, :width
            ]
            for plane, (height, width) in zip(frame.planes, sizes, strict=True)
        )

    @classmethod
    def from_nv12(
        cls, data: bytearray, width: int, height: int, stride: int, *, matrix: str, full_range: bool
    ) -> YuvPicture:
        """Take over raw NV12: rows of ``stride`` bytes, the first plane padded to an even number of rows."""
        from av import VideoFrame
        from av.video.reformatter import ColorRange, Colorspace

        whole = np.frombuffer(data, np.uint8).reshape(-1, stride)
        rows = height + height % 2
        picture = cls.__new__(cls)
        picture.shape = (height, width, 3)
        picture.layout = {"format": "nv12", "matrix": matrix, "full_range": full_range}
        picture.planes = (whole[:height, :width], whole[rows:, : width + width % 2])

        def frame() -> Any:
            made = VideoFrame(width, height, "nv12")
            made.colorspace = Colorspace.ITU709 if matrix == "bt709" else Colorspace.ITU601
            made.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
            for plane, source in zip(made.planes, picture.planes, strict=True):
                target = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
                target[: source.shape[0], : source.shape[1]] = source
            return made

        picture._frame = frame
        return picture

    @property
    def luma(self) -> np.ndarray:
        """The Y plane, uint8 [H, W]."""
        return self.planes[0]

    def to_bgr(self) -> np.ndarray:
        """Return a new uint8 [H, W, 3] in BGR order, for people to look at."""
        return decode_bgr(self._frame() if callable(self._frame) else self._frame)


Pixels = np.ndarray | YuvPicture


def decode_bgr(frame: Any) -> np.ndarray:
    """Convert a PyAV frame to uint8 [H, W, 3] BGR, upright: colour matrix and range as the frame declares them."""
    if not hasattr(_local, "reformatter"):
        from av.video.reformatter import VideoReformatter

        _local.reformatter = VideoReformatter()
    # one thread: the conversion takes less time than waking others, and those are for the experts
    image: np.ndarray = _local.reformatter.reformat(frame, format="bgr24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def take_pixels(frame: Any) -> Pixels:
    """Return a PyAV frame's picture without a conversion where the native core reads its planes, else as BGR."""
    layout = _LAYOUTS.get(frame.format.name)
    if layout is None or round(frame.rotation / 90) % 4:
        return decode_bgr(frame)
    return YuvPicture(frame, layout)


def describe_layout(pixels: Pixels) -> tuple[Any, dict[str, Any]]:
    """Return what the native core takes for a picture: its array or planes, and the keywords of their layout."""
    return (pixels, {}) if isinstance(pixels, np.ndarray) else (pixels.planes, pixels.layout)
