"""The temporal expert on a stream: its state between frames, and the replay that begins an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays
from vidprism_edge.runtimes.engines import Engine
from vidprism_edge.runtimes.streaming.geometry import Box
from vidprism_edge.runtimes.streaming.sampler import StreamSampler
from vidprism_edge.spec import ModelSpec

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """What the temporal expert says of grid point ``k``: token [D], motion map [m, m]."""

    k: int
    token: Float
    motion_map: Float


class TemporalRunner:
    """The temporal expert between its epochs: its state, and the replay that begins an epoch."""

    def __init__(self, spec: ModelSpec, engine: Engine) -> None:
        self._engine = engine
        self._field = spec.receptive_field
        side = spec.streams["temporal"].size_px
        self._frame = np.zeros((1, 3, side, side), np.float32)
        self._zero = {i.name: np.zeros(i.shape, np.float32) for i in engine.graph.inputs if i.name != "frame"}
        self.epoch = 0
        self.restart()

    def restart(self) -> None:
        """The stream was reset: nothing is left of it."""
        self._kept: Box | None = None
        self.stop()

    def stop(self) -> None:
        """End the epoch: the gate closed. The box in which the tokens were made that are kept is remembered."""
        self.box: Box | None = None
        self._state: Arrays = self._zero

    def step(self, sampler: StreamSampler, k: int, box: Box) -> tuple[list[Step], bool]:
        """Take grid point ``k`` in ``box`` → the steps taken, the last of them of ``k``; whether they look back.

        A new epoch starts from zero state and replays one receptive field through its box, so that it equals an
        expert that had never been closed. In another box than before it looks back: what it has replayed stands in
        the place of all tokens before, which were of another part of the picture.
        """
        first, looks_back = k, box != self._kept
        if box != self.box:
            self.stop()
            self.box = self._kept = box
            self.epoch += 1
            first = max(0, k - self._field + 1)
        return [self._advance(sampler, at, box) for at in range(first, k + 1)], looks_back

    def _advance(self, sampler: StreamSampler, k: int, box: Box) -> Step:
        sampler.crop_small(k, box, self._frame[0])
        outputs = self._engine.infer({"frame": self._frame, **self._state})
        self._state = {name: outputs[f"next_{name}"] for name in self._zero}
        # an engine may use its buffers again
        return Step(k, outputs["token"][0].copy(), outputs["motion_map"][0].copy())
