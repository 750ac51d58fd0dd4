"""Teaches the content analyzer: saliency from the frozen encoder's activation map, motion from frame differences."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vidprism_edge.model.analyzer import Analyzer
from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.spec import ModelSpec
from vidprism_edge.training.recipe import Recipe
from vidprism_edge.training.recording import Analyze
from vidprism_edge.training.store import ClipStore

Float = npt.NDArray[np.float32]
#: A cell's mean difference (share of white) that the camera's noise makes, and the one at which motion is strong.
NOISE, STRONG = 0.008, 0.03
LESSON_BATCH = 16


def target_motion(frame: Float, previous: Float, grid: int, stds: Sequence[float]) -> Float:
    """Frames float32 [3, S, S] as the analyzer gets them → what it should say of motion, [grid, grid], 0 … 1."""
    difference = (np.abs(frame - previous) * np.asarray(stds, np.float32)[:, None, None]).mean(axis=0)
    cell = difference.shape[0] // grid
    mean = difference.reshape(grid, cell, grid, cell).mean(axis=(1, 3))
    return (1.0 - np.exp(-np.clip(mean - NOISE, 0.0, None) / STRONG)).astype(np.float32)


def target_saliency(patches: npt.NDArray, grid: int) -> Float:
    """The encoder's patch features [P, D] → what the analyzer should say of saliency, [grid, grid], 0 … 1."""
    side = round(patches.shape[0] ** 0.5)
    strength = np.linalg.norm(patches.astype(np.float32), axis=1).reshape(side, side)
    low, high = np.quantile(strength, (0.05, 0.95))
    scaled = np.clip((strength - low) / max(float(high - low), 1e-6), 0.0, 1.0).astype(np.float32)
    fine = F.interpolate(
        torch.from_numpy(scaled)[None, None], size=(grid, grid), mode="bilinear", align_corners=False
    )
    return fine[0, 0].numpy()


@dataclass(slots=True)
class Lessons:
    """Frames and their predecessors float32 [N, 3, S, S], with both targets [N, g, g]."""

    frames: Tensor
    previous: Tensor
    saliency: Tensor
    motion: Tensor


def make_lessons(spec: ModelSpec, stores: Sequence[ClipStore]) -> Lessons:
    """One lesson for each whole frame that the encoder has seen."""
    stream, grid = spec.streams["analyzer"], spec.analyzer_grid
    parts: dict[str, list[Float]] = {"frames": [], "previous": [], "saliency": [], "motion": []}
    for store in stores:
        small = Scene(store.frames.shape[2], store.frames.shape[1], spec.fit)
        whole = Scene(store.info.width, store.info.height, spec.fit).whole
        back = max(1, round(1e9 / stream.rate_hz / store.info.period_ns))
        for frame in store.info.lessons:
            patches, _ = store.features[frame, whole]
            pair = np.empty((2, 3, stream.size_px, stream.size_px), np.float32)
            for out, index in zip(pair, (frame, max(0, frame - back)), strict=True):
                picture = np.ascontiguousarray(store.frames[index])
                _native.resize_area(
                    picture, small.whole, out, stream.mean, stream.std, spec.fit == "letterbox"
                )
            parts["frames"].append(pair[0])
            parts["previous"].append(pair[1])
            parts["saliency"].append(target_saliency(patches, grid))
            parts["motion"].append(target_motion(pair[0], pair[1], grid, stream.std))
    return Lessons(**{name: torch.from_numpy(np.stack(values)) for name, values in parts.items()})


def teach(
    analyzer: Analyzer,
    lessons: Lessons,
    recipe: Recipe,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> float:
    """Train the analyzer in place → its last loss. Light and noise vary, and pictures are mirrored."""
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(analyzer.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=recipe.analyzer_steps)
    analyzer.train()
    loss = torch.zeros(())
    for step in range(recipe.analyzer_steps):
        progress(step, recipe.analyzer_steps)
        pick = torch.randint(len(lessons.frames), (LESSON_BATCH,), generator=generator)
        gain = 1.0 + 0.3 * (2 * torch.rand(LESSON_BATCH, 1, 1, 1, generator=generator) - 1)
        shift = 0.2 * (2 * torch.rand(LESSON_BATCH, 1, 1, 1, generator=generator) - 1)
        pair = torch.stack((lessons.frames[pick], lessons.previous[pick])) * gain + shift
        pair = pair + 0.02 * torch.randn(pair.shape, generator=generator)
        targets = torch.stack((lessons.saliency[pick], lessons.motion[pick]))
        if torch.rand((), generator=generator) < 0.5:
            pair, targets = pair.flip(-1), targets.flip(-1)
        saliency, motion = analyzer(pair[0], pair[1])
        said = torch.stack((saliency, motion))
        loss = F.mse_loss(said, targets) + 0.1 * F.binary_cross_entropy(said.clamp(1e-5, 1 - 1e-5), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    analyzer.eval()
    return float(loss.detach())


def as_function(analyzer: Analyzer) -> Analyze:
    """The analyzer in the shape that a :class:`Recorder` wants."""

    def analyze(frame: Float, previous: Float) -> tuple[Float, Float]:
        with torch.inference_mode():
            saliency, motion = analyzer(torch.from_numpy(frame.copy()), torch.from_numpy(previous.copy()))
        return saliency[0].numpy(), motion[0].numpy()

    return analyze


def hash_weights(module: torch.nn.Module) -> str:
    """Names a module's weights for caches."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
