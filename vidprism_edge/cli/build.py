"""``vidprism-edge build``: the one step that only the device can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidprism_edge.errors import EngineError

if TYPE_CHECKING:
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.export.build import Build, BuildOptions
    from vidprism_edge.runtimes.engines.device_key import Device

#: Older ones have no strongly typed networks.
MIN_TENSORRT = (10, 3)


def check_device(device: Device) -> None:
    """Raise :class:`EngineError` for a JetPack or TensorRT that is too old, with the way out."""
    from vidprism_edge.export.targets.jetson import find_jetpack, parse_version

    jetpack = find_jetpack(device.l4t) if device.l4t else None
    if jetpack is not None:
        jetpack.check()
    if parse_version(device.tensorrt) < MIN_TENSORRT:
        raise EngineError(
            f"TensorRT {device.tensorrt} is too old; expected {'.'.join(map(str, MIN_TENSORRT))} or later (JetPack "
            "6.1 or later)"
        )


def find_device() -> Device:
    """Return this machine as engines see it. Raises :class:`EngineError` where no engine can be built."""
    from vidprism_edge.runtimes.engines.cuda import Cuda, import_cuda
    from vidprism_edge.runtimes.engines.tensorrt import describe_device, import_tensorrt

    trt = import_tensorrt()
    cuda = Cuda(import_cuda())
    try:
        device = describe_device(trt, cuda)
    finally:
        cuda.close()
    check_device(device)
    return device


def build_engines(bundle: Bundle, options: BuildOptions, device: Device | None = None) -> Build:
    """Build what is missing, with a progress bar. Raises :class:`EngineError` unless every component has an engine."""
    import psutil

    from vidprism_edge.cli.console import progress_bar, say
    from vidprism_edge.export.build import DeviceBuild

    device = device or find_device()
    with progress_bar(f"build for {device.board}") as progress:
        build = DeviceBuild(bundle, device, options).run(psutil.virtual_memory().available, progress)
    for name, reason in build.failed.items():
        say(f"{name}: {reason}")
    missing = [name for name in bundle.graphs if name not in build.record.chosen]
    if missing:
        raise EngineError(
            f"{', '.join(missing)}: no engine could be built ({len(build.record.chosen)} are kept in {build.folder}); "
            f"mend what is said above and run `vidprism-edge build {bundle.root}` again"
        )
    return build


def build_missing(bundle: Bundle, *, dla: bool) -> None:
    """Build this device's engines where they are not all there; those that are there stay as they were chosen."""
    from vidprism_edge.cli.console import say
    from vidprism_edge.export.build import BuildOptions, list_candidates
    from vidprism_edge.runtimes.engines.device_key import find_engine_file, open_build

    list_candidates(bundle, "auto")
    device = find_device()
    try:
        folder, record = open_build(bundle, device, dla=dla)
        for name in bundle.graphs:
            graph = bundle.graphs_for("jetson", record.chosen.get(name))[name]
            find_engine_file(bundle.root, record, graph, folder)
    except EngineError as error:
        say(f"{error}: building now")
        build_engines(bundle, BuildOptions(dla=dla), device)


def show(build: Build) -> None:
    """A line for every component: what runs, how fast, how far off, and what was dropped."""
    from rich.table import Table

    from vidprism_edge.cli.console import print_table

    table = Table(box=None, pad_edge=False)
    for column in (
        "component",
        "precision",
        "ms a run",
        "of tolerance",
        "build",
        "on the GPU beside DLA",
        "dropped",
    ):
        table.add_column(column)
    for record in build.record.engines:
        if build.record.chosen.get(record.graph) == record.precision:
            fallback = ", ".join(record.gpu_fallback[:4]) + (" …" if len(record.gpu_fallback) > 4 else "")
            table.add_row(
                record.graph, record.precision, f"{record.latency_ms:.3f}", f"{record.of_tolerance:.1%}",
                f"{record.build_s:.1f} s", fallback, build.record.dropped.get(record.graph, ""),
            )  # fmt: skip
    device = build.record.device
    print_table(
        table,
        f"{device.board}, L4T {device.l4t or 'none'}, TensorRT {device.tensorrt}, CUDA {device.cuda}: {build.folder}",
        f"{len(build.built)} built, {len(build.kept)} kept from before",
    )


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle that was exported for a Jetson.")],
    precision: Annotated[
        str, typer.Option(help="fp16, int8, or auto: build both where there are both, keep the faster.")
    ] = "auto",
    dla: Annotated[
        bool, typer.Option("--dla", help="Run the spatial expert on DLA, the rest of it on the GPU.")
    ] = False,
    workspace_mb: Annotated[int, typer.Option(help="Scratch memory that TensorRT may use, MiB.")] = 512,
    force: Annotated[bool, typer.Option(help="Build anew what is there already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print build.json on stdout.")] = False,
) -> None:
    """Build TensorRT engines for this device, each proved before it counts; run it again to go on where it stopped."""
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.cli.console import choose, print_json
    from vidprism_edge.errors import UsageError
    from vidprism_edge.export.build import BuildOptions, list_candidates

    if workspace_mb < 16:
        raise UsageError(f"--workspace-mb is {workspace_mb}; expected 16 or more")
    options = BuildOptions(
        choose("precision", precision, ("auto", "fp16", "int8")), dla, force, workspace_mb << 20
    )
    opened = Bundle.open(bundle)
    list_candidates(opened, options.precision)
    build = build_engines(opened, options)
    if as_json:
        print_json(build.record)
    else:
        show(build)
