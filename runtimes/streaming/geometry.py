"""Where a sample lies: scene coordinates, the box lattice, and the matrices that carry maps between boxes.

The *scene* is the square that the whole frame is fitted into: x and y run from 0 to 1 over it. A whole frame that
is letterboxed is the box (0, 0, 1, 1); its own pixels then start above 0 on the shorter axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]
SceneBox = tuple[float, float, float, float]
Floats = npt.NDArray[np.floating]
WHOLE: SceneBox = (0.0, 0.0, 1.0, 1.0)
#: Side of the blocks of which the native core tells the statistics, in pixels of the frame.
BLOCK_PX = 16
#: Side of a followed region as a fraction of the frame's shorter side, coarse to fine.
LATTICE_SCALES = (1.0, 0.75, 0.5, 0.375, 0.25)
#: Positions step by this fraction of the region's side.
LATTICE_STEP = 0.125


@dataclass(frozen=True, slots=True)
class Scene:
    """The square that a frame of ``width`` × ``height`` pixels is fitted into."""

    width: int
    height: int
    fit: str

    @property
    def whole(self) -> Box:
        """The box in pixels that the whole frame's samples crop."""
        if self.fit != "crop":
            return (0, 0, self.width, self.height)
        side = min(self.width, self.height)
        return ((self.width - side) // 2, (self.height - side) // 2, side, side)

    @property
    def _frame(self) -> tuple[float, float, float, float]:
        """Origin and size in pixels of the scene's square (two sizes, because ``stretch`` has two scales)."""
        if self.fit == "stretch":
            return (0.0, 0.0, float(self.width), float(self.height))
        if self.fit == "crop":
            x, y, side, _ = self.whole
            return (float(x), float(y), float(side), float(side))
        side = max(self.width, self.height)
        return ((self.width - side) / 2, (self.height - side) / 2, float(side), float(side))

    def to_scene(self, box: Box) -> SceneBox:
        """Pixels → scene coordinates; the whole frame is :data:`WHOLE`."""
        if box == self.whole:
            return WHOLE
        x0, y0, width, height = self._frame
        x, y, w, h = box
        return ((x - x0) / width, (y - y0) / height, w / width, h / height)

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """A point in scene coordinates → pixels."""
        x0, y0, width, height = self._frame
        return (x0 + x * width, y0 + y * height)

    def to_other(self, box: Box, other: Scene) -> Box:
        """The square ``box`` of this frame in the pixels of the same frame at another size."""
        if box == self.whole:
            return other.whole
        scale = other.width / self.width
        side = max(1, min(round(box[2] * scale), other.width, other.height))
        x = min(max(round(box[0] * scale), 0), other.width - side)
        y = min(max(round(box[1] * scale), 0), other.height - side)
        return (x, y, side, side)


def snap(
    scene: Scene,
    centre: tuple[float, float],
    side: float,
    smallest_px: int,
    lattice_step: float = LATTICE_STEP,
) -> Box:
    """Return the lattice's square box around a centre (pixels), clamped inside the frame.

    The side is the smallest lattice scale that holds ``side`` (pixels) and has at least ``smallest_px``.
    """
    shorter = min(scene.width, scene.height)
    wanted = max(side, min(smallest_px, shorter))
    fits = [round(shorter * scale) for scale in LATTICE_SCALES if round(shorter * scale) >= wanted - 0.5]
    size = min(fits, default=shorter)
    step = max(1, round(size * lattice_step))
    corner = []
    for position, limit in zip(centre, (scene.width, scene.height), strict=True):
        snapped = round((position - size / 2) / step) * step
        corner.append(int(min(max(snapped, 0), limit - size)))
    return (corner[0], corner[1], size, size)


def weight_inside(weights: Floats, xs: Floats, ys: Floats, box: SceneBox | Box) -> float:
    """The part of a map's weight [rows, columns] whose cells' centres, ``xs`` and ``ys``, lie in a box."""
    x, y, w, h = box
    return float(weights[(ys >= y) & (ys <= y + h)][:, (xs >= x) & (xs <= x + w)].sum())


def _interpolate(
    source: tuple[float, float], target: tuple[float, float], n_in: int, n_out: int
) -> npt.NDArray[np.float32]:
    """Bilinear interpolation along one axis, [n_out, n_in]; rows outside the source interval are zero."""
    centres = target[0] + (np.arange(n_out) + 0.5) / n_out * target[1]
    inside = (centres >= source[0]) & (centres <= source[0] + source[1])
    position = np.clip((centres - source[0]) / source[1] * n_in - 0.5, 0.0, n_in - 1.0)
    low = np.minimum(position.astype(np.int64), max(n_in - 2, 0))
    fraction = position - low
    matrix = np.zeros((n_out, n_in), np.float32)
    rows = np.arange(n_out)
    matrix[rows, low] = 1.0 - fraction
    if n_in > 1:
        matrix[rows, low + 1] += fraction
    return matrix * inside[:, None].astype(np.float32)


def interpolation(source: SceneBox, target: SceneBox, n_in: int, n_out: int) -> npt.NDArray[np.float32]:
    """Matrices float32 [2, n_out, n_in] (vertical, horizontal) that carry a map from one box's grid to another's."""
    vertical = _interpolate((source[1], source[3]), (target[1], target[3]), n_in, n_out)
    horizontal = _interpolate((source[0], source[2]), (target[0], target[2]), n_in, n_out)
    return np.stack((vertical, horizontal))
