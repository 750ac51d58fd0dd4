"""Replays a bundle's golden vectors on an engine and reports the largest error of every graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays, Bundle
from vidprism_edge.errors import BundleError, UsageError
from vidprism_edge.runtimes.engines import EngineOptions, load_engines

#: fp32 tolerance: a twelve-layer transformer already differs by 1.5e-5 on outputs of 36.
ATOL = RTOL = 1e-4


class OutputParity(msgspec.Struct, frozen=True):
    """One output of one graph over all golden cases: errors against the reference, and the case that is worst."""

    graph: str
    output: str
    cases: int
    max_error: float
    mean_error: float
    cosine: float
    #: largest error as a fraction of its tolerance, atol + rtol · |reference|; 1 or less passes
    of_tolerance: float
    worst_case: str
    passed: bool


class ParityReport(msgspec.Struct, frozen=True):
    """What ``verify`` found."""

    schema: int
    engine: str
    atol: float
    rtol: float
    files: int
    outputs: list[OutputParity]
    passed: bool

    def worst(self, graph: str) -> OutputParity:
        """The output of a graph that is closest to, or furthest beyond, its tolerance."""
        return max((o for o in self.outputs if o.graph == graph), key=lambda o: o.of_tolerance)


def _compare(
    graph: str,
    output: str,
    pairs: list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]],
    atol: float,
    rtol: float,
) -> OutputParity:
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
    return OutputParity(
        graph,
        output,
        len(pairs),
        largest,
        total / max(count, 1),
        cosine,
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
    return [_compare(name, output, found, atol, rtol) for output, found in pairs.items()]


def verify_bundle(
    bundle: Bundle,
    engine: str = "onnxruntime",
    *,
    atol: float = ATOL,
    rtol: float = RTOL,
    options: EngineOptions | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ParityReport:
    """Check every file's hash, then replay the golden vectors of every graph on ``engine``."""
    check_tolerance(atol, rtol)
    files = bundle.check()
    outputs = []
    for name, loaded in load_engines(bundle, engine, options).items():
        outputs += compare_graph(name, loaded.infer, bundle.golden(name), atol, rtol)
        progress(name)
    return ParityReport(1, engine, atol, rtol, files, outputs, passed=all(o.passed for o in outputs))
