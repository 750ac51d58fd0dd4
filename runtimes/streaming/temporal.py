"""The temporal expert on a stream: its state between frames, and the replay that begins an epoch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays
from vidprism_edge.runtimes.engines import Engine
from vidprism_edge.runtimes.streaming.geometry import Box
from vidprism_edge.runtimes.streaming.sampler import StreamSampler
from vidprism_edge.spec import ModelSpec

Float = npt.NDArray[np.float32]


class TemporalRunner:
    """The temporal expert between its epochs: its state, and the replay that begins an epoch."""

    def __init__(self, spec: ModelSpec, engine: Engine) -> None:
        self._engine = engine
        self._field = spec.receptive_field
        side = spec.streams["temporal"].size_px
        self._frame = np.zeros((1, 3, side, side), np.float32)
        self._zero = {i.name: np.zeros(i.shape, np.float32) for i in engine.graph.inputs if i.name != "frame"}
        self.epoch = 0
        self.stop()

    def stop(self) -> None:
        """End the epoch: the gate closed, or the stream was reset."""
        self.box: Box | None = None
        self._state: Arrays = self._zero

    def step(self, sampler: StreamSampler, k: int, box: Box) -> tuple[Float, Float, int]:
        """Take grid point ``k`` in ``box`` → token [D], motion map [m, m], number of steps replayed before it.

        A new epoch starts from zero state and replays one receptive field through its box, so that it equals an
        expert that had never been closed.
        """
        replayed = 0
        if box != self.box:
            self.stop()
            self.box = box
            self.epoch += 1
            for past in range(max(0, k - self._field + 1), k):
                self._advance(sampler, past, box)
                replayed += 1
        outputs = self._advance(sampler, k, box)
        return outputs["token"][0], outputs["motion_map"][0], replayed

    def _advance(self, sampler: StreamSampler, k: int, box: Box) -> Arrays:
        sampler.crop_small(k, box, self._frame[0])
        outputs = self._engine.infer({"frame": self._frame, **self._state})
        self._state = {name: outputs[f"next_{name}"] for name in self._zero}
        return outputs
