"""One ONNX graph in another precision, for ONNX Runtime: its own quantiser writes Q/DQ with the ranges found here."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from vidprism_edge.bundle import Arrays
from vidprism_edge.calibration.observers import OBSERVERS, Histogram
from vidprism_edge.calibration.recipes import ALL_OPS, GraphRecipe
from vidprism_edge.errors import UsageError

Ranges = dict[str, tuple[float, float]]


def run_inside(
    model: onnx.ModelProto, names: Sequence[str], samples: Iterable[Arrays]
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """Run a graph and yield the values ``names`` inside it, sample by sample, as the graph computes them unfused."""
    import onnxruntime

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    there = {o.name for o in wide.graph.output}
    wide.graph.output.extend(onnx.ValueInfoProto(name=n) for n in dict.fromkeys(names) if n not in there)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        wide.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    inputs = {value.name for value in model.graph.input}
    outside = [n for n in dict.fromkeys(names) if n in inputs]
    inside = [n for n in dict.fromkeys(names) if n not in inputs]
    for sample in samples:
        values = session.run(inside, sample)
        yield {**dict(zip(inside, values, strict=True)), **{n: sample[n] for n in outside}}


def float_values(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """The activations that these nodes read and write: names of float tensors that are no weights."""
    weights = {t.name for t in model.graph.initializer}
    floats = {
        v.name
        for v in (*model.graph.input, *model.graph.value_info, *model.graph.output)
        if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    names = (name for node in nodes for name in (*node.input, *node.output))
    return [name for name in dict.fromkeys(names) if name in floats - weights]


def observe(
    model: onnx.ModelProto, names: Sequence[str], recipe: GraphRecipe, samples: Sequence[Arrays]
) -> Ranges:
    """Find the range of every activation: what was seen first, then a histogram where the observer needs one."""
    seen: Ranges = {}
    for values in run_inside(model, names, samples):
        for name, value in values.items():
            low, high = seen.get(name, (0.0, 0.0))  # 0 must be a level: padding and masks are exactly 0
            seen[name] = (min(low, float(value.min())), max(high, float(value.max())))
    if recipe.observer != "minmax":
        histograms = {name: Histogram(*found) for name, found in seen.items() if found[1] > found[0]}
        for values in run_inside(model, list(histograms), samples):
            for name, value in values.items():
                histograms[name].add(value)
        choose = OBSERVERS[recipe.observer]
        seen |= {name: choose(h, recipe.percentile) for name, h in histograms.items()}
    return seen


def quantisable(model: onnx.ModelProto, recipe: GraphRecipe) -> list[onnx.NodeProto]:
    """The nodes that a recipe turns into integers. :class:`UsageError` for a name in ``keep`` that no node has."""
    from onnxruntime.quantization.registry import QDQRegistry

    known = {node.name for node in model.graph.node}
    if unknown := sorted(set(recipe.keep) - known):
        raise UsageError(f"the recipe keeps {', '.join(unknown)}, of which the graph has no node")
    ops = set(QDQRegistry) if recipe.ops == ALL_OPS else set(recipe.ops)
    return [n for n in model.graph.node if n.op_type in ops and n.name not in recipe.keep]


def quantise(
    model: onnx.ModelProto, recipe: GraphRecipe, samples: Sequence[Arrays], *, for_tensorrt: bool = False
) -> onnx.ModelProto:
    """Return the graph with Q/DQ pairs around the recipe's nodes: u8 activations, or s8 where symmetric, s8 weights.

    ``for_tensorrt``: biases and outputs stay in floating point.

    A graph in which nothing is quantisable comes back as it is.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    nodes = quantisable(model, recipe)
    if not nodes:
        return model
    if not samples:
        raise UsageError("int8 needs calibration samples; give --calib-data")
    ranges = observe(model, float_values(model, nodes), recipe, samples)
    data = {n: (np.float32(low), np.float32(high)) for n, (low, high) in ranges.items()}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with _quiet():
        quantiser = QDQQuantizer(
            copy, recipe.per_channel, False, QuantType.QInt8,
            QuantType.QInt8 if recipe.symmetric else QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, data),
            [n.name for n in nodes], list(recipe.keep), sorted({n.op_type for n in nodes}),
            {
                "ActivationSymmetric": recipe.symmetric, "WeightSymmetric": True, "MinimumRealRange": 1e-6,
                "QuantizeBias": not for_tensorrt,
                "OpTypesToExcludeOutputQuantization": list(recipe.ops) if for_tensorrt else [],
            },
        )  # fmt: skip
        quantiser.quantize_model()
    made: onnx.ModelProto = quantiser.model.model
    made.ir_version = model.ir_version
    return made


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in fp16 with fp32 inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with _quiet():
        made: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True, disable_shape_infer=False)
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser talks on stdout, which is ours for JSON, and logs advice on a step that is done already."""
    logging.getLogger().addFilter(_drop)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.getLogger().removeFilter(_drop)


def _drop(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()


def write(model: onnx.ModelProto, recipe: GraphRecipe, samples: Sequence[Arrays], path: Path) -> None:
    """Write the graph in a recipe's precision. :class:`UsageError` for one that ONNX Runtime's processor lacks."""
    if recipe.precision == "int8":
        made = quantise(model, recipe, samples)
    elif recipe.precision == "fp16":
        made = halve(model)
    else:
        raise UsageError(
            f"target onnx has no precision {recipe.precision}; expected fp32, fp16 or int8 (bf16 has target openvino)"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.SerializeToString(deterministic=True))
