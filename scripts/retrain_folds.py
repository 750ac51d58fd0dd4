"""What each part of the network is worth, trained anew without it: docs/results/retrained.json, one row a job.

The temporal expert learns by itself first, the same way in every row, and once a fold. Then the whole network learns
as the recipe says, with a part of it missing: an expert whose slots are masked in every decision, in training and in
judging; what moves does not reach the spatial side (one-way fusion); one fusion pass, or three. Where the temporal
expert looks elsewhere, it learns to do so from the beginning. Nothing missing is the fold's own checkpoint. Top-1 of
clips in torch, on the fold's own left-out subject. A row that is there is not made again; a run that was killed goes
on.

    python scripts/retrain_folds.py --data DIR --negatives 'DIR/asl_*.mkv' --work DIR [--cache DIR] [--folds 1,4,5]
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from ablate_folds import REGIONS, look, without
from train_baselines import open_fold

from vidprism_edge.model.network import VidPrism, build
from vidprism_edge.spec import ModelSpec
from vidprism_edge.training.batches import Collator, Item
from vidprism_edge.training.forward import Batch
from vidprism_edge.training.prepare import Example, default_cache
from vidprism_edge.training.recipe import Recipe, read_mirror
from vidprism_edge.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "results" / "retrained.json"
Change = Callable[[Batch], None]


def one_way(batch: Batch) -> None:
    """What moves is carried to no place of the scene: the spatial tokens stay as they are."""
    batch.temporal_matrices[0].zero_()


def as_is(batch: Batch) -> None:
    """Everything is there."""


#: what is missing, and the passes of the fusion loop (0: the spec's own)
ROWS: dict[str, tuple[Change, int]] = {
    "without the spatial expert": (without("spatial"), 0),
    "without the hybrid expert": (without("hybrid"), 0),
    "without the temporal expert": (without("temporal"), 0),
    "one-way fusion, spatial to temporal": (one_way, 0),
    "1 fusion pass": (as_is, 1),
    "3 fusion passes": (as_is, 3),
    **dict.fromkeys(REGIONS, (as_is, 0)),
}


class Altered(Collator):
    """Joins clips into batches from which something is missing."""

    def __init__(self, spec: ModelSpec, change: Change) -> None:
        super().__init__(spec)
        self._change = change

    def join(self, items: Sequence[Item]) -> Batch:
        batch = super().join(items)
        self._change(batch)
        return batch


class Fold:
    """What one left-out subject's rows share: examples, and the temporal expert that has learned by itself."""

    def __init__(self, fold: str, options: argparse.Namespace) -> None:
        self._checkpoint, _, self._seen, self._held = open_fold(fold, options)
        self._recipe = msgspec.convert(self._checkpoint.story["recipe"], Recipe)
        self._mirror = read_mirror(self._checkpoint.story["mirror"], self._checkpoint.spec.labels)
        self._folder = options.work / "retrained" / f"fold{fold}"

    def _fresh(self) -> VidPrism:
        return build(self._checkpoint.spec, seed=self._recipe.seed)

    def _trainer(
        self,
        net: VidPrism,
        seen: Sequence[Example],
        recipe: Recipe,
        folder: Path,
        collator: Collator | None = None,
    ) -> Trainer:
        return Trainer(net, seen, recipe, self._mirror, folder=folder, say=print, collator=collator)

    def _alone(self) -> Path:
        """The state after the temporal expert has learned by itself; made when the first row asks for it."""
        if not self._folder.is_dir():
            count = sum(not stage.joint for stage in self._recipe.stages)
            part = self._folder.with_suffix(".part")
            self._trainer(self._fresh(), self._seen, self._recipe, part).train(count)
            part.rename(self._folder)
        return self._folder

    def measure(self, row: str) -> float:
        """Train one row → top-1 of the left-out clips."""
        change, passes = ROWS[row]
        net, recipe, seen, held = self._fresh(), self._recipe, self._seen, self._held
        net.fusion.passes = passes or net.fusion.passes
        folder = self._folder.with_name(f"{self._folder.name}-{list(ROWS).index(row)}")
        if row == "without the temporal expert":
            stages = tuple(stage for stage in recipe.stages if stage.joint)
            recipe = msgspec.structs.replace(recipe, stages=stages)
        elif row in REGIONS:
            seen, held = (look(examples, REGIONS[row]) for examples in (seen, held))
        elif not folder.is_dir():
            shutil.copytree(self._alone(), folder)
        trainer = self._trainer(net, seen, recipe, folder, Altered(net.spec, change))
        trainer.train()
        top1 = trainer.evaluate(held).top1
        shutil.rmtree(folder)
        return top1


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
        shared: Fold | None = None
        for row in names:
            done: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.is_file() else []
            if any(r["row"] == row and r["left_out"] == fold for r in done):
                continue
            shared = shared or Fold(fold, options)
            started = time.process_time()
            made = {"row": row, "left_out": fold, "top1": shared.measure(row)}
            made["seconds"] = round(time.process_time() - started)
            print(json.dumps(made), flush=True)
            done = json.loads(FILE.read_text()) if FILE.is_file() else []
            FILE.write_text(json.dumps([*done, made], indent=1) + "\n")


if __name__ == "__main__":
    main()
