"""One training run: from a folder of clips to a checkpoint."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch

from vidprism_edge.calibration.data import DataSet, Entry, read_dataset, read_folder
from vidprism_edge.errors import UsageError
from vidprism_edge.model.analyzer import Analyzer
from vidprism_edge.model.checkpoint import Checkpoint, save_checkpoint, trained_state
from vidprism_edge.model.network import VidPrism, build
from vidprism_edge.runtimes.streaming.motion import RegionRule
from vidprism_edge.spec import NONE, ModelSpec
from vidprism_edge.training.prepare import Example, Preparer, default_cache, select
from vidprism_edge.training.recipe import Recipe, read_mirror
from vidprism_edge.training.trainer import Progress, Trainer


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What is trained, on what, and where the checkpoint goes."""

    spec: ModelSpec
    data: Path
    output: Path
    recipe: Recipe = field(default_factory=Recipe)
    leave_out: tuple[str, ...] = ()
    mirror: tuple[str, ...] = ()
    negatives: Path | None = None
    #: Whether the class ``none`` is learned beside the data's own.
    none: bool = True
    device: str = "cpu"
    cache: Path | None = None
    #: Checkpoint of other labels that the network begins with.
    init: Path | None = None
    random_weights: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave; ``held_out`` is None where no subject was left out."""

    checkpoint: Path
    labels: tuple[str, ...]
    clips: int
    skipped: str | None
    held_out: dict[str, Any] | None
    seconds: float


def train(
    options: TrainOptions, progress: Progress = lambda *_: None, say: Callable[[str], None] = lambda _: None
) -> Result:
    """Prepare, train and write the checkpoint; a run that was killed goes on where its last epoch ended."""
    started = time.perf_counter()
    _check(options)
    data = read_dataset(options.data)
    labels = (*data.labels, NONE) if options.none and NONE not in data.labels else data.labels
    spec = msgspec.structs.replace(options.spec, labels=labels)
    mirror = read_mirror(options.mirror, labels)
    negatives = read_folder(options.negatives, NONE) if options.negatives is not None else ()
    seen, held = select(data, options.leave_out)
    net = build(spec, seed=options.recipe.seed, random_weights=options.random_weights)
    begun = None if options.init is None else Checkpoint.open(options.init)
    if begun is not None:
        begun.start(net)
    cache = options.cache or default_cache()
    preparer = Preparer(spec, net.spatial.encoder, options.recipe, cache, progress)
    examples = _prepare(preparer, net, seen, negatives, options)
    _check_classes(labels, examples)
    folder = options.output.with_name(options.output.name + ".run")
    trainer = Trainer(
        net,
        examples,
        options.recipe,
        mirror,
        folder=folder,
        device=options.device,
        progress=progress,
        say=say,
        begun=begun is not None,
    )
    trainer.train()
    judged = None
    if held is not None:
        judged = _judge(trainer, preparer.record(held.entries, net.analyzer, variants=1))
    story = _tell(options, data, examples, preparer.analyzer_loss, begun)
    net.cpu()
    save_checkpoint(options.output, spec, trained_state(net), story)
    shutil.rmtree(folder, ignore_errors=True)
    return Result(
        options.output, labels, len(examples), preparer.skipped, judged, time.perf_counter() - started
    )


def _check(options: TrainOptions) -> None:
    if options.output.exists() and not options.force:
        raise UsageError(f"{options.output} exists; give another --output, or --force to replace it")
    if options.output.suffix != ".safetensors":
        raise UsageError(f"--output is {options.output}; expected a name that ends in .safetensors")
    if options.device != "cpu" and not (options.device.startswith("cuda") and torch.cuda.is_available()):
        raise UsageError(
            f"--device {options.device} is not there; expected cpu, or cuda where torch sees a GPU"
        )


def _prepare(
    preparer: Preparer, net: VidPrism, data: DataSet, negatives: tuple[Entry, ...], options: TrainOptions
) -> list[Example]:
    """The analyzer is taught first, because the regions of everything else follow from its maps."""
    opened = preparer.open(data.entries)
    if not opened:
        raise UsageError(preparer.skipped or f"no clip in {data.root} could be read")
    preparer.teach(net.analyzer, opened)
    return record_all(preparer, net.analyzer, data, negatives, options.recipe, none=options.none)


def record_all(
    preparer: Preparer,
    analyzer: Analyzer,
    data: DataSet,
    negatives: Sequence[Entry],
    recipe: Recipe,
    *,
    none: bool = True,
) -> list[Example]:
    """All that is learned from: clips and negatives in their variants, and what is made of some of the clips."""
    region = RegionRule(recipe.region_room, recipe.region_step, recipe.region_too_large)
    examples = preparer.record(data.entries, analyzer, variants=recipe.variants, region=region)
    if negatives:
        examples += preparer.record(negatives, analyzer, variants=recipe.variants, region=region)
    for made, every, variants in (
        ("idle", recipe.idle_every, 1),
        ("far", recipe.far_every, 2),
        ("stream", recipe.stream_every, 2),
        ("passing", recipe.passing_every, 2),
    ):
        if every and (none or made == "far"):
            examples += preparer.record(
                data.entries[::every], analyzer, variants=variants, made=made, region=region
            )
    return examples


def _check_classes(labels: tuple[str, ...], examples: list[Example]) -> None:
    """Clips that do not decode may have emptied a class."""
    if empty := [name for name in labels if not any(e.label == name for e in examples)]:
        hint = "; give --negatives, or --no-none" if NONE in empty else ""
        raise UsageError(f"no clip of class {', '.join(empty)} could be read{hint}")


def _judge(trainer: Trainer, examples: list[Example]) -> dict[str, Any]:
    outcome = trainer.evaluate(examples)
    wrong = [e.store.folder.name for e, right in zip(examples, outcome.right, strict=True) if not right]
    return {
        "top1": outcome.top1,
        "clips": outcome.clips,
        "wrong": len(wrong),
        "temporal_top1": outcome.auxiliary_top1,
    }


def _tell(
    options: TrainOptions,
    data: DataSet,
    examples: list[Example],
    analyzer_loss: float | None,
    begun: Checkpoint | None,
) -> dict[str, Any]:
    """What explains the weights. No path of this machine is in it."""
    return {
        "data": data.root.name,
        "clips": len(examples),
        "subjects": [s for s in data.subjects if s not in options.leave_out],
        "left_out": list(options.leave_out),
        "mirror": list(options.mirror),
        "negatives": options.negatives.name if options.negatives is not None else None,
        "init": None if begun is None else begun.story,
        "random_encoder": options.random_weights,
        "analyzer_loss": analyzer_loss,
        "recipe": msgspec.to_builtins(options.recipe),
        "tools": {name: importlib.metadata.version(name) for name in ("vidprism-edge", "torch", "numpy")},
    }
