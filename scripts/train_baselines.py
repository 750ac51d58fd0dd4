"""What the network is measured against, trained on the same clips: docs/results/baselines.json, one row a job.

*Homogeneous mixture*: three equal experts (transformers over time) on one undifferentiated stream of whole frames, each
frame through the same frozen encoder. *Video transformer*: divided space-time attention (Bertasius et al. 2021) from
scratch on whole frames. Both have within a tenth as many trained parameters as nano, see the same clips in the same
variants and negatives, mirrored but not altered otherwise, for at least as many epochs, and decide by the same rule:
the argmax of the mean logits over a clip's ready decisions, of a subject that was left out. Multiply-accumulates are
counted from the exported graphs, for two decisions a second; features of the frozen encoder are computed once a frame.

    python scripts/train_baselines.py --data DIR --negatives 'DIR/asl_*.mkv' --work DIR [--cache DIR] [--folds 1,4,5]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidprism_edge.calibration.data import read_dataset, read_folder
from vidprism_edge.export.graphs import count_macs
from vidprism_edge.model.checkpoint import Checkpoint, trained_state
from vidprism_edge.model.network import VidPrism, build
from vidprism_edge.runtimes import _native
from vidprism_edge.runtimes.streaming.geometry import Scene
from vidprism_edge.spec import NONE, ModelSpec
from vidprism_edge.training.batches import Change, draw_decisions
from vidprism_edge.training.prepare import Example, Preparer, default_cache, select
from vidprism_edge.training.recipe import Recipe, read_mirror
from vidprism_edge.training.run import record_all
from vidprism_edge.training.store import ClipStore
from vidprism_edge.training.trainer import draw_epoch

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "results" / "baselines.json"
Float = npt.NDArray[np.float32]
EPOCHS, BATCH, RATE = 65, 8, 1e-3


class Attend(nn.Module):
    """Pre-normalised self-attention over the second to last axis, residual."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        *rest, n, d = x.shape
        split = self.qkv(self.norm(x)).reshape(-1, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = split[0] * (d // self.heads) ** -0.5, split[1], split[2]
        mixed = torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v
        return x + self.out(mixed.transpose(1, 2).reshape(*rest, n, d))


def perceptron(width: int, expansion: int) -> nn.Sequential:
    """The feed-forward half of a block."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, expansion * width),
        nn.GELU(),
        nn.Linear(expansion * width, width),
    )


class Block(nn.Module):
    """Attention over time alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend, self.mlp = Attend(width), perceptron(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attend(x)
        return x + self.mlp(x)


class Homogeneous(nn.Module):
    """Features of one stream [B, T, Df] → logits [B, K]: equal experts, and a learned query over all they say."""

    on_features = True

    def __init__(
        self, spec: ModelSpec, rate_hz: float, width: int = 120, experts: int = 3, depth: int = 3
    ) -> None:
        super().__init__()
        self.rate_hz, self.frames = rate_hz, round(spec.window_s * rate_hz)
        self.size_px = spec.streams["spatial"].size_px
        self.into = nn.Sequential(
            nn.LayerNorm(spec.encoder.frame_width), nn.Linear(spec.encoder.frame_width, width)
        )
        self.when = nn.Parameter(torch.randn(1, self.frames, width) * 0.02)
        self.experts = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth))) for _ in range(experts)
        )
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.readout, self.norm = Attend(width), nn.LayerNorm(width)
        self.head = nn.Linear(width, len(spec.labels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(F.dropout(x, 0.3, self.training)) + self.when
        said = torch.cat([self.query.expand(len(x), -1, -1), *(expert(x) for expert in self.experts)], dim=1)
        return self.head(self.norm(self.readout(said)[:, 0]))


class DividedBlock(nn.Module):
    """Attention over time at each place, then over space in each frame, then the perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time, self.join = Attend(width), nn.Linear(width, width)
        self.space, self.mlp = Attend(width), perceptron(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, P, D] → the same."""
        x = x + self.join(self.time(x.transpose(1, 2)).transpose(1, 2))
        x = self.space(x)
        return x + self.mlp(x)


class VideoTransformer(nn.Module):
    """Whole frames [B, T, 3, S, S] → logits [B, K]; the mean over all places is read out."""

    frames, rate_hz, on_features = 8, 4.0, False

    def __init__(self, spec: ModelSpec, size_px: int, width: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.size_px = size_px
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.place = nn.Parameter(torch.randn(1, 1, (size_px // 16) ** 2, width) * 0.02)
        self.when = nn.Parameter(torch.randn(1, self.frames, 1, width) * 0.02)
        self.blocks = nn.Sequential(*(DividedBlock(width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(spec.labels))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x.flatten(0, 1)).flatten(2).transpose(1, 2)
        tokens = tokens.reshape(*x.shape[:2], *tokens.shape[1:]) + self.place + self.when
        return self.head(self.norm(self.blocks(tokens).mean(dim=(1, 2))))


Baseline = Homogeneous | VideoTransformer
ROWS = {
    "homogeneous mixture of experts on one stream of 8 Hz": lambda spec: Homogeneous(spec, 8.0),
    "homogeneous mixture of experts on one stream of 4 Hz": lambda spec: Homogeneous(spec, 4.0),
    "homogeneous mixture of experts on one stream of 2 Hz": lambda spec: Homogeneous(spec, 2.0),
    "video transformer from scratch, 80 pixels": lambda spec: VideoTransformer(spec, 80),
    "video transformer from scratch, 112 pixels": lambda spec: VideoTransformer(spec, 112),
    "video transformer from scratch, 160 pixels": lambda spec: VideoTransformer(spec, 160),
}


@dataclass(slots=True)
class Views:
    """What a baseline sees of clips: features of all frames, or pictures of them, made once."""

    spec: ModelSpec
    net: Baseline
    encoder: nn.Module
    folder: Path
    #: features by the clip's name, as they are read or made
    known: dict[str, npt.NDArray[np.float16]] = field(default_factory=dict)

    def picture(self, store: ClipStore, frame: int) -> Float:
        """A whole frame, letterboxed and normalised [3, S, S]."""
        stream = self.spec.streams["spatial" if self.net.on_features else "temporal"]
        small = Scene(store.frames.shape[2], store.frames.shape[1], self.spec.fit)
        out = np.empty((3, self.net.size_px, self.net.size_px), np.float32)
        image = np.ascontiguousarray(store.frames[frame])
        _native.resize_area(image, small.whole, out, stream.mean, stream.std, self.spec.fit == "letterbox")
        return out

    def features(self, store: ClipStore) -> npt.NDArray[np.float16]:
        """The frozen encoder's frame features of every frame [F, Df]."""
        name = store.folder.name
        if name not in self.known:
            self.known[name] = self._read(store, self.folder / f"{name}.npy")
        return self.known[name]

    def _read(self, store: ClipStore, file: Path) -> npt.NDArray[np.float16]:
        """Features from the disk, where they are kept once they are made."""
        if not file.is_file():
            parts = []
            for first in range(0, len(store.frames), 16):
                frames = [self.picture(store, i) for i in range(first, min(first + 16, len(store.frames)))]
                with torch.inference_mode():
                    parts.append(self.encoder(torch.from_numpy(np.stack(frames)))[1].half().numpy())
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, np.concatenate(parts))
        return np.load(file)

    def window(
        self,
        example: Example,
        variant: int,
        t_ns: int,
        recording: int,
        change: Change,
        rng: np.random.Generator,
    ) -> Float:
        """What the decision at ``t_ns`` sees: the newest frame at each point of the baseline's own grid."""
        steps = example.recordings[variant][recording].steps
        times = np.array([s.t_ns for s in steps])
        wanted = t_ns - (np.arange(self.net.frames)[::-1] / self.net.rate_hz * 1e9)
        frames = [steps[max(0, int(np.searchsorted(times, t, side="right")) - 1)].frame for t in wanted]
        if self.net.on_features:
            return self.features(example.store)[frames].astype(np.float32)
        return change.apply(np.stack([self.picture(example.store, f) for f in frames]), rng)


def fit(views: Views, examples: Sequence[Example], mirror: dict[str, str], recipe: Recipe) -> None:
    """Train the baseline in place."""
    net, labels = views.net, views.spec.labels
    rng = np.random.default_rng(recipe.seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    steps = -(-len(draw_epoch(examples, np.random.default_rng(0))) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps, pct_start=0.1)
    net.train()
    for epoch in range(EPOCHS):
        chosen, total = draw_epoch(examples, rng), 0.0
        for step in range(steps):
            inputs, targets = [], []
            for example in chosen[step * BATCH : (step + 1) * BATCH]:
                variant = int(rng.integers(len(example.recordings)))
                number = int(np.argmax([len(r.steps) for r in example.recordings[variant]]))
                recording = example.recordings[variant][number]
                # features cannot be mirrored after the encoder
                mirrored = not net.on_features and example.label in mirror and rng.random() < recipe.mirror
                label = mirror[example.label] if mirrored else example.label
                # nothing else is altered: a transformer that is shown what the temporal expert is stays at chance
                change = Change(mirrored=bool(mirrored))
                wanted = labels.index(label)
                for said in draw_decisions(views.spec, example, recording, wanted, recipe.decisions, rng):
                    inputs.append(views.window(example, variant, said.t_ns, number, change, rng))
                    targets.append(said.label)
            loss = F.cross_entropy(
                net(torch.from_numpy(np.stack(inputs))),
                torch.tensor(targets),
                label_smoothing=recipe.smoothing,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"  epoch {epoch + 1} of {EPOCHS}: loss {total / steps:.3f}", flush=True)
    net.eval()


def judge(views: Views, examples: Sequence[Example]) -> float:
    """Top-1 of clips."""
    rng, right = np.random.default_rng(0), 0
    for example in examples:
        total = torch.zeros(len(views.spec.labels))
        for number, recording in enumerate(example.recordings[0]):
            seen = [
                views.window(example, 0, t, number, Change(), rng)
                for t in recording.decisions_ns[recording.warming :]
            ]
            if seen:
                with torch.inference_mode():
                    total += views.net(torch.from_numpy(np.stack(seen))).sum(dim=0)
        right += views.spec.labels[int(total.argmax())] == example.label
    return right / len(examples)


def graph_macs(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one run, from the exported graph."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.onnx"
        torch.onnx.export(module.eval(), (example,), path, dynamo=True, external_data=False, verbose=False)
        return count_macs(onnx.shape_inference.infer_shapes(onnx.load(path)))


def cost(views: Views) -> int:
    """Multiply-accumulates a second of video, two decisions a second."""
    net, spec = views.net, views.spec
    decisions = 1e9 / spec.hop_ns
    if not net.on_features:
        side = net.size_px
        return round(decisions * graph_macs(net, torch.zeros(1, net.frames, 3, side, side)))
    features = torch.zeros(1, net.frames, spec.encoder.frame_width)
    encoder = graph_macs(views.encoder, torch.zeros(1, 3, net.size_px, net.size_px))
    return round(decisions * graph_macs(net, features) + net.rate_hz * encoder)


def open_fold(
    fold: str, options: argparse.Namespace
) -> tuple[Checkpoint, VidPrism, list[Example], list[Example]]:
    """A fold's checkpoint and network, and what it has learned from and is judged on, as its own regions show it."""
    checkpoint = Checkpoint.open(options.work / f"fold{fold}.safetensors")
    ours, recipe = build(checkpoint.spec), msgspec.convert(checkpoint.story["recipe"], Recipe)
    checkpoint.load_into(ours)
    preparer = Preparer(checkpoint.spec, ours.spatial.encoder, recipe, options.cache, lambda *_: None)
    seen, held = select(read_dataset(options.data), [fold])
    negatives = read_folder(options.negatives, NONE)
    learned = record_all(preparer, ours.analyzer, seen, negatives, recipe)
    assert held is not None
    return checkpoint, ours, learned, preparer.record(held.entries, ours.analyzer, variants=1)


def measure(row: str, fold: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one baseline on one fold → its row. The clips' variants are those of that fold's network."""
    checkpoint, ours, examples, held = open_fold(fold, options)
    spec, recipe = checkpoint.spec, Recipe()
    torch.manual_seed(recipe.seed)
    net = ROWS[row](spec)
    views = Views(spec, net, ours.spatial.encoder, options.work / "baseline-features")
    started = time.process_time()
    fit(views, examples, read_mirror(checkpoint.story["mirror"], spec.labels), recipe)
    seconds = time.process_time() - started
    return {
        "row": row,
        "left_out": fold,
        "top1": judge(views, held),
        "clips": len(held),
        "parameters": sum(p.numel() for p in net.parameters()),
        "parameters_of_nano": sum(v.numel() for v in trained_state(ours).values()),
        "macs_per_second": cost(views),
        "seconds": round(seconds),
        "epochs": EPOCHS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--negatives", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--folds", default="1,4,5")
    parser.add_argument("--rows", default=",".join(str(i) for i in range(len(ROWS))))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = [list(ROWS)[int(i)] for i in options.rows.split(",")]
    for fold in options.folds.split(","):
        for name in names:
            done = json.loads(FILE.read_text()) if FILE.is_file() else []
            if any(r["row"] == name and r["left_out"] == fold for r in done):
                continue
            row = measure(name, fold, options)
            print(json.dumps(row), flush=True)
            done = json.loads(FILE.read_text()) if FILE.is_file() else []
            FILE.write_text(
                json.dumps(sorted([*done, row], key=lambda r: (r["row"], r["left_out"])), indent=1) + "\n"
            )


if __name__ == "__main__":
    main()
