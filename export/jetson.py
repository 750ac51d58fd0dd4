"""Makes a bundle's graphs for TensorRT on a Jetson, each passed by the preflight before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx

from vidprism_edge.bundle import GraphInfo, Manifest, hash_file
from vidprism_edge.errors import EngineError, UsageError
from vidprism_edge.export.preflight import PreflightReport, check_preflight, preflight
from vidprism_edge.export.targets.jetson import FAMILY, Limits, find_limits, list_boards
from vidprism_edge.export.typed import to_fp16

PRECISIONS = ("fp16",)
REPORT = "reports/preflight.json"


@dataclass(frozen=True, slots=True)
class JetsonPlan:
    """The board, the precision and the JetPack (None: every one that the board runs).

    ``fp32`` is what a CPU's target has where no precision is asked for; TensorRT's graphs are then in FP16.
    """

    board: str
    precision: str = "fp16"
    jetpack: str | None = None

    @property
    def limits(self) -> Limits:
        return find_limits(self.board, self.jetpack)

    def check(self, opset: int) -> None:
        """Raise for a precision that is not known, a JetPack that is refused, an opset that is too new for it."""
        if self.precision not in (*PRECISIONS, "fp32"):
            raise UsageError(
                f"--precision is {self.precision} for target {self.board}; expected {', '.join(PRECISIONS)}"
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
    folder: Path, manifest: Manifest, plan: JetsonPlan, progress: Callable[[str, int, int], None]
) -> Manifest:
    """Write ``graphs/jetson`` and the preflight's report beside the reference graphs; return the new manifest.

    Errors: :class:`EngineError` for a graph that the target's TensorRT would refuse, with the reason.
    """
    limits = plan.limits
    (folder / "graphs" / FAMILY).mkdir(parents=True)
    made, findings, operators = [], [], {}
    references = [graph for graph in manifest.graphs if graph.is_reference]
    for done, graph in enumerate(references):
        progress(f"fp16 graph {graph.name}", done, len(references))
        model = to_fp16(onnx.load(folder / graph.file))
        # DLA is worth its name for the spatial expert alone: the one that is 2-D convolutions
        found = preflight(graph.name, model, limits, dla=limits.dla and graph.name == "spatial")
        check_preflight(found)
        info = write_graph(folder, model, graph, "fp16")
        made.append(info)
        findings += found
        operators[info.file] = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    report = PreflightReport(limits=limits, operators=operators, findings=findings)
    (folder / REPORT).parent.mkdir(exist_ok=True)
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return msgspec.structs.replace(
        manifest,
        graphs=(*manifest.graphs, *made),
        files={**manifest.files, REPORT: hash_file(folder / REPORT)},
        engines="deferred",
    )


def write_graph(folder: Path, model: onnx.ModelProto, reference: GraphInfo, precision: str) -> GraphInfo:
    """Write one graph of the family and return its entry of the manifest."""
    file = f"graphs/{FAMILY}/{reference.name}.{precision}.onnx"
    onnx.save(model, folder / file)
    return msgspec.structs.replace(
        reference, file=file, precision=precision, sha256=hash_file(folder / file), target=FAMILY
    )
