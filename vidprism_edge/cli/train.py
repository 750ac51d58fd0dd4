"""``vidprism-edge train``: from a folder of labelled clips to a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vidprism_edge.errors import UsageError


def command(
    data: Annotated[Path, typer.Argument(help="Folder with a CSV: path,label[,subject][,start,end].")],
    output: Annotated[Path, typer.Option(help="Checkpoint to write, NAME.safetensors.")],
    preset: Annotated[str, typer.Option(help="The network; its labels come from the data.")] = "nano",
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Subject to judge on, not to learn from; repeatable.")
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(help="Folder (or DIR/pattern*) of videos of nothing.")
    ] = None,
    none: Annotated[bool, typer.Option(help="Learn a class none from idle parts and negatives.")] = True,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            help="a=b: seen in a mirror, a is b and b is a; a: stays a. Others are not mirrored. Repeatable."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Checkpoint of other labels to begin with, or a preset that ships trained: nano."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="JSON file with another training recipe.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random [the recipe's].")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where torch sees a GPU.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch; 0: as many as there are cores.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder of sampled streams [the user's cache].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing checkpoint.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network on your own clips. A run that was killed goes on when the same command is given again."""
    from vidprism_edge.calibration.data import read_dataset
    from vidprism_edge.cli.console import print_json, progress_bar, say
    from vidprism_edge.spec import find_shipped, load_preset

    spec = load_preset(preset)
    if threads < 0:
        raise UsageError(f"--threads is {threads}; expected 0 or more")
    # what is wrong with the data is said before torch is loaded
    read_dataset(data).pick(leave_out or None)

    import torch

    from vidprism_edge.training.recipe import load_recipe
    from vidprism_edge.training.run import TrainOptions, train

    if threads:
        torch.set_num_threads(threads)
    plan = load_recipe(recipe)
    if seed is not None:
        plan = msgspec.structs.replace(plan, seed=seed)
    options = TrainOptions(
        spec,
        data,
        output,
        plan,
        tuple(leave_out or ()),
        tuple(mirror or ()),
        negatives,
        none,
        device,
        cache,
        (find_shipped(init) or Path(init)) if init else None,
        force=force,
    )
    with progress_bar(f"train {preset}") as progress:
        result = train(options, progress, say)
    if result.skipped is not None:
        say(result.skipped)
    say(f"{result.checkpoint}: {len(result.labels)} labels, {result.clips} clips, {result.seconds:.0f} s")
    if result.held_out is not None:
        top1, clips = result.held_out["top1"], result.held_out["clips"]
        say(f"left out {', '.join(leave_out or ())}: top-1 {top1:.1%} of {clips} clips")
    if as_json:
        print_json(dataclasses.asdict(result) | {"checkpoint": str(result.checkpoint)})
