"""Golden vectors: inputs and torch's outputs for every graph, over the gate states that a device meets."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

import numpy as np

from vidprism_edge.bundle import Arrays
from vidprism_edge.export.graphs import GraphSpec
from vidprism_edge.runtimes.streaming.geometry import WHOLE, SceneBox, interpolation
from vidprism_edge.spec import EXPERTS, ModelSpec

#: How far a stream has come: its first samples only, a full window, one token that outlived the window.
STATES = ("first", "steady", "stale")
#: A region in scene coordinates, off centre on purpose.
REGION: SceneBox = (0.3, 0.2, 0.4, 0.4)


def make_picture(side: int, step: int, rng: np.random.Generator) -> np.ndarray:
    """A float32 [1, 3, side, side] picture with edges, texture and an object that moves with ``step``."""
    y, x = np.mgrid[0:side, 0:side] / side
    centre = 0.2 + 0.04 * (step % 16)
    disc = ((x - centre) ** 2 + (y - 0.5) ** 2 < 0.03) * 1.5
    waves = [np.sin(9 * x + c) * np.cos(7 * y - c) + disc * (c - 1) for c in range(3)]
    noise = rng.standard_normal((3, side, side)) * 0.1
    return (np.stack(waves) + noise)[None].astype(np.float32)


def _subsets() -> Iterator[tuple[str, ...]]:
    for count in range(len(EXPERTS), -1, -1):
        yield from combinations(EXPERTS, count)


def _save_arrays(path: Path, arrays: Arrays) -> None:
    """Write what ``np.load`` reads; ``np.savez`` would put the time of writing into it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, value, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), zipfile.ZIP_DEFLATED)


class GoldenMaker:
    """Makes the cases of one network; the tokens that later graphs get come from the earlier graphs."""

    def __init__(self, spec: ModelSpec, graphs: dict[str, GraphSpec], seed: int) -> None:
        self.spec = spec
        self.graphs = graphs
        self.rng = np.random.default_rng(seed)
        self.cases: dict[str, list[tuple[str, Arrays, Arrays]]] = {name: [] for name in graphs}

    def _run(self, graph: str, case: str, inputs: Arrays, *, keep: bool = True) -> Arrays:
        outputs = self.graphs[graph].run(inputs)
        if keep:
            self.cases[graph].append((case, inputs, outputs))
        return outputs

    def _picture(self, stream: str, step: int) -> np.ndarray:
        picture = make_picture(self.spec.streams[stream].size_px, step, self.rng)
        return np.clip(picture, *self._pixel_range(stream))

    def _pixel_range(self, stream: str) -> tuple[np.ndarray, np.ndarray]:
        """Black and white as a stream normalises them, [3, 1, 1]: no pixel lies outside, and INT8 covers no more."""
        spec = self.spec.streams[stream]
        mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
        return (0 - mean) / std, (1 - mean) / std

    def _tokens(self, graph: str, stream: str) -> list[np.ndarray]:
        """Tokens of as many samples as the stream has slots; the first two and a random one become cases."""
        slots = self.spec.slots(stream) * self.spec.streams[stream].regions
        tokens = []
        for step in range(min(slots, 4)):
            inputs = {"frame": self._picture(stream, step)}
            tokens.append(self._run(graph, f"picture_{step}", inputs, keep=step < 2)["tokens"][0])
        noise = self.rng.uniform(*self._pixel_range(stream), self.graphs[graph].inputs[0].shape)
        self._run(graph, "random", {"frame": noise.astype(np.float32)})
        return [tokens[i % len(tokens)] for i in range(slots)]

    def _motion(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Steps of the temporal expert from its first frame; cases at a cold, a warming and a warm state."""
        slots, field = self.spec.slots("temporal"), self.spec.receptive_field
        graph = self.graphs["temporal"]
        state = {i.name: np.zeros(i.shape, np.float32) for i in graph.inputs[1:]}
        found = []
        for step in range(slots):
            inputs = {"frame": self._picture("temporal", step), **state}
            outputs = self._run("temporal", f"step_{step}", inputs, keep=step in (0, 3, field))
            state = {
                name.removeprefix("next_"): outputs[name] for name in outputs if name.startswith("next_")
            }
            found.append((outputs["token"][0], outputs["motion_map"][0]))
        return found

    def _context(
        self, stream: str, values: dict[str, list[np.ndarray]], state: str | None
    ) -> tuple[Arrays, list[SceneBox | None]]:
        """Slot buffers of one expert in a gate state; ``None`` means that the expert is absent."""
        spec, regions = self.spec.streams[stream], self.spec.streams[stream].regions
        per_region = self.spec.slots(stream)
        slots = per_region * regions
        buffers: Arrays = {
            name: np.zeros((1, slots, *found[0].shape), np.float32) for name, found in values.items()
        }
        mask, meta = np.zeros((1, slots), np.float32), np.zeros((1, slots, 5), np.float32)
        boxes: list[SceneBox | None] = [None] * slots
        count = {None: 0, "first": 1, "steady": per_region, "stale": 1}[state]
        for region in range(regions):
            for i in range(count):
                slot = (region + 1) * per_region - 1 - i
                box = REGION if region == 1 or (stream == "temporal" and state != "first") else WHOLE
                age = 3.0 if state == "stale" else i / spec.rate_hz
                for name, found in values.items():
                    buffers[name][0, slot] = found[slot]
                mask[0, slot], meta[0, slot], boxes[slot] = 1.0, (age, *box), box
        return {**buffers, f"{stream}_mask": mask, f"{stream}_meta": meta}, boxes

    def _geometry(self, stream: str, boxes: list[SceneBox | None], side: int) -> Arrays:
        scene = self.spec.scene_grid
        forth = np.zeros((1, len(boxes), 2, scene, side), np.float32)
        back = np.zeros((1, len(boxes), 2, side, scene), np.float32)
        for i, box in enumerate(boxes):
            if box is not None:
                forth[0, i], back[0, i] = (
                    interpolation(box, WHOLE, side, scene),
                    interpolation(WHOLE, box, scene, side),
                )
        return {f"{stream}_to_scene": forth, f"scene_to_{stream}": back}

    def _decision(
        self, case: str, present: dict[str, str | None], tokens: dict[str, dict[str, list[np.ndarray]]]
    ) -> None:
        """One decision: the attention, the fusion and the head in one gate state."""
        spatial, spatial_boxes = self._context("spatial", tokens["spatial"], present["spatial"])
        temporal, temporal_boxes = self._context("temporal", tokens["temporal"], present["temporal"])
        hybrid, _ = self._context("hybrid", tokens["hybrid"], present["hybrid"])
        maps = temporal.pop("motion_maps")
        attended = self._run("hybrid_attend", case, {**hybrid, **spatial, **temporal})["tokens"]
        fused = self._run(
            "fusion",
            case,
            {
                **spatial, **temporal, "motion_maps": maps, **hybrid, "hybrid_tokens": attended,
                **self._geometry("spatial", spatial_boxes, self.spec.encoder.grid),
                **self._geometry("temporal", temporal_boxes, self.spec.temporal.grid),
            },
        )  # fmt: skip
        self._run("head", case, {"vector": fused["vector"]})

    def make(self) -> None:
        """Fill :attr:`cases` for every graph: all subsets of experts, each fresh, in steady state or stale."""
        for step in range(2):
            frames = {
                "frame": self._picture("analyzer", step + 1),
                "previous": self._picture("analyzer", step),
            }
            self._run("analyzer", f"picture_{step}", frames)
        spatial, hybrid, motion = (
            self._tokens("spatial", "spatial"),
            self._tokens("hybrid_encode", "hybrid"),
            self._motion(),
        )
        tokens = {
            "spatial": {"spatial_tokens": spatial},
            "hybrid": {"hybrid_tokens": hybrid},
            "temporal": {"temporal_tokens": [t for t, _ in motion], "motion_maps": [m for _, m in motion]},
        }
        for subset, state in product(_subsets(), STATES):
            if (state == "stale" and not set(subset) - {"temporal"}) or (state != "steady" and not subset):
                continue  # a temporal token never outlives the window, and nothing has no state
            present = {e: (state if e in subset else None) for e in EXPERTS}
            if present["temporal"] == "stale":
                present["temporal"] = "first"
            self._decision(f"{'+'.join(subset) or 'none'}.{state}", present, tokens)

    def save(self, folder: Path) -> list[str]:
        """Write one ``.npz`` a graph; return the names of the files."""
        folder.mkdir(parents=True)
        for graph, cases in self.cases.items():
            arrays: Arrays = {}
            for case, inputs, outputs in cases:
                arrays |= {f"{case}/input/{name}": value for name, value in inputs.items()}
                arrays |= {f"{case}/output/{name}": value for name, value in outputs.items()}
            _save_arrays(folder / f"{graph}.npz", arrays)
        return [f"{graph}.npz" for graph in self.cases]
