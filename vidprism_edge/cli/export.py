"""``vidprism-edge export``: from a preset to a bundle."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from vidprism_edge.cli.engine_flags import Threads
from vidprism_edge.errors import EngineError, UsageError

if TYPE_CHECKING:
    from vidprism_edge.bundle import Bundle


def read_labels(text: str) -> tuple[str, ...]:
    """Parse ``--labels``: names separated by commas, or a file with one name a line."""
    path = Path(text)
    if path.suffix == ".txt":
        try:
            names = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read the labels from {path}: {error}; expected one name a line"
            ) from None
    else:
        names = text.split(",")
    return tuple(name.strip() for name in names if name.strip())


def zip_bundle(folder: Path) -> Path:
    """Pack a bundle into FOLDER.zip beside it; an older one is replaced when the new one is whole."""
    import os
    import shutil

    part = shutil.make_archive(
        str(folder.with_name(f".{folder.name}.part")), "zip", folder.parent, folder.name
    )
    archive = folder.with_name(f"{folder.name}.zip")
    os.replace(part, archive)
    return archive


def check_jetson(targets: list[str], jetpack: str | None, build: bool) -> None:
    """Refuse a JetPack or a build without a Jetson, and a JetPack that is too old or that the board does not run."""
    from vidprism_edge.export.targets.jetson import find_limits, list_boards

    boards = [name for name in targets if name in list_boards()]
    for board in boards:
        find_limits(board, jetpack)
    if jetpack is not None and not boards:
        raise UsageError(f"--jetpack is {jetpack}; expected with --target jetson or one of its boards")
    if build and not boards:
        raise UsageError(
            "--build was given; expected with --target jetson or one of its boards: no other target's engines are built"
        )


def build_here(bundle: Bundle) -> None:
    """Build this machine's engines into a bundle that is already whole. Raises :class:`EngineError` where it cannot."""
    from vidprism_edge.cli.build import build_engines, show
    from vidprism_edge.export.build import BuildOptions

    try:
        show(build_engines(bundle, BuildOptions()))
    except EngineError as error:
        raise EngineError(
            f"{bundle.root} is written and its graphs are proved, but --build cannot build its engines here: {error}. "
            f"On the device: vidprism-edge build {bundle.root.name}"
        ) from error


def repeat(values: Mapping[str, Any], *, recipe: bool) -> str:
    """The line of ``reproduce.sh``: every flag that is not at its default; the choice of precisions by its recipe."""
    import inspect

    jetson = any(target.startswith("jetson") for target in values["target"])
    words = ["vidprism-edge", "export"]
    for name, parameter in inspect.signature(command).parameters.items():
        value = values[name]
        if name in ("output", "recipe", "zipped", "build", "dry_run", "force") or value == parameter.default:
            continue
        if name == "precision" and recipe and not jetson:
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        else:
            words += [w for v in (value if isinstance(value, list) else [value]) for w in (flag, str(v))]
    line = shlex.join(words) + ' --output "${1:-$bundle.again}"'
    return line + (' --recipe "$bundle/calibration/recipe.json"' if recipe else "")


def command(
    target: Annotated[
        list[str],
        typer.Option("--target", help="onnx, openvino, jetson or a board (see `targets`); repeatable."),
    ],
    output: Annotated[Path | None, typer.Option(help="Folder of the bundle [PRESET.vpbundle].")] = None,
    preset: Annotated[str, typer.Option(help="nano, clip-b32 or clip-b16.")] = "nano",
    labels: Annotated[str | None, typer.Option(help="a,b,c or a .txt file with one label a line.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Trained parts, from `train`: network and labels are its own [nano: those shipped]."
        ),
    ] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Draw the trained parts at random.")] = False,
    encoder: Annotated[
        str | None, typer.Option(help="CLIP presets: local folder or hub id of the encoder.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32 (jetson: fp16), bf16, fp16, int8, or auto: the fastest that is right.")
    ] = "fp32",
    jetpack: Annotated[
        str | None, typer.Option(help="jetson: the JetPack to export for [all that the board runs].")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Repeat the choice that an export with auto wrote, or one of yours.")
    ] = None,
    calib_data: Annotated[
        Path | None,
        typer.Option(help="Your video for int8 and auto: a folder with a CSV, of videos, or a file."),
    ] = None,
    calib_samples: Annotated[int, typer.Option(help="Calibration samples a graph.")] = 300,
    max_drop: Annotated[
        float, typer.Option(help="Largest loss of top-1 against fp32 (without labels: of agreement).")
    ] = 0.01,
    threads: Threads = 0,
    random_weights: Annotated[bool, typer.Option(help="Random encoder too: for latency work only.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of untrained weights and of golden data.")] = 0,
    atol: Annotated[
        float | None, typer.Option(help="Absolute part of the parity tolerance [by precision; fp32: 1e-4].")
    ] = None,
    rtol: Annotated[
        float | None, typer.Option(help="Relative part of the parity tolerance [by precision; fp32: 1e-4].")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 20.")] = 20,
    zipped: Annotated[bool, typer.Option("--zip", help="Also write the bundle as one .zip file.")] = False,
    build: Annotated[
        bool, typer.Option("--build", help="jetson: also build this machine's engines; exit 3 if it cannot.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    force: Annotated[bool, typer.Option(help="Replace an existing bundle.")] = False,
) -> None:
    """Write a bundle: every component its own graph, with golden vectors, hashes and proof of parity."""
    values = dict(locals())
    import signal

    from vidprism_edge.cli.console import progress_bar, say
    from vidprism_edge.export.targets import check_target
    from vidprism_edge.spec import find_shipped, load_preset

    for name in target:
        check_target(name)
    check_jetson(target, jetpack, build)
    asked = read_labels(labels) if labels is not None else None
    spec, trained = load_preset(preset, asked), None
    if checkpoint is None and not (untrained or random_weights or asked is not None):
        checkpoint = find_shipped(preset)
    if checkpoint is not None:
        from vidprism_edge.model.checkpoint import Checkpoint

        if untrained:
            raise UsageError("--untrained and --checkpoint were given; expected one of them")
        trained = Checkpoint.open(checkpoint)
        trained.check_labels(asked)
        spec = trained.spec
    if encoder is not None:
        if spec.encoder.kind != "clip":
            raise UsageError(f"--encoder is for the clip presets; preset {preset} has {spec.encoder.kind}")
        spec = msgspec.structs.replace(spec, encoder=msgspec.structs.replace(spec.encoder, source=encoder))
    folder = output or Path(f"{preset}.vpbundle")
    if folder.exists() and not force:
        raise UsageError(f"{folder} exists; give another --output, or --force to replace it")
    if opset not in range(18, 21):
        raise UsageError(
            f"--opset is {opset}; expected 18 to 20: older ones lack native LayerNormalization, "
            "newer ones do not run everywhere"
        )
    from vidprism_edge.calibration.convert import KINDS
    from vidprism_edge.calibration.recipes import Recipe
    from vidprism_edge.export.precision import PrecisionPlan

    plan = PrecisionPlan(
        precision, None if recipe is None else Recipe.open(recipe), calib_data, calib_samples, seed, max_drop, threads,
        tuple(trained.story.get("left_out") or ()) if trained is not None else (),
    )  # fmt: skip
    plan.check(target)
    if dry_run:
        say(f"would export preset {preset} ({len(spec.labels)} labels) for {', '.join(target)} to {folder}")
        return
    # a service manager's stop is a user's Ctrl-C: what is half-written is taken away
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from vidprism_edge.export.pipeline import ExportOptions, export_bundle

    options = ExportOptions(
        spec, tuple(dict.fromkeys(target)), folder, seed=seed, random_weights=random_weights,
        checkpoint=trained,
        force=force, atol=atol, rtol=rtol, opset=opset, plan=plan, jetpack=jetpack,
        command=repeat(values, recipe=not plan.trivial and any(t in KINDS for t in target)),
    )  # fmt: skip
    with progress_bar(f"export {preset}") as progress:
        bundle = export_bundle(options, progress, say)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    say(f"{folder}: {len(bundle.manifest.graphs)} graphs, {size:.1f} MB, parity proved")
    if bundle.manifest.engines == "deferred" and not build:
        say(f"engines are deferred: copy it to the device and run there: vidprism-edge build {folder.name}")
    if zipped:
        archive = zip_bundle(folder)
        say(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB; unzip it on the device before use")
    if not bundle.manifest.trained:
        say("the trained parts are still random: its labels mean nothing and are shown as untrained")
    if build:
        build_here(bundle)
