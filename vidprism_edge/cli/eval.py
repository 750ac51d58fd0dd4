"""``vidprism-edge eval``: how often a bundle is right, on the engine that will run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidprism_edge.cli.engine_flags import Device, EngineCache, EngineName, Streams, Threads, engine_options
from vidprism_edge.errors import UsageError


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder written by `vidprism-edge export`.")],
    data: Annotated[Path, typer.Option(help="Folder with a CSV: path,label[,subject][,start,end].")],
    subjects: Annotated[str | None, typer.Option(help="Only these subjects, separated by commas.")] = None,
    engine: EngineName = "onnxruntime",
    threads: Threads = 0,
    device: Device = "CPU",
    streams: Streams = 1,
    engine_cache: EngineCache = None,
    gates: Annotated[str, typer.Option(help="auto, or open: every expert always runs.")] = "auto",
    picture: Annotated[Path | None, typer.Option(help="Draw the confusion matrix to this .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Play labelled clips through a bundle: top-1, per class, and what it costs. `none` is wrong for an action."""
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.calibration.data import read_dataset
    from vidprism_edge.calibration.evaluation import draw_confusion, evaluate
    from vidprism_edge.cli.console import choose, print_json, print_table, progress_bar, say

    opened = Bundle.open(bundle)
    choose("gates", gates, ("auto", "open"))
    if picture is not None and not picture.absolute().parent.is_dir():
        raise UsageError(
            f"cannot write {picture}: the folder {picture.absolute().parent} does not exist; make it first"
        )
    if not opened.manifest.trained:
        say("this bundle is untrained: its labels mean nothing, and so does this measurement")
    chosen = [s.strip() for s in subjects.split(",") if s.strip()] if subjects is not None else None
    with progress_bar("eval") as progress:
        result = evaluate(
            opened, read_dataset(data), engine=engine, gates=gates, subjects=chosen,
            options=engine_options(threads, device, streams, engine_cache),
            progress=lambda done, total: progress("clips", done, total),
        )  # fmt: skip
    if result.skipped:
        names = "; ".join(f"{path.name} ({reason})" for path, reason in result.skipped.items())
        say(f"{len(result.skipped)} clips skipped because they do not decode: {names}")
    if picture is not None:
        draw_confusion(result, picture, bundle.name)
    told = result.as_json() | {
        "trained": opened.manifest.trained,
        "engine": engine,
        "gates": gates,
        "subjects": chosen,
    }
    if as_json:
        print_json(told)
        return
    from rich.table import Table

    table = Table("class", "top-1", "clips", title=f"{bundle} on {data}")
    counts = result.confusion().sum(axis=1)
    for (name, share), count in zip(result.per_class().items(), counts, strict=True):
        table.add_row(name, "–" if share is None else f"{share:.1%}", str(count))
    table.add_section()
    table.add_row("all", f"{result.top1:.1%}", str(len(result.clips)))
    print_table(table, f"{told['macs_per_second'] / 1e6:.0f} million multiply-accumulates a second of video")
