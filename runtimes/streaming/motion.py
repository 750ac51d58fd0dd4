"""Where something moves: the blocks of the picture that have changed, from the native core's statistics of each frame.

The core compares every frame with the one before, block by block, at full resolution. That is finer than the
analyzer's grid and costs nothing more, so the region that the temporal expert follows is found here: a person far
away is some blocks high, and less than one cell of the analyzer's maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidprism_edge.runtimes.streaming.geometry import BLOCK_PX, LATTICE_STEP, Box, Scene, snap, weight_inside

Blocks = npt.NDArray[np.float32]

#: A block that moves this many grey levels more than still ones may has 1 − 1/e of the greatest weight: what flickers
#: in a large part of the picture weighs less than a hand.
STRONG = 10.0
#: A block keeps this much of its weight a second later; below ``FORGOTTEN`` it counts no more.
MEMORY, FORGOTTEN = 0.77, 0.3
#: Something moves for so long before it is followed: its first frames show a hand and not where it goes.
FIRST_NS = 500_000_000
#: The region is looked at so often.
LOOK_NS = 200_000_000
#: This part of the changed blocks' weight at either end is left out: a flicker at the edge does not stretch the region.
STRAY = 0.02
#: A region is kept while it holds this share of what the best one would hold: an epoch should outlast an action.
KEEP_SHARE = 0.8
#: … and has not less than this share of that one's side.
TOO_SMALL = 0.5


@dataclass(frozen=True, slots=True)
class RegionRule:
    """How large the region is, and how exactly it lies."""

    #: It is so many times as large as what has moved: arms are stretched out of what they moved in so far, and where
    #: an arm moves, a person stands.
    room: float = 2.8
    #: Its positions step by this fraction of its side.
    step: float = LATTICE_STEP
    #: One that is so many times larger than need be is left. A person who waits moves a hand or her head a little: that
    #: is no reason to see less of her.
    too_large: float = 4.1


class MovingRegion:
    """Follows what moves in one stream. ``box``: pixels of the small whole frame; None until something has moved."""

    def __init__(self, scene: Scene, small: Scene, smallest_px: int, rule: RegionRule) -> None:
        self._small, self._smallest, self._rule = small, smallest_px, rule
        self._block_px = BLOCK_PX * (small.width / max(1, scene.width))
        self._weights: Blocks = np.zeros((0, 0), np.float32)
        self._began_ns = self._looked_ns = self._last_ns = 0
        self.box: Box | None = None

    def observe(self, excess: Blocks | None, t_ns: int) -> None:
        """Take a frame's motion above what still blocks have, [bh, bw]; None where nothing moved by itself."""
        if excess is None:
            return
        if self._weights.shape != excess.shape:
            self._weights = np.zeros(excess.shape, np.float32)
        self._weights *= MEMORY ** ((t_ns - self._last_ns) / 1e9)
        self._last_ns = t_ns
        if self._weights.max() < FORGOTTEN:
            self._began_ns = t_ns
        np.maximum(self._weights, 1.0 - np.exp(-excess / STRONG), out=self._weights)
        ripe = t_ns - self._began_ns >= FIRST_NS and t_ns - self._looked_ns >= LOOK_NS
        if ripe and self._weights.max() >= FORGOTTEN:
            self._looked_ns = t_ns
            self.box = self._find()

    def _find(self) -> Box:
        """The lattice's box around the heaviest group of blocks that touch; the present one while it serves."""
        import cv2

        block_px = self._block_px
        there = (self._weights >= FORGOTTEN).astype(np.uint8)
        _, groups = cv2.connectedComponents(cv2.dilate(there, np.ones((3, 3), np.uint8)))
        weights = self._weights * there
        masses = np.bincount(groups.ravel(), weights.ravel())
        masses[0] = 0.0
        weights = np.where(groups == masses.argmax(), weights, 0.0)
        (left, right), (top, bottom) = (_extent(weights.sum(axis=axis)) for axis in (0, 1))
        centre = (left + right) / 2 * block_px, (top + bottom) / 2 * block_px
        side = max(right - left, bottom - top) * block_px * self._rule.room
        best = snap(self._small, centre, side, self._smallest, self._rule.step)
        current = self.box
        if current is None or not TOO_SMALL <= current[2] / best[2] <= self._rule.too_large:
            return best
        ys, xs = ((np.arange(n) + 0.5) * block_px for n in weights.shape)
        held, possible = (weight_inside(weights, xs, ys, box) for box in (current, best))
        return current if held >= KEEP_SHARE * possible else best


def _extent(weights: Blocks) -> tuple[float, float]:
    """Where a row of blocks' weight begins and ends, in blocks, but for the strays."""
    edges = np.concatenate(((0.0,), np.cumsum(weights))) / weights.sum()
    begin, end = np.interp((STRAY, 1.0 - STRAY), edges, np.arange(len(edges)))
    return float(begin), float(end)
