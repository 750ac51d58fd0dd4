"""The tokens that an expert has given, kept for the window in which decisions see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidprism_edge.runtimes.streaming.geometry import WHOLE, SceneBox, interpolation
from vidprism_edge.spec import ModelSpec

Float = npt.NDArray[np.float32]


class TokenSlots:
    """Token slots of one stream: a ring of rows (samples), each with one slot a region.

    Every row is stored twice, ``rows`` apart, so that the newest ``rows`` rows are always one contiguous block and
    a graph reads them without a copy. The slots come oldest first; a slot's mask says whether a decision sees it.
    """

    def __init__(
        self, spec: ModelSpec, stream: str, shapes: dict[str, tuple[int, ...]], map_side: int = 0
    ) -> None:
        """``shapes``: buffer name → shape of one token; ``map_side``: grid to carry to the scene (0: none)."""
        self.stream = stream
        self.regions = spec.streams[stream].regions
        self.rows = spec.slots(stream)
        self._window_ns, self._rate_mhz = spec.window_ns, spec.streams[stream].rate_mhz
        self._stale_ns = round(spec.streams[stream].stale_s * 1e9)
        self._map_side, self._scene_side = map_side, spec.scene_grid
        if map_side:
            shapes = {
                **shapes,
                f"{stream}_to_scene": (2, spec.scene_grid, map_side),
                f"scene_to_{stream}": (2, map_side, spec.scene_grid),
            }
        self._buffers = {
            name: np.zeros((2 * self.rows, self.regions, *shape), np.float32)
            for name, shape in shapes.items()
        }
        self._boxes = np.zeros((2 * self.rows, self.regions, 4), np.float32)
        self._filled = np.zeros((2 * self.rows, self.regions), np.bool_)
        self._t_ns = np.zeros(2 * self.rows, np.int64)
        #: When a row's tokens were computed; a row that another one stands for is older than its time.
        self._made_ns = np.zeros(2 * self.rows, np.int64)
        self._matrices: dict[SceneBox, tuple[Float, Float]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget everything: the stream was reset."""
        self._filled[:] = False
        self._next = 0

    def put(self, t_ns: int, boxes: Sequence[SceneBox], tokens: Sequence[dict[str, Float]]) -> None:
        """Add the sample taken at ``t_ns``: one dict of tokens by buffer name, and one box, a region."""
        row = self._next
        self._next = (row + 1) % self.rows
        both = slice(row, None, self.rows)
        self._t_ns[both] = self._made_ns[both] = t_ns
        self._filled[both] = False
        for region, (box, values) in enumerate(zip(boxes, tokens, strict=True)):
            self._filled[both, region] = True
            self._boxes[both, region] = box
            for name, value in values.items():
                self._buffers[name][both, region] = value
            if self._map_side:
                forth, back = self._carry(box)
                self._buffers[f"{self.stream}_to_scene"][both, region] = forth
                self._buffers[f"scene_to_{self.stream}"][both, region] = back

    def repeat(self, until_ns: int) -> None:
        """Let the newest sample stand for every grid point after it, up to and including one at ``until_ns``."""
        newest = (self._next - 1) % self.rows
        begin_ns = int(self._t_ns[newest])
        # grid times are whole nanoseconds
        count = (until_ns - begin_ns + 1000) * self._rate_mhz // 10**12
        if count < 1 or not self._filled[newest].any():
            return
        stored = self._stored()
        values = [array[newest].copy() for array in stored]
        for n in range(max(1, count - self.rows + 1), count + 1):
            for row in (self._next, self._next + self.rows):
                for array, value in zip(stored, values, strict=True):
                    array[row] = value
                self._t_ns[row] = begin_ns + n * 10**12 // self._rate_mhz
            self._next = (self._next + 1) % self.rows

    def _stored(self) -> tuple[np.ndarray, ...]:
        """All that a row holds beside its time."""
        return (*self._buffers.values(), self._boxes, self._filled, self._made_ns)

    def settle(self) -> None:
        """Let the newest sample stand for the whole window that ends with it: it was made of a picture at rest."""
        newest = (self._next - 1) % self.rows
        for array in self._stored():
            array[:] = array[newest].copy()
        order = (self._next + np.arange(self.rows)) % self.rows
        back = np.arange(self.rows)[::-1] * 10**12 // self._rate_mhz
        self._t_ns[order] = self._t_ns[order + self.rows] = self._t_ns[newest] - back

    def _carry(self, box: SceneBox) -> tuple[Float, Float]:
        """Matrices slot → scene and scene → slot; boxes lie on a coarse lattice, so few are ever made."""
        if box not in self._matrices:
            if len(self._matrices) > 4096:
                self._matrices.clear()
            side, scene = self._map_side, self._scene_side
            self._matrices[box] = (
                interpolation(box, WHOLE, side, scene),
                interpolation(WHOLE, box, scene, side),
            )
        return self._matrices[box]

    def view(self, t_ns: int) -> tuple[dict[str, Float], float | None]:
        """What a decision at ``t_ns`` sees: graph inputs by name, and the age (s) of the newest visible computed token.

        Visible are the samples of the window, and the newest sample for ``stale_s`` seconds.
        """
        block = slice(self._next, self._next + self.rows)
        filled, ages_ns = self._filled[block], t_ns - self._t_ns[block]
        there = filled.any(axis=1) & (ages_ns >= 0)
        seen = there & (ages_ns < self._window_ns)
        newest = None
        if there.any():
            last = int(np.flatnonzero(there)[-1])
            seen[last] |= ages_ns[last] <= self._stale_ns
            newest = float(t_ns - self._made_ns[block][last]) / 1e9 if seen[last] else None
        mask = (filled & seen[:, None]).astype(np.float32)
        meta = np.empty((self.rows, self.regions, 5), np.float32)
        # a masked slot's age would be the time since nothing
        meta[..., 0] = np.where(seen, ages_ns / 1e9, 0.0)[:, None]
        meta[..., 1:] = self._boxes[block]
        slots = self.rows * self.regions
        inputs = {
            name: buffer[block].reshape(1, slots, *buffer.shape[2:]) for name, buffer in self._buffers.items()
        }
        inputs[f"{self.stream}_mask"] = mask.reshape(1, slots)
        inputs[f"{self.stream}_meta"] = meta.reshape(1, slots, 5)
        return inputs, newest
