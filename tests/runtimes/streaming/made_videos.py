"""Small videos written for a test with PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (96, 64)
RATE = 25
GOP = 10


def scene(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return uint8 [H, W, 3]: coloured tiles that shift with ``number``."""
    width, height = size
    tiles = np.random.default_rng(1).integers(30, 225, (height // 8 + 9, width // 8 + 9, 3), dtype=np.uint8)
    large = tiles.repeat(8, 0).repeat(8, 1)
    y, x = number % 64, 2 * number % 64
    return np.ascontiguousarray(large[y : y + height, x : x + width])


def packets(
    images: Iterable[np.ndarray], codec: str = "libx264", *, rate: int = RATE, gop: int = GOP
) -> list[bytes]:
    """Return the coded pictures one by one, as they would go over a network (H.264: with start codes)."""
    coded: list[bytes] = []
    context: Any = None
    for number, image in enumerate(images):
        if context is None:
            context = av.CodecContext.create(codec, "w")
            context.height, context.width = image.shape[:2]
            context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            context.time_base, context.framerate = Fraction(1, rate), Fraction(rate)
            context.gop_size, context.max_b_frames = gop, 0
            context.options = {"preset": "ultrafast", "tune": "zerolatency"} if codec == "libx264" else {}
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts, frame.time_base = number, Fraction(1, rate)
        coded += [bytes(packet) for packet in context.encode(frame)]
    return coded + [bytes(packet) for packet in context.encode()]


def write_video(
    path: Path | str,
    images: Iterable[np.ndarray],
    codec: str = "libx264",
    *,
    container: str | None = None,
    rate: int = RATE,
    gop: int = GOP,
    times_ms: list[int] | None = None,
    rotation: int | None = None,
    b_frames: int = 0,
    options: dict[str, str] | None = None,
) -> None:
    """Write a video; ``times_ms`` gives each frame's time, otherwise they are ``1 / rate`` apart."""
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        stream: Any = None
        for number, image in enumerate(images):
            if stream is None:
                stream = output.add_stream(codec, rate=rate)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
                stream.codec_context.gop_size = gop
                stream.codec_context.max_b_frames = b_frames
                if times_ms is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
                if codec == "libx264":
                    stream.codec_context.options = {"preset": "ultrafast"}
                if rotation is not None:
                    stream.set_display_rotation(rotation)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
