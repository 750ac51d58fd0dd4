"""The components as graphs: names, static shapes at batch 1, and torch → ONNX."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import shape_inference
from torch import Tensor, nn

from vidprism_edge.bundle import TensorInfo
from vidprism_edge.errors import VidPrismError
from vidprism_edge.export.passes import run_passes
from vidprism_edge.model.network import VidPrism
from vidprism_edge.spec import ModelSpec

DEFAULT_OPSET = 20
#: Native LayerNormalization needs 17, static INT8 in ONNX Runtime takes at most 20.
OPSETS = range(18, 21)
#: Older engines refuse newer files.
MAX_IR_VERSION = 10
#: A gate lives on the host: control flow inside a graph costs what both branches cost.
FORBIDDEN_OPS = frozenset({"If", "Loop", "Scan", "NonZero"})


class _AnalyzerGraph(nn.Module):
    def __init__(self, net: VidPrism) -> None:
        super().__init__()
        self.component = net.analyzer

    def forward(self, frame: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        return self.component(frame, previous)


class _TemporalGraph(nn.Module):
    """One step; the state goes in and comes out as named tensors."""

    def __init__(self, net: VidPrism) -> None:
        super().__init__()
        self.component = net.temporal

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        token, motion_map, next_state = self.component(frame[:, :, None], list(state))
        return (token[:, 0], motion_map[:, 0], *next_state)


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """How one component becomes a graph."""

    name: str
    module: nn.Module
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[str, ...]

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the torch module on named inputs; the reference of every parity check."""
        with torch.inference_mode():
            result = self.module(*(torch.from_numpy(arrays[i.name]) for i in self.inputs))
        values = result if isinstance(result, tuple) else (result,)
        return {name: value.numpy() for name, value in zip(self.outputs, values, strict=True)}


def _slots(spec: ModelSpec, stream: str) -> int:
    return spec.slots(stream) * spec.streams[stream].regions


def _context(
    spec: ModelSpec, stream: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> list[TensorInfo]:
    """Token buffers of one expert with their mask and meta."""
    slots = _slots(spec, stream)
    infos = [TensorInfo(name, (1, slots, *shape)) for name, shape in zip(names, shapes, strict=True)]
    return [*infos, TensorInfo(f"{stream}_mask", (1, slots)), TensorInfo(f"{stream}_meta", (1, slots, 5))]


def describe_graphs(net: VidPrism) -> list[GraphSpec]:
    """Return every component's graph in the order of :data:`~vidprism_edge.spec.COMPONENTS`."""
    spec, width = net.spec, net.spec.width

    def image(stream: str, name: str = "frame") -> TensorInfo:
        side = spec.streams[stream].size_px
        return TensorInfo(name, (1, 3, side, side))

    states = [TensorInfo(f"state_{i}", (1, *shape)) for i, shape in enumerate(net.temporal.state_shapes)]
    motion = (spec.temporal.grid, spec.temporal.grid)
    spatial = _context(spec, "spatial", ["spatial_tokens"], [(1 + spec.encoder.grid**2, width)])
    temporal = _context(spec, "temporal", ["temporal_tokens"], [(width,)])
    with_maps = _context(spec, "temporal", ["temporal_tokens", "motion_maps"], [(width,), motion])
    hybrid = _context(spec, "hybrid", ["hybrid_tokens"], [(spec.hybrid.grid**2, width)])
    attended = _context(spec, "hybrid", ["hybrid_tokens"], [(width,)])
    scene = spec.scene_grid
    geometry = []
    for stream, side in (("spatial", spec.encoder.grid), ("temporal", spec.temporal.grid)):
        slots = _slots(spec, stream)
        geometry.append(TensorInfo(f"{stream}_to_scene", (1, slots, 2, scene, side)))
        geometry.append(TensorInfo(f"scene_to_{stream}", (1, slots, 2, side, scene)))
    return [
        GraphSpec(
            "analyzer",
            _AnalyzerGraph(net),
            (image("analyzer"), image("analyzer", "previous")),
            ("saliency", "motion"),
        ),
        GraphSpec("spatial", net.spatial, (image("spatial"),), ("tokens",)),
        GraphSpec(
            "temporal",
            _TemporalGraph(net),
            (image("temporal"), *states),
            ("token", "motion_map", *(f"next_{s.name}" for s in states)),
        ),
        GraphSpec("hybrid_encode", net.hybrid_encode, (image("hybrid"),), ("tokens",)),
        GraphSpec("hybrid_attend", net.hybrid_attend, (*hybrid, *spatial, *temporal), ("tokens",)),
        GraphSpec("fusion", net.fusion, (*spatial, *with_maps, *attended, *geometry), ("tokens", "vector")),
        GraphSpec("head", net.head, (TensorInfo("vector", (1, width)),), ("logits",)),
    ]


def to_onnx(graph: GraphSpec, path: Path, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """Export one graph to ``path`` and return it; the postconditions of :func:`check_graph` hold."""
    arguments = tuple(torch.zeros(i.shape) for i in graph.inputs)
    # the exporter reports its progress on stdout, which is ours for JSON
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.module,
            arguments,
            dynamo=True,
            opset_version=opset,
            input_names=[i.name for i in graph.inputs],
            output_names=list(graph.outputs),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    run_passes(model)
    model = shape_inference.infer_shapes(model, strict_mode=True)
    check_graph(graph, model, opset)
    onnx.save(model, path)
    return model


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Static shape of a value; raises :class:`VidPrismError` for a dynamic dimension."""
    dims = value.type.tensor_type.shape.dim
    if any(not d.HasField("dim_value") for d in dims):
        raise VidPrismError(f"{value.name} has a dynamic shape; every graph must be static at batch 1")
    return tuple(d.dim_value for d in dims)


def check_graph(graph: GraphSpec, model: onnx.ModelProto, opset: int = DEFAULT_OPSET) -> None:
    """Raise :class:`VidPrismError` unless the exported graph is what the bundle promises."""
    onnx.checker.check_model(model, full_check=True)
    opsets = {o.domain: o.version for o in model.opset_import}
    if opsets.get("", 0) != opset:
        raise VidPrismError(f"graph {graph.name} was exported at opset {opsets.get('')}, expected {opset}")
    found = {node.op_type for node in model.graph.node}
    if bad := found & FORBIDDEN_OPS:
        raise VidPrismError(f"graph {graph.name} has {', '.join(sorted(bad))}; gates must stay on the host")
    shapes = {value.name: shape_of(value) for value in model.graph.input}
    expected = {info.name: info.shape for info in graph.inputs}
    if shapes != expected:
        raise VidPrismError(f"graph {graph.name} takes {shapes}, expected {expected}")
    outputs = [value.name for value in model.graph.output]
    if outputs != list(graph.outputs):
        raise VidPrismError(f"graph {graph.name} gives {outputs}, expected {list(graph.outputs)}")


def count_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one run, counted from the convolutions and matrix products of a static graph."""
    inner = model.graph
    shapes = {v.name: shape_of(v) for v in (*inner.input, *inner.value_info, *inner.output)}
    shapes |= {t.name: tuple(t.dims) for t in inner.initializer}
    total = 0
    for node in inner.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "MatMul":
            total += int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1]
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][0 if transposed else 1]
    return total
