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
        # no names at all would mean every output
        values = session.run(inside, sample) if inside else []
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


def find_activations(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    """The Clip or Relu that alone reads what one of these nodes gives, by the node's name."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    found = {}
    for node in nodes:
        behind = readers.get(node.output[0], [])
        if len(behind) == 1 and behind[0].op_type in ("Clip", "Relu") and node.output[0] not in outputs:
            found[node.name] = behind[0]
    return found


def find_rounded(model: onnx.ModelProto) -> dict[str, str]:
    """Values that a quantised graph rounds → their names after rounding and, where an activation is gone, clipping."""
    quantised = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    back = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    return {name: back[integers] for name, integers in quantised.items() if integers in back}


def correct_biases(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], recipe: GraphRecipe, samples: Sequence[Arrays]
) -> onnx.ModelProto:
    """Return the graph with what rounding the weights shifts on average taken off each convolution's bias.

    A depthwise kernel has few weights a channel, whose rounding errors do not cancel: every value of the channel is
    shifted by the error's sum times the input's mean, and the shifts of fifty layers add up.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {t.name: t for t in copy.graph.initializer}
    biased = [n for n in nodes if n.op_type == "Conv" and {*n.input[1:]} <= tensors.keys()]
    if not biased:
        return model
    total: dict[str, npt.NDArray[np.float64]] = {}
    for values in run_inside(model, [n.input[0] for n in biased], samples):
        for name, value in values.items():
            spread = tuple(i for i in range(value.ndim) if i != 1)
            total[name] = total.get(name, 0.0) + value.mean(axis=spread, dtype=np.float64)
    for node in biased:
        weights = onnx.numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
        kernel = tuple(range(1, weights.ndim))
        largest = np.abs(weights).max(axis=kernel if recipe.per_channel else None, keepdims=True)
        step = np.maximum(largest, 1e-30) / 127
        error = (np.round(weights / step) * step - weights).sum(axis=kernel[1:])
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        mean = (total[node.input[0]] / len(samples)).reshape(groups, -1)
        shift = np.einsum("goi,gi->go", error.reshape(groups, -1, error.shape[1]), mean).reshape(-1)
        bias = onnx.numpy_helper.to_array(tensors[node.input[2]]) if len(node.input) == 3 else 0.0
        # equal biases of two layers may be one tensor: a corrected one is a tensor of its own
        name = f"{node.name}.corrected_bias"
        copy.graph.initializer.append(onnx.numpy_helper.from_array((bias - shift).astype(np.float32), name))
        corrected = next(n for n in copy.graph.node if n.name == node.name)
        corrected.input[:] = [*node.input[:2], name]
    _drop_unread(copy)
    return copy


def _drop_unread(model: onnx.ModelProto) -> None:
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in read]:
        model.graph.initializer.remove(tensor)


def quantise(
    model: onnx.ModelProto, recipe: GraphRecipe, samples: Sequence[Arrays], *, for_tensorrt: bool = False
) -> onnx.ModelProto:
    """Return the graph with Q/DQ pairs around the recipe's nodes: u8 activations, or s8 where symmetric, s8 weights.

    An activation that clips belongs to the layer before it: the integers cover what it lets through. Without it most of
    the 256 levels stand for values that are cut off next, which costs a network of ReLU6 half its decibels.

    ``for_tensorrt``: biases and outputs stay in floating point, activations are TensorRT's to fuse.

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
    if recipe.correct_bias:
        model = correct_biases(model, nodes, recipe, samples)
        nodes = quantisable(model, recipe)
    activations = {} if for_tensorrt else find_activations(model, nodes)
    ranges = observe(model, float_values(model, [*nodes, *activations.values()]), recipe, samples)
    for node in nodes:
        if node.name in activations:
            ranges[node.output[0]] = ranges[activations[node.name].output[0]]
    nodes += activations.values()
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
