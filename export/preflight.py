"""Preflight: what TensorRT would refuse in a graph, or run in another way than is written, and why.

An engine is built on the device, hours or miles away from the export. What would fail there is said here first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from vidprism_edge.errors import EngineError
from vidprism_edge.export.targets.jetson import Limits, OpTable, read_ops
from vidprism_edge.export.typed import GUARDED, element_types, is_outside_fp16, read_constants

#: Inputs that TensorRT's parser takes as initializers only: op type → position.
_STATIC_INPUTS = {
    "Pad": 3, "Slice": 3, "Squeeze": 1, "CumSum": 1, "ReduceSum": 1, "ReduceMean": 1, "ReduceMax": 1, "ReduceMin": 1,
    "ReduceProd": 1, "ReduceL1": 1, "ReduceL2": 1, "ReduceSumSquare": 1, "ReduceLogSum": 1, "ReduceLogSumExp": 1,
}  # fmt: skip
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
#: ONNX types by the names of the operator table.
_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16",
    TensorProto.INT32: "int32", TensorProto.INT64: "int64", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool", TensorProto.INT4: "int4", TensorProto.FLOAT8E4M3FN: "float8",
}  # fmt: skip


class Finding(msgspec.Struct, frozen=True):
    """``refused``: TensorRT will not build it. ``fallback``: it runs, but elsewhere or in another type than written."""

    graph: str
    node: str
    op: str
    kind: Literal["refused", "fallback"]
    reason: str


class PreflightReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every operator of every graph against the target, and what was found."""

    schema: int = 1
    limits: Limits
    #: graph file → operator → number of nodes
    operators: dict[str, dict[str, int]]
    findings: list[Finding]


@dataclass(slots=True)
class _Graph:
    """One graph with what the rules ask about it."""

    model: onnx.ModelProto
    types: dict[str, int]
    constants: dict[str, np.ndarray]
    producers: dict[str, NodeProto]
    limits: Limits
    table: OpTable

    @classmethod
    def read(cls, model: onnx.ModelProto, limits: Limits) -> _Graph:
        producers = {output: node for node in model.graph.node for output in node.output}
        return cls(model, element_types(model), read_constants(model), producers, limits, read_ops())

    def type_of(self, name: str) -> str:
        number = self.types.get(name)
        return "unknown" if not number else _TYPES.get(number, TensorProto.DataType.Name(number).lower())


Rule = Callable[[_Graph, NodeProto], Iterator[str]]


def _known_op(graph: _Graph, node: NodeProto) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"domain {node.domain} needs a plugin; expected operators of ONNX itself"
    elif node.op_type in _CONTROL_FLOW:
        yield "control flow costs what both branches cost; gates stay on the host"
    elif node.op_type not in graph.table.types:
        yield f"TensorRT {graph.limits.tensorrt} has no such operator ({graph.table.source})"


def _types(graph: _Graph, node: NodeProto) -> Iterator[str]:
    taken = graph.table.types.get(node.op_type)
    if taken is None or node.op_type in _QUANTISERS or not node.input or not node.input[0]:
        return
    position = 1 if node.op_type == "Where" else 0
    found = graph.type_of(node.input[position])
    if found not in taken and found != "unknown":
        yield f"input {node.input[position]} is {found}; TensorRT takes {', '.join(sorted(taken))}"


def _static_inputs(graph: _Graph, node: NodeProto) -> Iterator[str]:
    position = _STATIC_INPUTS.get(node.op_type)
    name = node.input[position] if position is not None and position < len(node.input) else ""
    if name and name not in graph.constants:
        yield f"input {name} is computed; TensorRT takes it as an initializer only"


def _quantised(graph: _Graph, node: NodeProto) -> Iterator[str]:
    if node.op_type not in _QUANTISERS:
        return
    if len(node.input) > 2 and node.input[2]:
        zero_point = graph.constants.get(node.input[2])
        if zero_point is None:
            yield f"zero point {node.input[2]} is computed; expected an initializer of zeros"
        elif zero_point.any():
            yield "its zero point is not zero; TensorRT takes symmetric quantisation only"
    if node.input[1] not in graph.constants:
        yield f"scale {node.input[1]} is computed; expected an initializer"
    elif not (graph.constants[node.input[1]].astype(np.float64) > 0).all():
        yield f"scale {node.input[1]} is not above 0 everywhere"
    integer = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    if (found := graph.type_of(integer)) not in ("int8", "unknown"):
        yield f"{integer} is {found}; expected int8"


def _guarded(graph: _Graph, node: NodeProto) -> Iterator[str]:
    if node.op_type not in GUARDED:
        return
    found = graph.type_of(node.input[0])
    if found in ("float16", "bfloat16"):
        yield f"it computes in {found}, where a sum overflows or loses its last bits; expected float32"
    source = graph.producers.get(node.input[0])
    while source is not None and source.op_type == "Cast":
        source = graph.producers.get(source.input[0])
    if source is not None and source.op_type == "DequantizeLinear":
        yield "its input is quantised; expected full precision"


def _constants(graph: _Graph, node: NodeProto) -> Iterator[str]:
    for name in node.input:
        value = graph.constants.get(name)
        if value is not None and value.dtype == np.float16 and value.size == 1 and is_outside_fp16(value):
            yield f"constant {name} is {float(value.reshape(())):g}, which FP16 does not hold exactly"


def _outputs(_: _Graph, node: NodeProto) -> Iterator[str]:
    if node.op_type == "LayerNormalization" and len([o for o in node.output if o]) > 1:
        yield "only its first output is supported"


def _dimensions(graph: _Graph, node: NodeProto) -> Iterator[str]:
    weights = graph.constants.get(node.input[1]) if node.op_type == "Conv" else None
    if weights is not None and weights.ndim not in (3, 4, 5):
        yield f"it has {weights.ndim - 2} spatial dimensions; TensorRT takes 1 to 3"


RULES: tuple[Rule, ...] = (
    _known_op, _types, _static_inputs, _quantised, _guarded, _constants, _outputs, _dimensions,
)  # fmt: skip


def _whole(name: str, graph: _Graph) -> Iterator[Finding]:
    """What is wrong with the graph as a whole."""

    def refuse(op: str, reason: str) -> Finding:
        return Finding(name, "", op, "refused", reason)

    limits = graph.limits
    opset = next((o.version for o in graph.model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset > limits.opset:
        yield refuse(
            "opset",
            f"opset {opset} is newer than JetPack {limits.jetpacks[0]} takes (TensorRT {limits.tensorrt}, "
            f"at most {limits.opset})",
        )
    for value in (*graph.model.graph.input, *graph.model.graph.output):
        if any(not d.HasField("dim_value") or d.dim_value < 1 for d in value.type.tensor_type.shape.dim):
            yield refuse("shape", f"{value.name} has a dynamic or empty dimension; expected static shapes")
        if (found := graph.type_of(value.name)) != "float32":
            yield refuse("type", f"{value.name} is {found}; the runtime's buffers are float32")
    for value_name, number in graph.types.items():
        if number == TensorProto.DOUBLE:
            yield Finding(
                name, "", "type", "fallback", f"{value_name} is double; TensorRT computes it in FP32"
            )


def preflight(name: str, model: onnx.ModelProto, limits: Limits, *, dla: bool = False) -> list[Finding]:
    """List what TensorRT of ``limits`` refuses in a graph, and what falls back; ``dla``: from DLA to the GPU too."""
    graph = _Graph.read(model, limits)
    findings = list(_whole(name, graph))
    for node in model.graph.node:
        for rule in RULES:
            findings += [
                Finding(name, node.name, node.op_type, "refused", reason) for reason in rule(graph, node)
            ]
        if dla and (why := _off_dla(graph, node)):
            findings.append(Finding(name, node.name, node.op_type, "fallback", why))
    return findings


def _off_dla(graph: _Graph, node: NodeProto) -> str:
    """Why a node runs on the GPU although DLA was asked for; empty where DLA takes it."""
    if node.op_type in _QUANTISERS or node.op_type == "Cast":
        return ""
    if node.op_type not in graph.table.dla:
        return f"DLA has no {node.op_type}; it runs on the GPU"
    weights = graph.constants.get(node.input[1]) if node.op_type == "Conv" else None
    if weights is not None and weights.ndim != 4:
        return f"DLA takes 2-D convolutions, this one is {weights.ndim - 2}-D; it runs on the GPU"
    return ""


def check_preflight(findings: list[Finding]) -> None:
    """Raise :class:`EngineError` naming the first refusal of a list of findings, if there is one."""
    refused = [f for f in findings if f.kind == "refused"]
    if refused:
        first = refused[0]
        where = f"node {first.node} ({first.op})" if first.node else first.op
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise EngineError(
            f"graph {first.graph} cannot be built on the target: {where}: {first.reason}{more}; nothing was written"
        )
