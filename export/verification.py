"""Replays a bundle's golden vectors on an engine and reports the largest error of every graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import REFERENCE, Arrays, Bundle, GraphInfo
from vidprism_edge.calibration.layers import sqnr_db
from vidprism_edge.errors import BundleError, UsageError
from vidprism_edge.report import describe_environment
from vidprism_edge.runtimes.engines import Engine, EngineOptions, load_engine, load_engines

#: fp32 tolerance: a twelve-layer transformer already differs by 1.5e-5 on outputs of 36.
ATOL = RTOL = 1e-4


class Tolerance(msgspec.Struct, frozen=True):
    """An output passes where each number is within atol + rtol · |reference|, and the cosine to it is high enough."""

    atol: float
    rtol: float
    cosine: float = 0.0


#: By precision of the graph. FP16 keeps 11 bits, of which a network of fifty convolutions loses about five; INT8 is
#: judged by the direction of its outputs, because single numbers may be off by a step of their scale.
TOLERANCES = {
    "fp32": Tolerance(ATOL, RTOL),
    "fp16": Tolerance(3e-2, 3e-2, 0.999),
    # 20 dB, what a choice of precisions calls right: eight bits of mantissa through fifty layers have 26
    "bf16": Tolerance(0.25, 0.25, 0.995),
    "int8": Tolerance(1.0, 0.5, 0.98),
    "int8+bf16": Tolerance(1.0, 0.5, 0.98),
}


class OutputParity(msgspec.Struct, frozen=True):
    """One output of one graph over all golden cases: errors against the reference, and the case that is worst."""

    graph: str
    output: str
    cases: int
    max_error: float
    mean_error: float
    cosine: float
    #: signal to error ratio over all cases, decibels
    sqnr_db: float
    #: largest error as a fraction of its tolerance, atol + rtol · |reference|; 1 or less passes
    of_tolerance: float
    worst_case: str
    passed: bool
    target: str = REFERENCE[0]
    precision: str = REFERENCE[1]


class ParityReport(msgspec.Struct, frozen=True):
    """What ``verify`` found; ``atol`` and ``rtol`` are those of fp32, ``tolerances`` those of every precision met."""

    schema: int
    engine: str
    atol: float
    rtol: float
    files: int
    outputs: list[OutputParity]
    passed: bool
    tolerances: dict[str, Tolerance]
    #: What each graph is computed in, where the engine says so and it is not the manifest's precision: a processor that
    #: lacks bf16 computes in fp32.
    computes_in: dict[str, str]
    #: Instruction sets of this processor: they decide in which order sums are made, and how INT8 saturates.
    instruction_sets: list[str]

    def worst(self) -> list[OutputParity]:
        """Of every graph in every precision, the output that is closest to, or furthest beyond, its tolerance."""
        found: dict[tuple[str, str, str], OutputParity] = {}
        for o in self.outputs:
            key = (o.target, o.graph, o.precision)
            if key not in found or o.of_tolerance > found[key].of_tolerance:
                found[key] = o
        return list(found.values())


def _compare(
    graph: str,
    output: str,
    pairs: list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]],
    tolerance: Tolerance,
) -> OutputParity:
    atol, rtol = tolerance.atol, tolerance.rtol
    worst, worst_case, largest, total, count = 0.0, "", 0.0, 0.0, 0
    dot = reference_square = value_square = 0.0
    for case, value, reference in pairs:
        if value.shape != reference.shape:
            raise BundleError(
                f"golden case {case} of graph {graph} has {output} {list(reference.shape)}, "
                f"the graph gives {list(value.shape)}; export again"
            )
        # a NaN compares false with everything; as infinity it fails
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.abs(value.astype(np.float64) - reference)
            error = np.where(np.isnan(error), np.inf, error)
            shares = error / (atol + rtol * np.abs(reference))
        # no error is within any tolerance, 0 too; an infinite reference has no tolerance
        shares = np.where(error == 0.0, 0.0, np.where(np.isnan(shares), np.inf, shares))
        share = float(np.max(shares, initial=0.0))
        if share >= worst:
            worst, worst_case = share, case
        largest = max(largest, float(error.max(initial=0.0)))
        total, count = total + float(error.sum()), count + error.size
        dot += float(np.sum(value.astype(np.float64) * reference))
        value_square += float(np.sum(value.astype(np.float64) ** 2))
        reference_square += float(np.sum(reference.astype(np.float64) ** 2))
    norm = (value_square * reference_square) ** 0.5
    cosine = dot / norm if norm > 0 else 1.0
    if tolerance.cosine and not cosine >= tolerance.cosine:
        worst = max(worst, (1 - cosine) / (1 - tolerance.cosine) if np.isfinite(cosine) else np.inf)
    return OutputParity(
        graph,
        output,
        len(pairs),
        largest,
        total / max(count, 1),
        cosine,
        sqnr_db(np.stack([v for _, v, _ in pairs]), np.stack([r for _, _, r in pairs])),
        worst,
        worst_case,
        passed=worst <= 1.0,
    )


def check_tolerance(atol: float, rtol: float) -> None:
    """Raise :class:`UsageError` for a tolerance that everything or nothing would pass."""
    if not (0 <= atol < float("inf") and 0 <= rtol < float("inf")):
        raise UsageError(f"the tolerance is {atol:g} + {rtol:g} * |reference|; expected numbers of 0 or more")


def compare_graph(
    name: str,
    run: Callable[[Arrays], Arrays],
    golden: Iterable[tuple[str, Arrays, Arrays]],
    atol: float,
    rtol: float,
    cosine: float = 0.0,
) -> list[OutputParity]:
    """Run one graph over its golden cases and compare every output."""
    pairs: dict[str, list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]] = {}
    for case, inputs, outputs in golden:
        values = run(inputs)
        if values.keys() != outputs.keys():
            raise BundleError(
                f"golden case {case} of graph {name} holds {sorted(outputs)}, the graph gives {sorted(values)}"
            )
        for output, reference in outputs.items():
            pairs.setdefault(output, []).append((case, values[output], reference))
    if not pairs:
        raise BundleError(f"the bundle has no golden vectors for graph {name}; export again")
    tolerance = Tolerance(atol, rtol, cosine)
    return [_compare(name, output, found, tolerance) for output, found in pairs.items()]


def find_tolerance(precision: str, atol: float | None, rtol: float | None) -> Tolerance:
    """Return the tolerance of a precision, with what the user gave in its place."""
    default = TOLERANCES.get(precision, TOLERANCES["fp32"])
    if atol is None and rtol is None:
        return default
    atol = default.atol if atol is None else atol
    return Tolerance(atol, default.rtol if rtol is None else rtol)


def replay_golden(bundle: Bundle, graph: GraphInfo, run: Callable[[Arrays], Arrays]) -> list[OutputParity]:
    """Compare one graph with the bundle's golden vectors, by the tolerance of its precision."""
    t = find_tolerance(graph.precision, None, None)
    return compare_graph(graph.name, run, bundle.golden(graph.name), t.atol, t.rtol, t.cosine)


def verify_bundle(
    bundle: Bundle,
    engine: str = "onnxruntime",
    *,
    atol: float | None = None,
    rtol: float | None = None,
    options: EngineOptions | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ParityReport:
    """Check every file's hash, then replay the golden vectors of every graph on ``engine``.

    ONNX Runtime replays the graphs that were made for TensorRT too, exactly as they are written. ``atol`` and ``rtol``
    take the place of :data:`TOLERANCES`.
    """
    tolerances = {"fp32": find_tolerance("fp32", atol, rtol)}
    check_tolerance(tolerances["fp32"].atol, tolerances["fp32"].rtol)
    files = bundle.check()
    outputs, computes_in = [], {}
    for loaded in _load_all(bundle, engine, options):
        graph = loaded.graph
        t = tolerances.setdefault(graph.precision, find_tolerance(graph.precision, atol, rtol))
        found = compare_graph(graph.name, loaded.infer, bundle.golden(graph.name), t.atol, t.rtol, t.cosine)
        outputs += [msgspec.structs.replace(o, target=graph.target, precision=graph.precision) for o in found]
        if loaded.precision != graph.precision:
            computes_in[graph.name] = loaded.precision
        progress(graph.name)
    return ParityReport(
        1, engine, tolerances["fp32"].atol, tolerances["fp32"].rtol, files, outputs,
        passed=all(o.passed for o in outputs), tolerances=tolerances, computes_in=computes_in,
        instruction_sets=describe_environment()["instruction_sets"],
    )  # fmt: skip


def _load_all(bundle: Bundle, engine: str, options: EngineOptions | None) -> Iterator[Engine]:
    """The engine's own graphs, one after the other; on ONNX Runtime the reference and those that TensorRT gets too."""
    own = load_engines(bundle, engine, options)
    yield from own.values()
    if engine == "onnxruntime":
        for graph in bundle.manifest.graphs:
            replaced = graph.is_reference and own[graph.name].graph is not graph
            if replaced or graph.target == "jetson":
                yield load_engine(graph, bundle.graph_file(graph), engine, options)
