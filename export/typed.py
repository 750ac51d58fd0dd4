"""Mixed precision, written into the graph: FP16 where it is safe, FP32 where sums and exponents would overflow.

TensorRT 11 has strongly typed networks alone, and TensorRT 10 takes the same graphs: every tensor's type is what
the ONNX file says. Inputs and outputs stay float32, so that every engine and golden vector of a bundle is the same.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, numpy_helper
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    RemoveUnusedNodesPass,
    TopologicalSortPass,
)

from vidprism_edge.errors import VidPrismError

#: Sums over many elements and what exponentiates or divides by them: FP16 ends at 65504 and keeps 11 bits.
GUARDED = frozenset(
    {
        "LayerNormalization", "GroupNormalization", "InstanceNormalization", "LpNormalization", "Softmax",
        "LogSoftmax", "ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd",
        "ReduceLogSum", "ReduceLogSumExp", "GlobalAveragePool", "CumSum", "Exp", "Log", "Pow", "Sqrt", "Reciprocal",
    }
)  # fmt: skip
#: What FP16 is for.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
#: Numbers beyond these become infinite in FP16, or lose bits.
FP16_MAX, FP16_TINY = 65504.0, 6.104e-5


def is_outside_fp16(values: np.ndarray) -> bool:
    """Whether a float array has a number that FP16 cannot hold as a normal one: an epsilon, a mask's minus infinity."""
    magnitudes = np.abs(values[np.isfinite(values) & (values != 0)])
    return bool(np.isinf(values).any() or (magnitudes > FP16_MAX).any() or (magnitudes < FP16_TINY).any())


def read_constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every initializer and output of a Constant node, by name."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return constants


def find_scalars_outside(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that use a float scalar (an epsilon, a limit) which FP16 cannot hold."""
    bad = {
        name
        for name, value in read_constants(model).items()
        if value.dtype == np.float32 and value.size == 1 and is_outside_fp16(value)
    }
    return [node.name for node in model.graph.node if bad & set(node.input)]


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a strongly typed copy of an fp32 graph; the postconditions of :func:`check_typed` hold."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # the converter marks what stays FP32 by a node's name
    for number, node in enumerate(copy.graph.node):
        node.name = node.name or f"node_{number}"
    typed = convert_float_to_float16(
        copy, keep_io_types=True, op_block_list=sorted(GUARDED), node_block_list=find_scalars_outside(copy)
    )
    typed = tidy(typed)
    check_typed(typed)
    return typed


class _BypassCasts(ir.passes.InPlacePass):
    """FP32 → FP16 → FP32 between two guarded nodes only loses bits: the second takes what the first gives."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = False
        for node in model.graph:
            source = node.inputs[0].producer() if node.op_type == "Cast" and node.inputs[0] else None
            if source is None or source.op_type != "Cast":
                continue
            value = source.inputs[0]
            assert value is not None
            if value.dtype == ir.DataType.FLOAT and node.outputs[0].dtype == ir.DataType.FLOAT:
                if node.outputs[0].is_graph_output():
                    node.replace_input_with(0, value)
                else:
                    ir.convenience.replace_all_uses_with(node.outputs[0], value)
                changed = True
        return ir.passes.PassResult(model, changed)


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sort the nodes (the converter appends its casts), drop casts that cancel or repeat, infer every type anew."""
    model = _infer(ir.to_proto(TopologicalSortPass()(ir.from_proto(model)).model))
    passes = Sequential(_BypassCasts(), CommonSubexpressionEliminationPass(), RemoveUnusedNodesPass())
    return _infer(ir.to_proto(passes(ir.from_proto(model)).model))


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    # stale types of values that are FP16 now would contradict the graph
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of every value and initializer."""
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    return types | {t.name: t.data_type for t in graph.initializer}


def check_typed(model: onnx.ModelProto) -> None:
    """Raise :class:`VidPrismError` unless guarded nodes are FP32, products FP16 or quantised, and IO float32."""
    onnx.checker.check_model(model, full_check=True)
    types = element_types(model)
    for value in (*model.graph.input, *model.graph.output):
        if types[value.name] != TensorProto.FLOAT:
            raise VidPrismError(
                f"{value.name} is {TensorProto.DataType.Name(types[value.name])}; expected float32"
            )
    for node in model.graph.node:
        first = types.get(node.input[0]) if node.input else None
        if node.op_type in GUARDED and first == TensorProto.FLOAT16:
            raise VidPrismError(
                f"node {node.name} ({node.op_type}) computes in FP16; expected FP32: its sum may overflow"
            )
        if node.op_type in PRODUCTS and first != TensorProto.FLOAT16:
            raise VidPrismError(f"node {node.name} ({node.op_type}) computes in FP32; expected FP16")
