"""From recordings to tensors: crops made by the native core, augmented, and what each decision sees of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from vidprism_edge.model.clip import looked_back_ns
from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.geometry import WHOLE, Box, Scene, SceneBox, interpolation
from vidprism_edge.spec import NONE, ModelSpec
from vidprism_edge.training.forward import Batch, Slots
from vidprism_edge.training.prepare import Example
from vidprism_edge.training.recipe import Recipe
from vidprism_edge.training.recording import Recording, Run, Sample

Float = npt.NDArray[np.float32]
#: A decision about a stream says the action from so much of it on, or of the window where that is shorter, and nothing
#: up to so little; between them it may say either, and nothing is learned from it.
SEEN_ENOUGH, SEEN_TOO_LITTLE = 0.6, 0.1
#: Time of a token, when its epoch began, where it lies, and its number in the batch.
Token = tuple[int, int, SceneBox, int]


@dataclass(slots=True)
class Change:
    """How one clip is altered, the same way in all its samples; the default alters nothing."""

    mirrored: bool = False
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    gain: Float = field(default_factory=lambda: np.ones((3, 1, 1), np.float32))
    offset: Float = field(default_factory=lambda: np.zeros((3, 1, 1), np.float32))
    noise: float = 0.0
    #: turns and stretches the picture about its middle [2, 2]; people are not alike in reach and posture
    warp: Float | None = None
    #: x, y, w, h as shares of the picture, and the colour that covers it
    hole: tuple[float, float, float, float, float] | None = None
    #: mixes the colours [3, 3]; alters the temporal expert's pictures alone, the others know colours
    colours: Float | None = None

    @classmethod
    def draw(cls, recipe: Recipe, rng: np.random.Generator, mirrored: bool) -> Change:
        """Draw a change as strong as the recipe allows."""
        common = rng.uniform(-recipe.light, recipe.light)
        gain = np.exp(common + rng.uniform(-recipe.light, recipe.light, (3, 1, 1)) / 3).astype(np.float32)
        offset = (rng.uniform(-recipe.light, recipe.light) + rng.uniform(-0.1, 0.1, (3, 1, 1))).astype(
            np.float32
        )
        hole = None
        if rng.random() < recipe.erase:
            w, h = rng.uniform(0.15, 0.4, 2)
            hole = (rng.uniform(0, 1 - w), rng.uniform(0, 1 - h), w, h, rng.uniform(-1, 1))
        return cls(
            mirrored,
            (float(rng.uniform(-1, 1) * recipe.box_shift), float(rng.uniform(-1, 1) * recipe.box_shift)),
            float(np.exp(rng.uniform(-1, 1) * recipe.box_scale)),
            gain,
            offset,
            float(rng.uniform(0, recipe.noise)),
            _draw_warp(recipe, rng),
            hole,
            _draw_colours(rng) if rng.random() < recipe.recolour else None,
        )

    def move(self, box: Box, scene: Scene) -> Box:
        """The box, shifted and scaled, inside the frame. The whole frame stays."""
        if box == scene.whole:
            return box
        side = int(np.clip(round(box[2] * self.scale), 16, min(scene.width, scene.height)))
        corner = []
        for at, length, shift, limit in zip(
            box[:2], box[2:], self.shift, (scene.width, scene.height), strict=True
        ):
            centre = at + length / 2 + shift * length
            corner.append(int(np.clip(round(centre - side / 2), 0, limit - side)))
        return (corner[0], corner[1], side, side)

    def place(self, box: SceneBox) -> SceneBox:
        """Where a box lies in the mirrored scene."""
        x, y, w, h = box
        return (1.0 - x - w, y, w, h) if self.mirrored else box

    def apply(self, pictures: Float, rng: np.random.Generator) -> Float:
        """Alter normalised pictures [N, 3, S, S]."""
        if self.warp is not None:
            pictures = _warp(pictures, self.warp)
        if self.mirrored:
            pictures = pictures[..., ::-1]
        pictures = pictures * self.gain
        pictures += self.offset
        if self.hole is not None:
            x, y, w, h = (round(v * pictures.shape[-1]) for v in self.hole[:4])
            pictures[..., y : y + h, x : x + w] = self.hole[4]
        if self.noise and len(pictures):
            # grain of twice a picture's size, laid elsewhere each time: drawing it anew takes longer than all the rest
            each = pictures[0].size
            grain = rng.standard_normal(2 * each, np.float32) * self.noise
            for picture, at in zip(pictures, rng.integers(0, each, len(pictures)), strict=True):
                picture += grain[at : at + each].reshape(picture.shape)
        return pictures.astype(np.float32, copy=False)


def _draw_warp(recipe: Recipe, rng: np.random.Generator) -> Float:
    angle = rng.uniform(-1, 1) * recipe.turn
    wide, tall = np.exp(rng.uniform(-1, 1, 2) * recipe.stretch - rng.uniform(0, 1) * recipe.far)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (turn @ np.diag([wide, tall])).astype(np.float32)


def _draw_colours(rng: np.random.Generator) -> Float:
    """Rows that mix the three colours with weights of either sign, as strong as the picture was."""
    mix = rng.standard_normal((3, 3)) * 0.6 + rng.choice([-1.0, 1.0]) * np.eye(3)
    return (mix / np.linalg.norm(mix, axis=1, keepdims=True)).astype(np.float32)


def _warp(pictures: Float, matrix: Float) -> Float:
    """Turn and stretch pictures [N, 3, S, S] about their middle; what comes into sight repeats the border."""
    import cv2

    middle = np.full(2, (pictures.shape[-1] - 1) / 2, np.float32)
    affine = np.column_stack((matrix, middle - matrix @ middle))
    size = (pictures.shape[-1], pictures.shape[-2])
    warped = np.empty_like(pictures)
    for out, picture in zip(warped, pictures, strict=True):
        image = np.ascontiguousarray(picture.transpose(1, 2, 0))
        out[:] = cv2.warpAffine(image, affine, size, borderMode=cv2.BORDER_REPLICATE).transpose(2, 0, 1)
    return warped


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of a clip, and what it ought to say."""

    t_ns: int
    ready: bool
    weight: float
    label: int


@dataclass(slots=True)
class Item:
    """One clip as arrays, before it joins others in a batch."""

    spatial: list[tuple[int, SceneBox]] = field(default_factory=list)
    patches: list[Float] = field(default_factory=list)
    frames: list[Float] = field(default_factory=list)
    hybrid: list[tuple[int, SceneBox]] = field(default_factory=list)
    crops: Float | None = None
    runs: list[tuple[Run, SceneBox, Float]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    hidden_ns: dict[str, int] = field(default_factory=dict)


class ItemMaker:
    """Makes items of one model's examples."""

    def __init__(self, spec: ModelSpec, recipe: Recipe, mirror: dict[str, str]) -> None:
        self._spec, self._recipe, self._mirror = spec, recipe, mirror

    def exact(self, example: Example, recording: Recording) -> Item:
        """The clip as a device sees it, with the decisions that a device makes."""
        label = self._spec.labels.index(example.label) if example.label in self._spec.labels else 0
        decisions = [
            Decision(t, i >= recording.warming, 1.0, label) for i, t in enumerate(recording.decisions_ns)
        ]
        return self._make(example, recording, Change(), np.random.default_rng(0), decisions, 0, None, {})

    def altered(self, example: Example, rng: np.random.Generator, *, size_px: int, joint: bool) -> Item:
        """The clip in one of its variants, changed, with an expert dropped or aged at times."""
        recipe, spec = self._recipe, self._spec
        variant = int(rng.integers(len(example.recordings)))
        recording = max(example.recordings[variant], key=lambda r: len(r.steps))
        if not joint:
            recording = replace(recording, spatial=[], hybrid=[])
        mirrored = example.label in self._mirror and rng.random() < recipe.mirror
        label = self._mirror[example.label] if mirrored else example.label
        change = Change.draw(recipe, rng, bool(mirrored))
        decisions = draw_decisions(spec, example, recording, spec.labels.index(label), recipe.decisions, rng)
        return self._make(
            example, recording, change, rng, decisions, size_px, recipe.hybrid_samples,
            self._hide(rng) if joint else {},
        )  # fmt: skip

    def _hide(self, rng: np.random.Generator) -> dict[str, int]:
        """Drop an expert, or let its newest samples be some time old (ns). One expert always stays whole."""
        recipe, hidden_ns = self._recipe, {}
        names = ["spatial", "hybrid", "temporal"]
        stays = rng.choice(names, p=[0.1, 0.1, 0.8])
        for name in names:
            share = recipe.drop_spatial if name == "spatial" else recipe.drop_expert
            if name == stays:
                continue
            if rng.random() < share:
                hidden_ns[name] = 1 << 60
            elif rng.random() < recipe.age_expert:
                hidden_ns[name] = round(rng.uniform(0.1, 2.5) * 1e9)
        return hidden_ns

    def _make(
        self,
        example: Example,
        recording: Recording,
        change: Change,
        rng: np.random.Generator,
        decisions: list[Decision],
        size_px: int,
        hybrid_samples: int | None,
        hidden_ns: dict[str, int],
    ) -> Item:
        item = Item(decisions=decisions, hidden_ns=hidden_ns)
        side = self._spec.encoder.grid
        for s in recording.spatial:
            patches, frame = example.store.features[s.frame, s.box]
            if change.mirrored:
                patches = patches.reshape(side, side, -1)[:, ::-1].reshape(side * side, -1)
            item.spatial.append((s.t_ns, change.place(recording.scene.to_scene(s.box))))
            item.patches.append(patches.astype(np.float32))
            item.frames.append(frame.astype(np.float32))
        self._add_hybrid(item, example, recording, change, rng, hybrid_samples)
        for run in self._seen_runs(item, recording):
            self._add_run(item, example, recording.small, run, change, rng, size_px)
        return item

    def _seen_runs(self, item: Item, recording: Recording) -> Iterator[Run]:
        """What the decisions see of the temporal expert's epochs, each with the receptive field before it."""
        reach = self._spec.receptive_field
        runs = recording.runs(reach)
        tokens = [(t, run.begin_ns) for run in runs for t in run.t_ns]
        hidden_ns = item.hidden_ns.get("temporal", 0)
        seen = {
            tokens[i]
            for decision in item.decisions
            for i in find_seen(self._spec, "temporal", tokens, decision.t_ns, hidden_ns)
        }
        for run in runs:
            mine = [i for i, t in enumerate(run.t_ns) if (t, run.begin_ns) in seen]
            if mine:
                first, last = run.warm + mine[0], run.warm + mine[-1]
                start = max(0, first - reach + 1)
                yield replace(
                    run,
                    frames=run.frames[start : last + 1],
                    warm=first - start,
                    t_ns=run.t_ns[mine[0] : mine[-1] + 1],
                )

    def _add_hybrid(
        self, item: Item, example: Example, recording: Recording, change: Change, rng: np.random.Generator,
        most: int | None,
    ) -> None:  # fmt: skip
        samples: Sequence[Sample] = recording.hybrid
        if most is not None and most < len(samples):
            samples = [samples[i] for i in sorted(rng.choice(len(samples), most, replace=False))]
        if not samples:
            return
        stream = self._spec.streams["hybrid"]
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (stream.mean, stream.std))
        crops = np.stack([example.store.crops[s.frame, s.box] for s in samples]).astype(np.float32)
        item.crops = change.apply((crops / 255.0 - mean) / std, rng)
        item.hybrid = [(s.t_ns, change.place(recording.scene.to_scene(s.box))) for s in samples]

    def _add_run(
        self, item: Item, example: Example, small: Scene, run: Run, change: Change, rng: np.random.Generator,
        size_px: int,
    ) -> None:  # fmt: skip
        stream = self._spec.streams["temporal"]
        side = size_px or stream.size_px
        box = change.move(run.box, small)
        pictures = np.empty((len(run.frames), 3, side, side), np.float32)
        for i, index in enumerate(run.frames):
            if i and index == run.frames[i - 1]:
                pictures[i] = pictures[i - 1]
                continue
            picture = np.ascontiguousarray(example.store.frames[index])
            _native.resize_area(
                picture, box, pictures[i], stream.mean, stream.std, self._spec.fit == "letterbox"
            )
        if change.colours is not None:
            pictures = np.einsum("ij,njhw->nihw", change.colours, pictures)
        item.runs.append((run, change.place(small.to_scene(box)), change.apply(pictures, rng)))


class Collator:
    """Joins items into a batch, and finds what each decision sees."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def join(self, items: Sequence[Item]) -> Batch:
        spec = self._spec
        pictures, temporal_tokens = self._join_runs(items)
        boxes: dict[str, dict[SceneBox, int]] = {"spatial": {WHOLE: 0}, "temporal": {WHOLE: 0}}
        rows: dict[str, list] = {name: [] for name in ("spatial", "hybrid", "temporal")}
        offsets = {"spatial": 1, "hybrid": 1}
        labels, weights, clips, ready = [], [], [], []
        for number, item in enumerate(items):
            tokens = {
                "spatial": [(t, t, box, offsets["spatial"] + i) for i, (t, box) in enumerate(item.spatial)],
                "hybrid": [(t, t, box, offsets["hybrid"] + i) for i, (t, box) in enumerate(item.hybrid)],
                "temporal": temporal_tokens[number],
            }
            offsets["spatial"] += len(item.spatial)
            offsets["hybrid"] += len(item.hybrid)
            for decision in item.decisions:
                for name, found in tokens.items():
                    rows[name].append(
                        self._see(name, found, decision.t_ns, item.hidden_ns.get(name, 0), boxes.get(name))
                    )
                labels.append(decision.label)
                weights.append(decision.weight)
                clips.append(number)
                ready.append(decision.ready)
        width, side = spec.encoder, spec.streams["hybrid"].size_px
        crops = [item.crops for item in items if item.crops is not None]
        scene = spec.scene_grid
        return Batch(
            patches=_stack([p for i in items for p in i.patches], (width.grid**2, width.patch_width)),
            frames=_stack([f for i in items for f in i.frames], (width.frame_width,)),
            hybrid=torch.from_numpy(np.concatenate(crops)) if crops else torch.zeros(0, 3, side, side),
            temporal=torch.from_numpy(np.concatenate(pictures)) if pictures else torch.zeros(0, 3, 1, 1),
            lengths=tuple(len(p) for p in pictures),
            spatial_slots=_slots(rows["spatial"]),
            hybrid_slots=_slots(rows["hybrid"]),
            temporal_slots=_slots(rows["temporal"]),
            spatial_matrices=_matrices(boxes["spatial"], spec.encoder.grid, scene),
            temporal_matrices=_matrices(boxes["temporal"], spec.temporal.grid, scene),
            spatial_box=torch.from_numpy(np.stack([r[3] for r in rows["spatial"]])),
            temporal_box=torch.from_numpy(np.stack([r[3] for r in rows["temporal"]])),
            labels=torch.tensor(labels),
            weights=torch.tensor(weights, dtype=torch.float32),
            clips=torch.tensor(clips),
            ready=torch.tensor(ready),
        )

    def _join_runs(self, items: Sequence[Item]) -> tuple[list[Float], list[list[Token]]]:
        """The pictures of every run, and each item's tokens, numbered through all runs from 1."""
        joined: list[Float] = []
        tokens: list[list[Token]] = [[] for _ in items]
        begin = 1
        for number, item in enumerate(items):
            for run, box, pictures in item.runs:
                first = begin + run.warm
                tokens[number] += [(t, run.begin_ns, box, first + i) for i, t in enumerate(run.t_ns)]
                joined.append(pictures)
                begin += len(pictures)
        return joined, tokens

    def _see(
        self, name: str, tokens: list[Token], t_ns: int, hidden_ns: int,
        boxes: dict[SceneBox, int] | None,
    ) -> tuple[npt.NDArray, Float, Float, npt.NDArray]:  # fmt: skip
        """Index, mask, meta and box number of an expert's slots at one decision."""
        count = self._spec.slots(name) * self._spec.streams[name].regions
        index, box_of = np.zeros(count, np.int64), np.zeros(count, np.int64)
        mask, meta = np.zeros(count, np.float32), np.zeros((count, 5), np.float32)
        times = [(time, begin) for time, begin, _, _ in tokens]
        for slot, i in enumerate(find_seen(self._spec, name, times, t_ns, hidden_ns)):
            time, _, box, number = tokens[i]
            index[slot], mask[slot], meta[slot] = number, 1.0, ((t_ns - time) / 1e9, *box)
            if boxes is not None:
                box_of[slot] = boxes.setdefault(box, len(boxes))
        return index, mask, meta, box_of


def find_seen(
    spec: ModelSpec, name: str, tokens: Sequence[tuple[int, int]], t_ns: int, hidden_ns: int
) -> list[int]:
    """Which of an expert's tokens a decision at ``t_ns`` sees; the rule of the clip forward.

    ``tokens``: time of each, and when its epoch began. ``hidden_ns``: what is younger than this is not seen.
    """
    until = t_ns - hidden_ns
    back = looked_back_ns(tokens, until)
    past = [i for i, (time, begin) in enumerate(tokens) if time <= until and back <= begin <= until]
    newest = max((tokens[i][0] for i in past), default=0)
    stale_ns = spec.streams[name].stale_s * 1e9
    return [
        i
        for i in past
        if t_ns - tokens[i][0] < spec.window_ns or (tokens[i][0] == newest and t_ns - newest <= stale_ns)
    ]


def _find_span(recording: Recording, span: tuple[int, int] | None) -> tuple[int, int] | None:
    """When the frames of ``span``, the first and one past the last, are shown."""
    if span is None:
        return None
    steps = recording.steps
    begins, ends = (next((s.t_ns for s in steps if s.frame >= at), steps[-1].t_ns) for at in span)
    return begins, ends


def draw_decisions(
    spec: ModelSpec, example: Example, recording: Recording, label: int, most: int, rng: np.random.Generator
) -> list[Decision]:
    """At most so many decisions of a recording, at moved times. Half of those of a stream say ``none``."""
    acts: list[Decision] = []
    idle: list[Decision] = []
    last, origin = recording.decisions_ns[-1], recording.steps[0].t_ns
    span_ns = _find_span(recording, example.store.info.span)
    for t in recording.decisions_ns:
        moved = min(t + round(rng.uniform(-0.5, 0.5) * spec.hop_ns), last)
        seen = (moved - origin) / spec.window_ns
        if seen < 0.7 and t != last:
            continue
        decision = Decision(moved, seen >= 1.0, 1.0 if seen >= 0.95 else 0.3, label)
        share = 1.0 if span_ns is None else _share_seen(spec, moved, *span_ns)
        if share >= SEEN_ENOUGH:
            acts.append(decision)
        elif share <= SEEN_TOO_LITTLE:
            idle.append(replace(decision, label=spec.labels.index(NONE)))
    few = _draw_some(idle, most // 2, rng)
    return sorted(_draw_some(acts, most - len(few), rng) + few, key=lambda d: d.t_ns)


def _share_seen(spec: ModelSpec, t_ns: int, begins_ns: int, ends_ns: int) -> float:
    """How much of an action a decision sees, or how much of its window the action fills where that is shorter."""
    both = min(t_ns, ends_ns) - max(t_ns - spec.window_ns, begins_ns)
    return both / min(spec.window_ns, max(1, ends_ns - begins_ns))


def _draw_some(decisions: list[Decision], most: int, rng: np.random.Generator) -> list[Decision]:
    if len(decisions) <= most:
        return decisions
    return [decisions[i] for i in rng.choice(len(decisions), most, replace=False)]


def _stack(values: list[Float], shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.stack(values)) if values else torch.zeros(0, *shape)


def _slots(rows: list) -> Slots:
    index, mask, meta = (torch.from_numpy(np.stack([r[i] for r in rows])) for i in range(3))
    return Slots(index, mask, meta)


def _matrices(boxes: dict[SceneBox, int], n_map: int, n_scene: int) -> tuple[torch.Tensor, torch.Tensor]:
    forth = np.stack([interpolation(box, WHOLE, n_map, n_scene) for box in boxes])
    back = np.stack([interpolation(WHOLE, box, n_scene, n_map) for box in boxes])
    return torch.from_numpy(forth), torch.from_numpy(back)
