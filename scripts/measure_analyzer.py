"""Does the analyzer earn its name on a subject that it has not seen? One JSON row a fold: docs/results/analyzer.json.

Saliency against the frozen encoder's activation map, motion against the frame differences (Spearman over all cells
of all frames), and the share of a decision's frame-difference energy that lies in the temporal expert's region.

    python scripts/measure_analyzer.py --checkpoint FILE --data DIR --subject S [--cache DIR]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vidprism_edge.calibration.data import read_dataset
from vidprism_edge.model.checkpoint import Checkpoint
from vidprism_edge.model.clip import looked_back_ns
from vidprism_edge.model.network import build
from vidprism_edge.spec import ModelSpec
from vidprism_edge.training.prepare import Example, Preparer, default_cache
from vidprism_edge.training.recipe import Recipe
from vidprism_edge.training.teaching import make_lessons

ROOT = Path(__file__).resolve().parents[1]
#: A pixel has changed when it differs by this many grey levels.
CHANGED = 6


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; equal values share the mean of their ranks, as most cells have no motion at all."""
    ranks = []
    for x in (a, b):
        _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[inverse])
    return float(np.corrcoef(*ranks)[0, 1])


def region_share(spec: ModelSpec, example: Example) -> list[float]:
    """Per ready decision: energy of the frame differences inside the box of each followed step, over all of it."""
    found = []
    frames = example.store.frames
    for recording in example.recordings[0]:
        runs = recording.runs(spec.receptive_field)
        for t_ns in recording.decisions_ns[recording.warming :]:
            inside = total = 0.0
            back = looked_back_ns(((run.t_ns[0], run.begin_ns) for run in runs), t_ns)
            for run in (run for run in runs if back <= run.begin_ns <= t_ns):
                for time, index in zip(run.t_ns, run.frames[run.warm :], strict=True):
                    if (
                        not t_ns - spec.window_ns < time <= t_ns
                        or index == 0
                        or run.box == recording.small.whole
                    ):
                        continue
                    change = np.abs(frames[index].astype(np.int16) - frames[index - 1]).mean(axis=2)
                    change[change < CHANGED] = 0.0
                    x, y, w, h = run.box
                    inside += float(change[y : y + h, x : x + w].sum())
                    total += float(change.sum())
            if total:
                found.append(inside / total)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--subject", required=True)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    checkpoint = Checkpoint.open(options.checkpoint)
    if options.subject not in checkpoint.story["left_out"]:
        parser.error(f"{options.checkpoint} has learned from subject {options.subject}")
    spec = checkpoint.spec
    net = build(spec)
    checkpoint.load_into(net)
    entries = read_dataset(options.data).pick([options.subject]).entries
    cache = options.cache or default_cache()
    preparer = Preparer(spec, net.spatial.encoder, Recipe(), cache, lambda *_: None)
    lessons = make_lessons(spec, [e.store for e in preparer.open(entries)])
    with torch.inference_mode():
        saliency, motion = net.analyzer(lessons.frames, lessons.previous)
    differences = (lessons.frames - lessons.previous).abs().mean(dim=1)
    differences = F.avg_pool2d(differences, differences.shape[-1] // spec.analyzer_grid)
    shares = np.array(
        [s for e in preparer.record(entries, net.analyzer, variants=1) for s in region_share(spec, e)]
    )
    row = {
        "left_out": options.subject,
        "frames": len(lessons.frames),
        "saliency_spearman": spearman(saliency.numpy().ravel(), lessons.saliency.numpy().ravel()),
        "motion_spearman": spearman(motion.numpy().ravel(), differences.numpy().ravel()),
        # what it was taught is 0 wherever the difference is no more than noise: most cells share one rank there
        "motion_spearman_taught": spearman(motion.numpy().ravel(), lessons.motion.numpy().ravel()),
        "motion_pearson": float(np.corrcoef(motion.numpy().ravel(), lessons.motion.numpy().ravel())[0, 1]),
        "decisions": len(shares),
        "region_mean_share": float(shares.mean()),
        "region_at_least_80": float((shares >= 0.8).mean()),
    }
    file = ROOT / "docs" / "results" / "analyzer.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    rows = sorted([r for r in rows if r["left_out"] != options.subject] + [row], key=lambda r: r["left_out"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
