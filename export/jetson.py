"""Makes a bundle's graphs for TensorRT on a Jetson, each passed by the preflight before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import onnx

from vidprism_edge.bundle import Arrays, GraphInfo, Manifest, hash_file
from vidprism_edge.errors import EngineError, UsageError
from vidprism_edge.export.precision import SAMPLES_FILE, PrecisionPlan, collect, hold_to_gate
from vidprism_edge.export.preflight import Finding, PreflightReport, check_preflight, preflight
from vidprism_edge.export.quantised import to_int8
from vidprism_edge.export.targets.jetson import FAMILY, Limits, find_limits, list_boards
from vidprism_edge.export.typed import to_fp16
from vidprism_edge.runtimes.engines import load_engine

PRECISIONS = ("fp16", "int8", "auto")
REPORT = "reports/preflight.json"
Progress = Callable[[str, int, int], None]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class JetsonPlan:
    """The board, the JetPack (None: every one that the board runs), and the precision with its calibration and gate.

    ``fp32`` is what a CPU's target has where no precision is asked for; TensorRT's graphs are then in FP16. ``int8``
    makes INT8 graphs of the components for which the board's table has them, FP16 ones of the others; ``auto`` makes
    both, and the build on the device keeps the faster.
    """

    board: str
    precision: PrecisionPlan = field(default_factory=PrecisionPlan)
    jetpack: str | None = None

    @property
    def limits(self) -> Limits:
        return find_limits(self.board, self.jetpack)

    @property
    def asked(self) -> str:
        return "fp16" if self.precision.precision == "fp32" else self.precision.precision

    def precisions(self, graph: str) -> tuple[str, ...]:
        """What a component is made in."""
        if self.asked == "fp16" or graph not in self.limits.int8:
            return ("fp16",)
        return ("int8",) if self.asked == "int8" else ("fp16", "int8")

    def check(self, opset: int) -> None:
        """Raise for a precision that is not known, a JetPack that is refused, an opset that is too new for it."""
        if self.asked not in PRECISIONS:
            raise UsageError(
                f"--precision is {self.asked} for target {self.board}; expected {', '.join(PRECISIONS)}"
            )
        if self.asked != "fp16" and self.precision.data is None:
            raise UsageError(
                f"--precision {self.asked} needs --calib-data with video of yours: scales from random data would be "
                "wrong on real ones"
            )
        limits = self.limits
        if opset > limits.opset:
            raise EngineError(
                f"opset {opset} is too new for {self.board} with JetPack {limits.jetpacks[0]}: its TensorRT "
                f"{limits.tensorrt} takes at most {limits.opset}; give --opset {limits.opset}"
            )


def find_boards(targets: tuple[str, ...]) -> list[str]:
    """The Jetson among the targets. Raises :class:`UsageError` for several: their graphs may differ."""
    boards = [target for target in targets if target in list_boards()]
    if len(boards) > 1:
        raise UsageError(
            f"--target names {' and '.join(boards)}; give one of them, or {FAMILY} for what all of them take"
        )
    return boards


def add_jetson_graphs(
    folder: Path, manifest: Manifest, plan: JetsonPlan, progress: Progress, tell: Tell = lambda _: None
) -> Manifest:
    """Write ``graphs/jetson`` and the preflight's report beside the reference graphs; return the new manifest.

    Errors: :class:`EngineError` for a graph that the target's TensorRT would refuse, with the reason;
    :class:`ParityError` where the whole is further from fp32 than the gate allows.
    """
    (folder / "graphs" / FAMILY).mkdir(parents=True)
    files, samples = [REPORT], dict[str, Sequence[Arrays]]()
    if plan.asked != "fp16":
        samples = dict(collect(folder, plan.precision, progress, tell))
        files.append(SAMPLES_FILE)
    references = [graph for graph in manifest.graphs if graph.is_reference]
    todo = [(graph, precision) for graph in references for precision in plan.precisions(graph.name)]
    made, findings, operators = [], list[Finding](), {}
    for done, (graph, precision) in enumerate(todo):
        progress(f"{precision} graph {graph.name}", done, len(todo))
        info, found, counted = _make(folder, plan.limits, graph, precision, samples.get(graph.name, ()))
        made.append(info)
        findings += found
        operators[info.file] = counted
    report = PreflightReport(limits=plan.limits, operators=operators, findings=findings)
    (folder / REPORT).parent.mkdir(exist_ok=True)
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    engines = {g.name: load_engine(g, folder / g.file, "onnxruntime") for g in made}
    hold_to_gate(folder, plan.precision, plan.board, engines, progress, tell)
    return msgspec.structs.replace(
        manifest,
        graphs=(*manifest.graphs, *made),
        files={**manifest.files, **{name: hash_file(folder / name) for name in files}},
        engines="deferred",
    )


def _make(
    folder: Path, limits: Limits, graph: GraphInfo, precision: str, samples: Sequence[Arrays]
) -> tuple[GraphInfo, list[Finding], dict[str, int]]:
    """Make, check and write one graph → its entry of the manifest, what the preflight found, operators counted."""
    reference = onnx.load(folder / graph.file)
    model = to_int8(reference, samples) if precision == "int8" else to_fp16(reference)
    # DLA is worth its name for the spatial expert alone: the one that is 2-D convolutions
    found = preflight(graph.name, model, limits, dla=limits.dla and graph.name == "spatial")
    check_preflight(found)
    counted = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    return write_graph(folder, model, graph, precision), found, counted


def write_graph(folder: Path, model: onnx.ModelProto, reference: GraphInfo, precision: str) -> GraphInfo:
    """Write one graph of the family and return its entry of the manifest."""
    file = f"graphs/{FAMILY}/{reference.name}.{precision}.onnx"
    onnx.save(model, folder / file)
    return msgspec.structs.replace(
        reference, file=file, precision=precision, sha256=hash_file(folder / file), target=FAMILY
    )
