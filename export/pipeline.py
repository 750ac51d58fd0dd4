"""The export pipeline: small stages with declared inputs and outputs, checked before anything runs.

A graph comes from :mod:`vidprism_edge.export.graphs`, its golden vectors from :mod:`vidprism_edge.export.golden`, and
both are proved by :mod:`vidprism_edge.export.verification` before the bundle takes its place.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from vidprism_edge.bundle import Bundle, GraphInfo, Manifest, TensorInfo, hash_file, writing
from vidprism_edge.calibration.convert import KINDS
from vidprism_edge.errors import ParityError, UsageError
from vidprism_edge.export.golden import GoldenMaker
from vidprism_edge.export.graphs import (
    DEFAULT_OPSET,
    GraphSpec,
    count_macs,
    describe_graphs,
    shape_of,
    to_onnx,
)
from vidprism_edge.export.jetson import JetsonPlan, add_jetson_graphs, find_boards
from vidprism_edge.export.precision import PrecisionPlan, add_target_graphs
from vidprism_edge.export.targets import check_target
from vidprism_edge.export.verification import ParityReport, check_tolerance, find_tolerance, verify_bundle
from vidprism_edge.model.checkpoint import Checkpoint
from vidprism_edge.model.network import VidPrism, build
from vidprism_edge.runtimes.engines import EngineOptions
from vidprism_edge.spec import ModelSpec

Tell = Callable[[str], None]
Progress = Callable[[str, int, int], None]


REPRODUCE = """#!/bin/sh
# repeats the export that made this bundle, where its data and checkpoint are: reproduce.sh [OUTPUT]
set -eu
bundle=$(cd "$(dirname "$0")" && pwd)
{command}
"""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported, for what, and where to."""

    spec: ModelSpec
    targets: tuple[str, ...]
    output: Path
    seed: int = 0
    random_weights: bool = False
    #: the trained parts; ``spec`` is then the checkpoint's
    checkpoint: Checkpoint | None = None
    force: bool = False
    #: parity tolerance in place of the one of each precision
    atol: float | None = None
    rtol: float | None = None
    opset: int = DEFAULT_OPSET
    #: precision, calibration and gate of the targets whose graphs are converted here
    plan: PrecisionPlan = field(default_factory=PrecisionPlan)
    #: the one JetPack that a Jetson's graphs are for; None: every one that the board runs
    jetpack: str | None = None
    #: the command that repeats this export, kept as ``reproduce.sh``
    command: str = ""


@dataclass(slots=True)
class Job:
    """What the stages hand on; a field is filled by the stage that names it in ``provides``."""

    options: ExportOptions
    folder: Path
    progress: Progress
    tell: Tell
    net: VidPrism | None = None
    graphs: dict[str, GraphSpec] = field(default_factory=dict)
    infos: list[GraphInfo] = field(default_factory=list)
    golden: list[str] = field(default_factory=list)
    manifest: Manifest | None = None
    parity: ParityReport | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: the fields of the job that must be there before it, and those that are there after it."""

    name: str
    run: Callable[[Any], None]
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()


def _build(job: Job) -> None:
    job.net = build(job.options.spec, seed=job.options.seed, random_weights=job.options.random_weights)
    if job.options.checkpoint is not None:
        job.options.checkpoint.load_into(job.net)
    job.graphs = {graph.name: graph for graph in describe_graphs(job.net)}
    job.tell(estimate(job.options, job.graphs))


def estimate(options: ExportOptions, graphs: Mapping[str, GraphSpec]) -> str:
    """One line on the memory and disk that an export takes at most, from the parameters and the samples' shapes."""
    parameters = {p for graph in graphs.values() for p in graph.module.parameters()}
    weights = 4 * sum(p.numel() for p in parameters)
    plan = options.plan
    made = [t for t in options.targets if t in KINDS]
    samples = 4 * plan.samples * sum(math.prod(i.shape) for graph in graphs.values() for i in graph.inputs)
    # golden vectors, and while candidates are compared one that is about to go beside each that stays
    disk = weights * (2 + (1 if plan.trivial else 3) * len(made))
    memory = 4 * weights + (samples if plan.needs_data else 0)
    return f"about {memory / 1e9:.1f} GB of memory beside the libraries' own and {disk / 1e9:.2f} GB of disk are needed"


def _trace(job: Job) -> None:
    (job.folder / "graphs/onnx").mkdir(parents=True)
    for done, graph in enumerate(job.graphs.values()):
        job.progress(f"graph {graph.name}", done, len(job.graphs))
        file = f"graphs/onnx/{graph.name}.onnx"
        model = to_onnx(graph, job.folder / file, job.options.opset)
        outputs = tuple(TensorInfo(value.name, shape_of(value)) for value in model.graph.output)
        job.infos.append(
            GraphInfo(
                name=graph.name,
                file=file,
                precision="fp32",
                macs=count_macs(model),
                sha256=hash_file(job.folder / file),
                inputs=graph.inputs,
                outputs=outputs,
            )
        )


def _make_golden(job: Job) -> None:
    maker = GoldenMaker(job.options.spec, job.graphs, job.options.seed)
    maker.make()
    job.golden = [f"golden/{name}" for name in maker.save(job.folder / "golden")]


def _describe(job: Job) -> None:
    """Write everything that is not a graph, and the manifest, which names every file by its hash."""
    options, spec = job.options, job.options.spec
    (job.folder / "labels.txt").write_text("\n".join(spec.labels) + "\n", encoding="utf-8")
    script = job.folder / "reproduce.sh"
    script.write_text(REPRODUCE.format(command=options.command), encoding="utf-8")
    script.chmod(0o755)
    files = ["labels.txt", "reproduce.sh", *job.golden]
    job.manifest = Manifest(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        spec=spec,
        trained=options.checkpoint is not None,
        random_weights=options.random_weights,
        seed=options.seed,
        targets=options.targets,
        graphs=tuple(job.infos),
        files={name: hash_file(job.folder / name) for name in files},
        licences={"vidprism-edge": "Apache-2.0", spec.encoder.source: spec.encoder.licence},
        tools={
            "python": platform.python_version(),
            **{
                name: importlib.metadata.version(name) for name in ("vidprism-edge", "torch", "onnx", "numpy")
            },
        },
    )
    job.manifest.write(job.folder)


def _convert(job: Job) -> None:
    assert job.manifest is not None
    options = job.options
    job.manifest = add_target_graphs(job.folder, job.manifest, options.plan, job.progress, job.tell)
    for board in find_boards(options.targets):
        plan = JetsonPlan(board, options.plan, options.jetpack)
        job.manifest = add_jetson_graphs(job.folder, job.manifest, plan, job.progress, job.tell)
    job.manifest.write(job.folder)


def _prove(job: Job) -> None:
    """Replay the golden vectors on every engine of the targets; :class:`ParityError`, and nothing is left behind."""
    engines = dict.fromkeys(("onnxruntime", *(KINDS[t].engine for t in job.options.targets if t in KINDS)))
    for engine in engines:
        _prove_on(job, engine)


def _prove_on(job: Job, engine: str) -> None:
    options, bundle, proved = EngineOptions(job.options.plan.threads), Bundle.open(job.folder), count(1)

    def move(graph: str) -> None:
        job.progress(f"prove parity on {engine}: {graph}", next(proved), len(bundle.manifest.graphs))

    report = verify_bundle(
        bundle, engine, atol=job.options.atol, rtol=job.options.rtol, options=options, progress=move
    )
    if not report.passed:
        worst = max(report.outputs, key=lambda o: o.of_tolerance)
        raise ParityError(
            f"graph {worst.graph} ({worst.precision}, {engine}) does not agree with torch: output {worst.output} is "
            f"off by {worst.max_error:.3g} in case {worst.worst_case}, {worst.of_tolerance:.1f} times the tolerance; "
            "nothing was written"
        )
    job.parity = report
    file = f"reports/parity-{engine}.json"
    (job.folder / "reports").mkdir(exist_ok=True)
    (job.folder / file).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    assert job.manifest is not None
    files = {**job.manifest.files, file: hash_file(job.folder / file)}
    job.manifest = msgspec.structs.replace(job.manifest, files=files)
    job.manifest.write(job.folder)


STAGES = (
    Stage("build the network", _build, (), ("net", "graphs")),
    Stage("export the graphs", _trace, ("graphs",), ("infos",)),
    Stage("make golden vectors", _make_golden, ("graphs",), ("golden",)),
    Stage("write the manifest", _describe, ("infos", "golden"), ("manifest",)),
    Stage("convert for the targets", _convert, ("manifest",), ()),
    Stage("prove parity", _prove, ("manifest",), ("parity",)),
)


def check_stages(stages: tuple[Stage, ...]) -> None:
    """Raise ``ValueError`` if a stage needs what no stage before it provides."""
    there: set[str] = set()
    for stage in stages:
        if missing := set(stage.requires) - there:
            raise ValueError(
                f"stage {stage.name!r} needs {', '.join(sorted(missing))}, which nothing before it provides"
            )
        there |= set(stage.provides)


def export_bundle(
    options: ExportOptions, progress: Progress = lambda *_: None, tell: Tell = lambda _: None
) -> Bundle:
    """Run the stages and return the bundle at ``options.output``; on any error nothing is left there."""
    for target in options.targets:
        check_target(target)
    tolerance = find_tolerance("fp32", options.atol, options.rtol)
    check_tolerance(tolerance.atol, tolerance.rtol)
    options.plan.check(options.targets)
    for board in find_boards(options.targets):
        JetsonPlan(board, options.plan, options.jetpack).check(options.opset)
    if not 0 <= options.seed < 2**63:
        raise UsageError(f"seed is {options.seed}; expected a number from 0 to {2**63 - 1}")
    check_stages(STAGES)
    with writing(options.output, force=options.force) as folder:
        job = Job(options, folder, progress, tell)
        for number, stage in enumerate(STAGES):
            progress(stage.name, number, len(STAGES))
            stage.run(job)
            if empty := [name for name in stage.provides if not getattr(job, name)]:
                raise ValueError(f"stage {stage.name!r} did not provide {', '.join(empty)}")
    progress("done", len(STAGES), len(STAGES))
    return Bundle.open(options.output)
