"""The native frame sampler: one camera's frames for several streams on a timestamp grid.

Frames are uint8 [H, W, 3] in the order B, G, R, sides of 1 to 16384, pixels 3 bytes apart, rows any distance apart
(padded, cropped, upside down). Times are nanoseconds within ±2**60; boxes are whole pixels (x, y, w, h) of the frame
they crop. Every function raises ValueError with what was given and what was expected, and releases the GIL once.

Source of the arithmetic: runtimes/native (C11, header include/vpe/vpe.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Box: TypeAlias = tuple[int, int, int, int]
Event: TypeAlias = tuple[int, int, int, int, int]
Stream: TypeAlias = tuple[int, int, int, int, Sequence[float], Sequence[float], bool]

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
RESET_SIZE: Final[int]  # another size: all boxes are the whole frame again
DROPPED_TIMESTAMP: Final[int]  # not later than its predecessor: refused, nothing was changed

class Sampler:
    """Samples one camera for all its streams, each on the grid t_k = t0 + k * 10**12 // rate_mhz (ns).

    streams: (size_px, rate_mhz, regions, rows, mean3, std3, letterbox) each; mean and std of R, G, B.
    rings: one C-contiguous writable float32 [2 * rows, regions, 3, size, size] a stream, held while the sampler
        lives. A sample is written at row r and r + rows; an event's row is the upper one, so
        ring[row - rows + 1 : row + 1] are the last `rows` samples in order. R, G, B planes, (v / 255 - mean) / std.
    small_px: longer side of the small whole frames that are kept (0: none); small_rows: how many grid points back.
    repeat_ns: longest time between two frames without a reset. period_ns: the source's period where it is known,
        else the median of the last nine since the reset (1/30 s before the second frame).

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
    ) -> None: ...
    def set_boxes(self, stream: int, boxes: Sequence[Box]) -> None:
        """1 to `regions` boxes, used from the next push on; regions without one are filled with 0.

        Before the first call, and after a change of the frame's size, region 0 is the whole frame.
        """

    def set_interval(self, stream: int, n: int) -> None:
        """A point is due when n points have passed since the last due one; 0: every point is held."""

    def push(
        self, frame: NDArray[np.uint8], t_ns: int, stats: NDArray[np.float32] | None
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
    frame: NDArray[np.uint8],
    box: Box,
    out: NDArray[np.float32],
    mean3: Sequence[float],
    std3: Sequence[float],
    letterbox: bool,
) -> None:
    """Mean of the box over each output pixel's exact area, into float32 [3, S, S]: R, G, B, (v / 255 - mean) / std.

    letterbox: the box keeps its shape: content max(1, round half up(side * S / longer side)), centred at
    (S - content) // 2, the rest 0; otherwise the box is stretched. Within 0.1 grey level of the exact mean. At most
    128 source pixels to one output pixel along a side.
    """

def resize_area_u8(frame: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """The whole frame to uint8 [h, w, 3], B, G, R, rounded half up; the same size is a copy."""

def block_stats(
    frame: NDArray[np.uint8],
    previous_luma: NDArray[np.uint8] | None,
    luma_out: NDArray[np.uint8],
    stats: NDArray[np.float32],
) -> None:
    """Means over 16x16 blocks (the last ones over their real area), float32 [3, ceil(H / 16), ceil(W / 16)].

    0: |Y - previous Y| (0 without a previous); 1: |dx| + |dy| to the left and the upper neighbour (0 at the frame's
    left and upper edge); 2: Y. Y = (29 B + 150 G + 77 R + 128) >> 8 goes to luma_out, uint8 [H, W].
    """

def simd_available() -> tuple[str, ...]:
    """Names of the kernel sets that run on this machine, the best first."""

def simd_select(name: str) -> None:
    """Pin a kernel set for the whole process; the environment variable VIDPRISM_EDGE_SIMD does it at first use."""

def simd_selected() -> str:
    """The name of the kernel set in use."""
