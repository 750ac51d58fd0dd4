"""The native frame sampler: one camera's frames for several streams on a timestamp grid.

Frames are uint8 with sides of 1 to 16384 and rows any distance apart (padded, cropped, upside down), by `format`:
"bgr24" (the default) and "rgb24": [H, W, 3], pixels 3 bytes apart. "gray8": [H, W]. "yuyv": [H, W, 2], W even.
"nv12": (Y [H, W], UV [ceil(H / 2), ceil(W / 2), 2] or [.., 2 * ceil(W / 2)]). "i420": (Y, U, V), chroma
[ceil(H / 2), ceil(W / 2)]. Both also as one array [H * 3 / 2, W] of even sides. `matrix` ("bt601", "bt709") and
`full_range` say how Y, U, V become R, G, B; the statistics' luma is then Y as it stands.

Times are nanoseconds within ±2**60; boxes are whole pixels (x, y, w, h) of the frame they crop. Every function
raises ValueError with what was given and what was expected, and releases the GIL once.

Source of the arithmetic: runtimes/native (C11, header include/vpe/vpe.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Format: TypeAlias = Literal["bgr24", "rgb24", "gray8", "nv12", "i420", "yuyv"]
Matrix: TypeAlias = Literal["bt601", "bt709"]
Motion: TypeAlias = Literal["exact", "averaged"]
Resample: TypeAlias = Literal["area", "bicubic"]
Box: TypeAlias = tuple[int, int, int, int]
Event: TypeAlias = tuple[int, int, int, int, int]
Stream: TypeAlias = (
    tuple[int, int, int, int, Sequence[float], Sequence[float], bool]
    | tuple[int, int, int, int, Sequence[float], Sequence[float], bool, Resample]
)
Plane: TypeAlias = NDArray[np.uint8]
Frame: TypeAlias = Plane | tuple[Plane, Plane] | tuple[Plane, Plane, Plane]

# kinds of events
SAMPLED: Final[int]  # a frame stands for this point, and for no other of its stream
REPEATED: Final[int]  # the newest sample stands in: same ring row
HELD: Final[int]  # not due (interval, closed, or nothing to repeat yet): no pixels
RESET: Final[int]  # points that no frame will resolve

# what became of a pushed frame
OK: Final[int]
RESET_START: Final[int]  # the first frame of all, or after reset()
RESET_GAP: Final[int]  # later than repeat_ns after its predecessor
RESET_BACKWARD: Final[int]  # earlier than its predecessor by more than repeat_ns
RESET_SIZE: Final[int]  # another size or format: all boxes are the whole frame again
DROPPED_TIMESTAMP: Final[int]  # not later than its predecessor: refused, nothing was changed

class Sampler:
    """Samples one camera for all its streams, each on the grid t_k = t0 + k * 10**12 // rate_mhz (ns).

    streams: (size_px, rate_mhz, regions, rows, mean3, std3, letterbox[, resample]) each; mean and std of R, G, B;
        resample "area" (the default) or "bicubic" (see resize_bicubic).
    rings: one C-contiguous writable float32 [2 * rows, regions, 3, size, size] a stream, held while the sampler
        lives. A sample is written at row r and r + rows; an event's row is the upper one, so
        ring[row - rows + 1 : row + 1] are the last `rows` samples in order. R, G, B planes, (v / 255 - mean) / std.
    small_px: longer side of the small whole frames that are kept (0: none); small_rows: how many grid points back.
    repeat_ns: longest time between two frames without a reset. period_ns: the source's period where it is known,
        else the median of the last nine since the reset (1/30 s before the second frame).
    motion: "exact" or "averaged" statistics, see block_stats.

    One thread at a time for one sampler (RuntimeError otherwise); different samplers run in parallel. Memory is
    taken here and when the size of the frames changes, never else.
    """

    small_shape: Final[tuple[int, int] | None]
    """(h, w) of the small whole frames; None before the first frame or without them."""
    frame_shape: Final[tuple[int, int] | None]
    """(h, w) of the frames; None before the first."""
    period_ns: Final[int]
    """The source's period that the grid uses now, ns."""

    def __init__(
        self,
        streams: Sequence[Stream],
        rings: Sequence[NDArray[np.float32]],
        *,
        small_px: int = 320,
        small_rate_mhz: int = 15000,
        small_rows: int = 31,
        repeat_ns: int = 500_000_000,
        period_ns: int = 0,
        motion: Motion = "exact",
    ) -> None: ...
    def set_boxes(self, stream: int, boxes: Sequence[Box]) -> None:
        """1 to `regions` boxes, used from the next push on; regions without one are filled with 0.

        Before the first call, and after a change of the frame's size, region 0 is the whole frame.
        """

    def set_interval(self, stream: int, n: int) -> None:
        """A point is due when n points have passed since the last due one; 0: every point is held."""

    def push(
        self,
        frame: Frame,
        t_ns: int,
        stats: NDArray[np.float32] | None,
        *,
        format: Format = "bgr24",
        matrix: Matrix = "bt601",
        full_range: bool = False,
    ) -> tuple[int, list[Event]]:
        """Give the next frame; returns what became of it and the events (stream, k, t_grid_ns, kind, row).

        stats: writable float32 [3, ceil(H / 16), ceil(W / 16)]: motion, energy, mean luma of each block, grey
        levels (see block_stats); untouched where the frame is refused. The ring of small frames is stream -1, its
        row is -1. A RESET event's k is the first of `row` points.
        """

    def reset(self, t_ns: int = -1) -> list[Event]:
        """The next frame starts a new grid. Points before t_ns are counted as RESET (-1: none)."""

    def counts(self, stream: int) -> dict[str, int]:
        """Since construction: points == sampled + repeated + held + reset. -1: the small frames."""

    def crop_small(
        self,
        k: int,
        box: Box,
        out: NDArray[np.float32],
        mean3: Sequence[float],
        std3: Sequence[float],
        letterbox: bool,
    ) -> None:
        """Crop the small frame of grid point k of stream -1; the box is in pixels of the small frame.

        out: float32 [3, S, S] as in resize_area. KeyError where k is not among the last small_rows points.
        """

def resize_area(
    frame: Frame,
    box: Box,
    out: NDArray[np.float32],
    mean3: Sequence[float],
    std3: Sequence[float],
    letterbox: bool,
    *,
    format: Format = "bgr24",
    matrix: Matrix = "bt601",
    full_range: bool = False,
) -> None:
    """Mean of the box over each output pixel's exact area, into float32 [3, S, S]: R, G, B, (v / 255 - mean) / std.

    letterbox: the box keeps its shape: content max(1, round half up(side * S / longer side)), centred at
    (S - content) // 2, the rest 0; otherwise the box is stretched. Within 0.1 grey level of the exact mean. At most
    128 source pixels to one output pixel along a side. Y, U, V are averaged, then converted and limited to 0 .. 255.
    """

def resize_bicubic(
    frame: Frame,
    box: Box,
    out: NDArray[np.float32],
    mean3: Sequence[float],
    std3: Sequence[float],
    letterbox: bool,
    *,
    format: Format = "bgr24",
    matrix: Matrix = "bt601",
    full_range: bool = False,
) -> None:
    """As resize_area, but antialiased bicubic: the bytes are Pillow's, bit for bit, horizontally first.

    Source: Pillow's resize(size, BICUBIC); before its version 13 always in that order, which CLIP was trained with.
    """

def resize_area_u8(
    frame: Frame,
    out: NDArray[np.uint8],
    *,
    box: Box | None = None,
    format: Format = "bgr24",
    matrix: Matrix = "bt601",
    full_range: bool = False,
) -> None:
    """The frame or a box of it to uint8 [h, w, 3], B, G, R, rounded half up; the same size is a copy."""

def resize_bicubic_u8(
    frame: Frame,
    out: NDArray[np.uint8],
    *,
    box: Box | None = None,
    format: Format = "bgr24",
    matrix: Matrix = "bt601",
    full_range: bool = False,
) -> None:
    """As resize_area_u8, but Pillow's antialiased bicubic."""

def block_stats(
    frame: Frame,
    previous_luma: NDArray[np.uint8] | None,
    luma_out: NDArray[np.uint8],
    stats: NDArray[np.float32],
    *,
    motion: Motion = "exact",
    format: Format = "bgr24",
) -> None:
    """Means over 16x16 blocks (the last ones over their real area), float32 [3, ceil(H / 16), ceil(W / 16)].

    0: |Y - previous Y| (0 without a previous); 1: |dx| + |dy| to the left and the upper neighbour (0 at the frame's
    left and upper edge); 2: Y; grey levels. Y goes to luma_out, uint8 [H, W].
    exact: Y = (29 B + 150 G + 77 R + 128) >> 8 of each pixel. averaged: (29 B + 150 G + 77 R) >> 8 of every four rows'
    a(a(0, 1), a(2, 3)), a(p, q) = (p + q + 1) >> 1, so [ceil(H / 4), W]: a quarter of the work and half of the noise.
    """

def simd_available() -> tuple[str, ...]:
    """Names of the kernel sets that run on this machine, the best first."""

def simd_select(name: str) -> None:
    """Pin a kernel set for the whole process; the environment variable VIDPRISM_EDGE_SIMD does it at first use."""

def simd_selected() -> str:
    """The name of the kernel set in use."""
