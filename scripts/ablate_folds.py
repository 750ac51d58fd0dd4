"""The rows of docs/results/training.md beside the network itself: what is left without a part of it.

Every row is of a fold's checkpoint on its own left-out subject, through the batched forward in torch on the recordings
that the runtime's sampler made. Nothing is trained again: an expert is removed by masking its slots, as drop-out did
while training, the temporal expert is shown other regions, and the number of fusion passes is changed on shared
weights. The image-only row trains a linear
classifier on the mean of the frozen encoder's frame features over the window, on the same clips and variants.

    python scripts/ablate_folds.py --work DIR --data DIR [--cache DIR] [--folds 1,2,3,4,5,6]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F

from vidprism_edge.bundle import Bundle
from vidprism_edge.calibration.data import Entry, Reader, read_dataset
from vidprism_edge.calibration.evaluation import Evaluation, label_clip
from vidprism_edge.calibration.evaluation import judge as judge_clip
from vidprism_edge.calibration.streams import SubjectStream
from vidprism_edge.model.checkpoint import Checkpoint
from vidprism_edge.model.network import VidPrism, build
from vidprism_edge.runtimes.engines import EngineOptions, load_engines
from vidprism_edge.runtimes.streaming.events import detect_events
from vidprism_edge.runtimes.streaming.gates import default_settings
from vidprism_edge.runtimes.streaming.geometry import Box, Scene
from vidprism_edge.runtimes.streaming.session import Session
from vidprism_edge.spec import STREAMS, ModelSpec
from vidprism_edge.training.batches import Collator, ItemMaker
from vidprism_edge.training.forward import Batch, forward_batch
from vidprism_edge.training.prepare import Example, Preparer, default_cache, select
from vidprism_edge.training.recipe import Recipe
from vidprism_edge.training.recording import Recording

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "results" / "ablations.json"
IMAGE = "image-only encoder with mean pooling"
EXPERTS = ("spatial", "hybrid", "temporal")
#: Every how many grid points spatial and hybrid expert are sampled while something happens.
BUDGETS = {"full rate": 1, "half of it": 2, "a quarter": 4, "an eighth": 8}


def without(name: str) -> Callable[[Batch], None]:
    """Mask an expert's slots."""

    def hide(batch: Batch) -> None:
        getattr(batch, f"{name}_slots").mask.zero_()

    return hide


def judge(
    net: VidPrism, examples: Sequence[Example], change: Callable[[Batch], None] = lambda _: None
) -> float:
    """Top-1 of clips by the argmax of the mean logits over the ready decisions."""
    maker, collator = ItemMaker(net.spec, Recipe(), {}), Collator(net.spec)
    right = 0
    for example in examples:
        total = torch.zeros(len(net.spec.labels))
        for recording in example.recordings[0]:
            batch = collator.join([maker.exact(example, recording)])
            change(batch)
            with torch.inference_mode():
                logits, _ = forward_batch(net, batch)
            total += logits[batch.ready].sum(dim=0)
        right += net.spec.labels[int(total.argmax())] == example.label
    return right / len(examples)


def centre(small: Scene, box: Box) -> Box:
    """A box of the same size in the middle of the picture."""
    return ((small.width - box[2]) // 2, (small.height - box[3]) // 2, box[2], box[3])


def elsewhere(small: Scene, box: Box) -> Box:
    """A box of the same size anywhere, the same for the same box."""
    rng = np.random.default_rng(box)
    return (
        int(rng.integers(0, small.width - box[2] + 1)),
        int(rng.integers(0, small.height - box[3] + 1)),
        *box[2:],
    )


#: Where the temporal expert looks instead of the chosen region.
REGIONS: dict[str, Callable[[Scene, Box], Box]] = {
    "the full frame instead of the chosen region": lambda small, _: small.whole,
    "a centre crop instead of the chosen region": centre,
    "a random region instead of the chosen region": elsewhere,
}


def look(examples: Sequence[Example], choose: Callable[[Scene, Box], Box]) -> list[Example]:
    """The same clips with other regions of the temporal expert; a whole frame stays one."""

    def move(part: Recording) -> Recording:
        whole = part.small.whole
        steps = [
            s if s.box in (None, whole) else replace(s, box=choose(part.small, s.box)) for s in part.steps
        ]
        return replace(part, steps=steps)

    return [
        replace(e, recordings=[[move(part) for part in parts] for parts in e.recordings]) for e in examples
    ]


def longer(bundle: Bundle, entries: Sequence[Entry]) -> dict[str, float]:
    """Top-1 of the exported bundle, gates auto, on the clips with five seconds of real idle before and after.

    By the rule for clips, under which ``none`` is right most of the time, and by the surest event that was told.
    """
    engines = load_engines(bundle, "onnxruntime", EngineOptions(1))
    by_mean = by_event = 0
    for entry in entries:
        stream = SubjectStream([entry], seconds=1e-3, idle_s=(10.0, 10.0))
        session = Session(bundle, engine=engines, period_ns=stream.period_ns)
        made = []
        while (frame := stream.read()) is not None:
            made += session.push(frame) or []
        made += session.finish()
        names = bundle.spec.labels
        by_mean += label_clip(made, names) == entry.label
        told = [e for e in detect_events(made, bundle.spec.events, names) if e.state == "offset"]
        by_event += bool(told) and max(told, key=lambda e: e.score).label == entry.label
    count, name = len(entries), "10 s of idle around each clip"
    return {f"{name}, by the mean of all decisions": by_mean / count, f"{name}, by event": by_event / count}


def spare(bundle: Bundle, entries: Sequence[Entry]) -> dict[str, list[float]]:
    """Top-1 and multiply-accumulates a second where spatial and hybrid expert are sampled more and more rarely."""
    engines, clips, found = (
        load_engines(bundle, "onnxruntime", EngineOptions(1)),
        list(Reader().read(entries)),
        {},
    )
    for name, interval in BUDGETS.items():
        busy = {**dict.fromkeys(STREAMS, 1), "spatial": interval, "hybrid": interval}
        settings = msgspec.structs.replace(default_settings(bundle.spec), busy_interval=busy)
        judged = [judge_clip(bundle, clip, engines=engines, settings=settings) for clip in clips]
        told = Evaluation(bundle.spec.labels, judged).as_json()
        found[name] = [told["top1"], told["macs_per_second"]]
    return found


def image_features(example: Example, variant: int, window_ns: int) -> list[np.ndarray]:
    """Per ready decision of a recording: the mean of the encoder's frame features in the window, standardised later."""
    found = []
    for recording in example.recordings[variant]:
        for t_ns in recording.decisions_ns[recording.warming :]:
            seen = [s for s in recording.spatial if t_ns - window_ns < s.t_ns <= t_ns]
            if seen:
                features = [example.store.features[s.frame, s.box][1].astype(np.float32) for s in seen]
                found.append(np.mean(features, axis=0))
    return found


def image_only(spec: ModelSpec, seen: Sequence[Example], held: Sequence[Example]) -> float:
    """A linear classifier on mean-pooled features of the frozen encoder → top-1 of the clips that are held out."""
    torch.manual_seed(0)
    labels = spec.labels
    x, y = [], []
    for example in seen:
        for variant in range(len(example.recordings)):
            features = image_features(example, variant, spec.window_ns)
            x += features
            y += [labels.index(example.label)] * len(features)
    inputs, targets = torch.from_numpy(np.stack(x)), torch.tensor(y)
    mean, std = inputs.mean(dim=0), inputs.std(dim=0) + 1e-3
    inputs = (inputs - mean) / std
    linear = torch.nn.Linear(inputs.shape[1], len(labels))
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(300):
        loss = F.cross_entropy(linear(F.dropout(inputs, 0.3)), targets, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = 0
    for example in held:
        features = torch.from_numpy(np.stack(image_features(example, 0, spec.window_ns)))
        with torch.inference_mode():
            said = int(linear((features - mean) / std).mean(dim=0).argmax())
        right += labels[said] == example.label
    return right / len(held)


def measure(fold: str, options: argparse.Namespace, image: float | None) -> dict[str, Any]:
    """All rows of one fold; ``image``: the image-only one, where it is known, because no region changes it."""
    checkpoint = Checkpoint.open(options.work / f"fold{fold}.safetensors")
    if checkpoint.story["left_out"] != [fold]:
        raise SystemExit(f"{checkpoint.path} leaves out {checkpoint.story['left_out']}, expected {fold}")
    net = build(checkpoint.spec)
    checkpoint.load_into(net)
    recipe = msgspec.convert(checkpoint.story["recipe"], Recipe)
    preparer = Preparer(checkpoint.spec, net.spatial.encoder, recipe, options.cache, lambda *_: None)
    seen, held = select(read_dataset(options.data), [fold])
    examples = preparer.record(held.entries, net.analyzer, variants=1)
    rows = {"all experts": judge(net, examples)}
    for name in EXPERTS:
        rows[f"without the {name} expert"] = judge(net, examples, without(name))
    for name, choose in REGIONS.items():
        rows[name] = judge(net, look(examples, choose))
    passes = net.fusion.passes
    for count in (1, 3):
        net.fusion.passes = count
        rows[f"{count} fusion pass{'es' * (count > 1)}"] = judge(net, examples)
    net.fusion.passes = passes
    bundle = Bundle.open(options.work / f"fold{fold}.vpbundle")
    rows |= longer(bundle, held.entries)
    if image is None:
        learned = preparer.record(seen.entries, net.analyzer, variants=recipe.variants)
        image = image_only(checkpoint.spec, learned, examples)
    rows[IMAGE] = image
    return {"left_out": fold, "clips": len(examples), "top1": rows, "budgets": spare(bundle, held.entries)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--folds", default="1,2,3,4,5,6")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(FILE.read_text()) if FILE.is_file() else []
    for fold in options.folds.split(","):
        known = next((r["top1"].get(IMAGE) for r in done if r["left_out"] == fold), None)
        row = measure(fold, options, known)
        print(json.dumps(row), flush=True)
        done = sorted([r for r in done if r["left_out"] != fold] + [row], key=lambda r: r["left_out"])
        FILE.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
