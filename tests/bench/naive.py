"""What one writes first: at every decision, sample the whole window anew and run every graph on all of it.

The same graphs, the same native resampling, the same engine and threads as the runtime; no cache, no state, no gate.
It is the cheapest program of its kind: the temporal expert starts at the window's first frame from zero state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidprism_edge.bundle import Bundle
from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.geometry import Scene, snap
from vidprism_edge.runtimes.streaming.slots import TokenSlots


class Naive:
    """Push frames; a decision (logits) comes out every hop once the window is full."""

    def __init__(
        self, bundle: Bundle, engine: str | Mapping[str, Engine] = "onnxruntime", threads: int = 0
    ) -> None:
        self.spec, self.macs_of = bundle.spec, bundle.macs
        self.engines = (
            load_engines(bundle, engine, EngineOptions(threads)) if isinstance(engine, str) else engine
        )
        self.frames: deque[tuple[int, np.ndarray]] = deque()
        self.decided = 0
        self.macs = 0

    def push(self, image: np.ndarray, t_ns: int) -> np.ndarray | None:
        """Keep the frame for a window; decide when a hop has passed (timestamps from 0)."""
        self.frames.append((t_ns, image))
        while t_ns - self.frames[0][0] >= self.spec.window_ns:
            self.frames.popleft()
        if t_ns < self.spec.window_ns + self.decided * self.spec.hop_ns:
            return None
        self.decided += 1
        return self.decide(t_ns)

    def _infer(self, graph: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        self.macs += self.macs_of[graph]
        return self.engines[graph].infer(inputs)

    def _picked(self, stream: str, now: int) -> list[tuple[int, np.ndarray]]:
        """The frames of the window on the stream's grid, oldest first."""
        step, count = 1e9 / self.spec.streams[stream].rate_hz, self.spec.slots(stream)
        times = np.array([t for t, _ in self.frames])
        return [self.frames[int(np.abs(times - (now - k * step)).argmin())] for k in range(count - 1, -1, -1)]

    def _crop(self, stream: str, image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        s = self.spec.streams[stream]
        out = np.empty((1, 3, s.size_px, s.size_px), np.float32)
        resize = {"area": _native.resize_area, "bicubic": _native.resize_bicubic}[s.resampler]
        resize(image, box, out[0], s.mean, s.std, self.spec.fit == "letterbox")
        return out

    def decide(self, now: int) -> np.ndarray:
        """Run everything on the window."""
        spec = self.spec
        height, width = self.frames[0][1].shape[:2]
        scene = Scene(width, height, spec.fit)
        middle = snap(scene, (width / 2, height / 2), 0.0, spec.streams["spatial"].size_px)
        slots = {
            "spatial": TokenSlots(
                spec, "spatial", {"spatial_tokens": (1 + spec.encoder.grid**2, spec.width)}, spec.encoder.grid
            ),
            "hybrid": TokenSlots(spec, "hybrid", {"hybrid_tokens": (spec.hybrid.grid**2, spec.width)}),
            "temporal": TokenSlots(
                spec, "temporal", {"temporal_tokens": (spec.width,), "motion_maps": (spec.temporal.grid,) * 2},
                spec.temporal.grid,
            ),
        }  # fmt: skip
        for name, graph in (("spatial", "spatial"), ("hybrid", "hybrid_encode")):
            for t, image in self._picked(name, now):
                boxes = [scene.whole, middle]
                tokens = [
                    self._infer(graph, {"frame": self._crop(name, image, b)})["tokens"][0] for b in boxes
                ]
                slots[name].put(
                    t, [scene.to_scene(b) for b in boxes], [{f"{name}_tokens": t} for t in tokens]
                )
        state = {
            i.name: np.zeros(i.shape, np.float32)
            for i in self.engines["temporal"].graph.inputs
            if i.name != "frame"
        }
        for t, image in self._picked("temporal", now):
            out = self._infer("temporal", {"frame": self._crop("temporal", image, scene.whole), **state})
            state = {name: out[f"next_{name}"] for name in state}
            values = {"temporal_tokens": out["token"][0], "motion_maps": out["motion_map"][0]}
            slots["temporal"].put(t, [scene.to_scene(scene.whole)], [values])
        inputs = {name: array for s in slots.values() for name, array in s.view(now)[0].items()}
        attend = {i.name for i in self.engines["hybrid_attend"].graph.inputs}
        attended = self._infer("hybrid_attend", {n: a for n, a in inputs.items() if n in attend})["tokens"]
        vector = self._infer("fusion", {**inputs, "hybrid_tokens": attended})["vector"]
        return self._infer("head", {"vector": vector})["logits"][0]
