"""INT8 for TensorRT: symmetric Q/DQ around the weighted products of one graph, per channel, the rest in FP16."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from vidprism_edge.bundle import Arrays
from vidprism_edge.calibration.quantise_onnx import quantise
from vidprism_edge.calibration.recipes import HEAVY_OPS, GraphRecipe
from vidprism_edge.export.typed import FP16_TINY, read_constants, to_fp16


def jetson_recipe(model: onnx.ModelProto) -> GraphRecipe:
    """Products of an activation and a weight in INT8; those of two activations, an attention's, stay in FP16."""
    constants = read_constants(model)
    between = [
        node.name
        for node in model.graph.node
        if node.op_type in HEAVY_OPS and not any(name in constants for name in node.input[1:2])
    ]
    return GraphRecipe(precision="int8", symmetric=True, per_channel=True, keep=tuple(between))


def to_int8(model: onnx.ModelProto, samples: Sequence[Arrays]) -> onnx.ModelProto:
    """Return a strongly typed copy with Q/DQ pairs, whose scales come from ``samples``.

    Biases stay in floating point and outputs are not quantised: TensorRT would refuse the one, and the other would put
    a norm or softmax behind a quantised value.
    """
    quantised = quantise(model, jetson_recipe(model), samples, for_tensorrt=True)
    _spare_others(quantised)
    _raise_scales(quantised)
    return to_fp16(quantised)


def _spare_others(model: onnx.ModelProto) -> None:
    """The quantiser quantises a value for all who read it: whoever is no product reads the value itself."""
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type in HEAVY_OPS or node.op_type == "DequantizeLinear":
            continue
        for number, name in enumerate(node.input):
            back = producers.get(name)
            if back is not None and back.op_type == "DequantizeLinear" and back.input[0] in producers:
                node.input[number] = producers[back.input[0]].input[0]


def _raise_scales(model: onnx.ModelProto) -> None:
    """Scales that FP16 cannot hold as normal numbers are raised, and the integers of those channels made anew."""
    tensors = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in tensors:
            continue
        weights, scale = (numpy_helper.to_array(tensors[name]) for name in node.input[:2])
        if weights.dtype != np.int8 or (scale >= FP16_TINY).all():
            continue
        raised = np.maximum(scale, np.float32(FP16_TINY)).astype(np.float32)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = [-1 if i == axis % weights.ndim else 1 for i in range(weights.ndim)] if scale.ndim else []
        anew = np.rint(weights * (scale / raised).reshape(shape)).astype(np.int8)
        tensors[node.input[0]].CopyFrom(numpy_helper.from_array(anew, node.input[0]))
        tensors[node.input[1]].CopyFrom(numpy_helper.from_array(raised, node.input[1]))
