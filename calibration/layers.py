"""Where in a graph the error of another precision starts, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vidprism_edge.bundle import Arrays
from vidprism_edge.calibration.recipes import HEAVY_OPS

#: Decibels above which a layer counts as exact: what float arithmetic loses is no concern.
EXACT_DB = 60.0

Values = dict[str, npt.NDArray[Any]]


class Layer(msgspec.Struct, frozen=True):
    """One layer's output against fp32: signal to error ratio, and how far it fell below all layers before it."""

    name: str
    sqnr_db: float
    fall_db: float


def sqnr_db(value: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """Signal to quantisation error ratio in decibels; 200 where there is no error, -200 for what is no number."""
    wide = reference.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = float(np.sum((value - wide) ** 2))
        signal = float(np.sum(wide**2))
    if not np.isfinite(error):
        return -200.0
    if error == 0.0:
        return 200.0
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / error), -200, 200))


def compare_layers(target: str, reference: Path, converted: Path, samples: Sequence[Arrays]) -> list[Layer]:
    """Every heavy layer that both graphs have, in the order of computation."""
    trace = _trace_onnx if target == "onnx" else _trace_openvino
    signal: dict[str, float] = {}
    error: dict[str, float] = {}
    for exact, rough in trace(reference, converted, samples):
        for name, value in exact.items():
            wide = value.astype(np.float64)
            signal[name] = signal.get(name, 0.0) + float(np.sum(wide**2))
            error[name] = error.get(name, 0.0) + float(
                np.nan_to_num(np.sum((rough[name] - wide) ** 2), nan=1e300)
            )
    layers, lowest = [], EXACT_DB
    for name in signal:
        ratio = 10 * np.log10(max(signal[name], 1e-300) / max(error[name], 1e-300))
        ratio = float(np.clip(ratio, -200, 200))
        layers.append(Layer(name, ratio, max(lowest - ratio, 0.0)))
        lowest = min(lowest, ratio)
    return layers


def worst_layers(layers: Sequence[Layer], count: int) -> list[str]:
    """The layers at which the error grew most, the worst first."""
    return [
        layer.name for layer in sorted(layers, key=lambda layer: -layer.fall_db)[:count] if layer.fall_db > 0
    ]


def _trace_onnx(
    reference: Path, converted: Path, samples: Sequence[Arrays]
) -> Iterator[tuple[Values, Values]]:
    import onnx

    from vidprism_edge.calibration.quantise_onnx import find_activations, find_rounded, run_inside

    models = onnx.load(reference), onnx.load(converted)
    there = {name for node in models[1].graph.node for name in node.output}
    heavy = [n for n in models[0].graph.node if n.op_type in HEAVY_OPS]
    # an activation may have become part of its layer, whose own output is then gone
    activations = find_activations(models[0], heavy)
    outputs = {n.name: activations.get(n.name, n).output[0] for n in heavy}
    layers = {name: output for name, output in outputs.items() if output in there}
    rounded = find_rounded(models[1])
    clipped = {name: rounded.get(o, o) if name in activations else o for name, o in layers.items()}
    runs = (
        run_inside(model, list(names.values()), samples)
        for model, names in zip(models, (layers, clipped), strict=True)
    )
    for exact, rough in zip(*runs, strict=True):
        yield {n: exact[o] for n, o in layers.items()}, {n: rough[o] for n, o in clipped.items()}


def _trace_openvino(
    reference: Path, converted: Path, samples: Sequence[Arrays]
) -> Iterator[tuple[Values, Values]]:
    from vidprism_edge.runtimes.engines.openvino import core

    models = core().read_model(reference), core().read_model(converted)
    heavy = ("Convolution", "GroupConvolution", "MatMul")
    there = {op.get_friendly_name() for op in models[1].get_ops()}
    names = [
        op.get_friendly_name() for op in models[0].get_ordered_ops()
        if op.get_type_name() in heavy and op.get_friendly_name() in there
    ]  # fmt: skip
    requests = []
    for model in models:
        first = len(model.outputs)
        model.add_outputs([(name, 0) for name in names])
        compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        requests.append((compiled.create_infer_request(), first))
    for sample in samples:
        found = []
        for request, first in requests:
            request.infer(dict(sample))
            found.append({n: request.get_output_tensor(first + i).data.copy() for i, n in enumerate(names)})
        yield found[0], found[1]
